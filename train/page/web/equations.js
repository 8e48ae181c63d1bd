// The equations that the networks are made of, as PyTorch has them. A vector is a
// Float32Array. Sums are taken in double precision.

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const relu = (x) => Math.max(x, 0);

const ACTIVATIONS = { tanh: Math.tanh, sigmoid, relu, identity: (x) => x };

const zeros = (size) => new Float32Array(size);

/** The token's one-hot vector; without a token the zero vector. */
function oneHot(token, size) {
    const x = zeros(size);
    if (token !== undefined) x[token] = 1;
    return x;
}

/** [x; y; …] */
function concat(...vectors) {
    const joined = zeros(vectors.reduce((size, vector) => size + vector.length, 0));
    let begin = 0;
    for (const vector of vectors) {
        joined.set(vector, begin);
        begin += vector.length;
    }
    return joined;
}

const add = (x, y) => x.map((x_i, i) => x_i + y[i]);

/** W x + b, with W (outputs, inputs). */
function affine(W, b, x) {
    const [outputs, inputs] = W.shape;
    const y = zeros(outputs);
    for (let i = 0, k = 0; i < outputs; i++) {
        let sum = b.data[i];
        for (let j = 0; j < inputs; j++, k++) sum += W.data[k] * x[j];
        y[i] = sum;
    }
    return y;
}

/** torch.nn.Linear */
function linear(weights, name, x) {
    return affine(weights[`${name}.weight`], weights[`${name}.bias`], x);
}

/** exp(x_i) / sum of exp(x_k) */
function softmax(x) {
    const highest = Math.max(...x);
    const exps = Array.from(x, (x_i) => Math.exp(x_i - highest));
    const sum = exps.reduce((a, b) => a + b, 0);
    return exps.map((e) => e / sum);
}

/** What each cell makes of its carry and of its two linear maps. */
const CELLS = {
    rnn: (carry, ih, hh) => ({ h: add(ih, hh).map(Math.tanh) }),

    gru({ h }, ih, hh) {
        const [R, Z, N] = [0, h.length, 2 * h.length];
        return {
            h: h.map((h_i, i) => {
                const r = sigmoid(ih[R + i] + hh[R + i]);
                const z = sigmoid(ih[Z + i] + hh[Z + i]);
                const n = Math.tanh(ih[N + i] + r * hh[N + i]);
                return (1 - z) * n + z * h_i;
            }),
        };
    },

    lstm({ h, c }, ih, hh) {
        const [I, F, G, O] = [0, h.length, 2 * h.length, 3 * h.length];
        const gates = add(ih, hh);
        const next = c.map((c_i, i) => {
            const forgotten = sigmoid(gates[F + i]) * c_i;
            return forgotten + sigmoid(gates[I + i]) * Math.tanh(gates[G + i]);
        });
        return {
            h: next.map((c_i, i) => sigmoid(gates[O + i]) * Math.tanh(c_i)),
            c: next,
        };
    },
};

const zeroCarry = (size) => ({ h: zeros(size), c: zeros(size) });

/** One step of one layer of torch.nn.RNN, GRU or LSTM; `layer` is "l0", "l1", … */
function step(weights, kind, layer, carry, x) {
    const map = (side, input) =>
        affine(
            weights[`${kind}.weight_${side}_${layer}`],
            weights[`${kind}.bias_${side}_${layer}`],
            input,
        );
    return CELLS[kind](carry, map("ih", x), map("hh", carry.h));
}

/** One step of all layers: every layer reads what the one below makes of the input. */
function stepThrough(weights, kind, carries, x) {
    return carries.map((carry, layer) => {
        const next = step(weights, kind, `l${layer}`, carry, x);
        x = next.h;
        return next;
    });
}

/** The states of one layer over a whole sequence. */
function statesOf(weights, kind, layer, size, xs) {
    let carry = zeroCarry(size);
    return xs.map((x) => {
        carry = step(weights, kind, layer, carry, x);
        return carry.h;
    });
}

/** Which states count, and their mean: softmax of a linear score of each. */
function attend(weights, states) {
    const attention = softmax(states.map((h) => linear(weights, "att", h)[0]));
    const mean = zeros(states[0].length);
    states.forEach((h, t) => h.forEach((h_i, i) => (mean[i] += attention[t] * h_i)));
    return { attention, mean };
}
