// What the page carries: the runs, and their trained weights.

"use strict";

const { RUNS, SPELLINGS } = JSON.parse(document.getElementById("data").textContent);

/** The number that 16 bits stand for: IEEE 754 half precision, finite. */
function fromHalf(bits) {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    if (exponent === 0) return sign * fraction * 2 ** -14;
    return sign * (1 + fraction) * 2 ** (exponent - 15);
}

/**
 * Tensors {shape, data} by PyTorch's names.
 *
 * They lie one after the other, little-endian, as [name, shape] in `tensors` says.
 */
function readWeights({ base64, dtype, tensors }) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const numbers =
        dtype === "float16"
            ? Float32Array.from(new Uint16Array(bytes.buffer), fromHalf)
            : new Float32Array(bytes.buffer);
    const weights = {};
    let begin = 0;
    for (const [name, shape] of tensors) {
        const end = begin + shape.reduce((product, size) => product * size, 1);
        weights[name] = { shape, data: numbers.subarray(begin, end) };
        begin = end;
    }
    return weights;
}
