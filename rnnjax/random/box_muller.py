"""Normal numbers from uniform ones, to the last place of PyTorch's own."""

import ctypes
import ctypes.util
import functools
import math
from collections.abc import Callable

import numpy as np

from rnnjax.random.processor import Processor
from rnnjax.random.rounding import fused_multiply_add

F32 = np.float32

LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
"""Cephes' polynomials in single precision, the highest power first."""

LN_2 = (-2.12194440e-4, 0.693359375)
"""The logarithm of 2 in two parts, the second of few bits."""

QUARTER_PI = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)
"""A quarter of pi in three parts, so that multiples are subtracted exactly."""


def of_sixteens(
    uniforms: np.ndarray, mean: float, std: float, processor: Processor
) -> np.ndarray:
    r"""Normal numbers in float32, in blocks of sixteen.

    .. math::
        r = \sqrt{-2 \log(1 - u_i)}, \qquad
        x_i = r \cos(2 \pi u_{i+8}), \qquad x_{i+8} = r \sin(2 \pi u_{i+8})

    Args:
        uniforms: ``(16 * blocks,)`` in float32, in [0, 1).
        mean: Their mean.
        std: Their standard deviation.
        processor: Whose logarithm, sine and cosine.

    Returns:
        ``(16 * blocks,)`` in float32.

    Source:
        ``normal_fill`` and ``normal_fill_AVX2`` of PyTorch; Cephes' ``logf.c`` and
        ``sinf.c``.
    """
    first, second = uniforms.reshape(-1, 2, 8).swapaxes(0, 1).reshape(2, -1)
    first = F32(1) - first
    if processor.vector_normal:
        radius = np.sqrt(F32(-2) * log(first))
        sine, cosine = sine_and_cosine(F32(2 * math.pi) * second)
    else:
        radius = np.sqrt(F32(-2) * c_library("logf", first))
        angle = (2 * math.pi * second.astype(np.float64)).astype(F32)
        cosine, sine = c_library("cosf", angle), c_library("sinf", angle)
    pairs = np.stack([radius * cosine, radius * sine]).reshape(2, -1, 8)
    normals = pairs.swapaxes(0, 1).reshape(-1)
    if (mean, std) == (0, 1):
        return normals
    # Rounded once on every processor, with or without such an instruction.
    return fused_multiply_add(normals, F32(std), F32(mean))


def log(x: np.ndarray) -> np.ndarray:
    """Cephes' logarithm of float32 ``(n,)`` in (0, 1], with PyTorch's fused products."""
    fused = fused_multiply_add
    bits = np.maximum(x, np.finfo(F32).tiny).view(np.int32)
    exponent = (bits >> 23) - 126
    mantissa = (bits & 0x007FFFFF | 0x3F000000).view(F32)
    low = mantissa < F32(math.sqrt(0.5))
    exponent = (exponent - low).astype(F32)
    mantissa = (mantissa - F32(1)) + np.where(low, mantissa, F32(0))
    square = mantissa * mantissa
    y = polynomial(LOG, mantissa) * mantissa
    y = fused(y, square, exponent * F32(LN_2[0]))
    y = fused(square, F32(-0.5), y)
    return fused(exponent, F32(LN_2[1]), mantissa + y)


def sine_and_cosine(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cephes' sine and cosine of float32 ``(n,)`` in [0, 2 pi), fused as PyTorch's."""
    fused = fused_multiply_add
    octant = ((x * F32(4 / math.pi)).astype(np.int32) + 1) & ~1
    for part in QUARTER_PI:
        x = fused(octant.astype(F32), F32(-part), x)
    square = x * x
    cosine = polynomial(COS, square) * square
    cosine = fused(cosine, square, square * F32(-0.5)) + F32(1)
    sine = fused(polynomial(SIN, square) * square, x, x)
    swapped = octant & 2 != 0
    sine, cosine = np.where(swapped, (cosine, sine), (sine, cosine))
    sine_sign = np.where(octant & 4, F32(-1), F32(1))
    return sine * sine_sign, cosine * np.where(swapped, -sine_sign, sine_sign)


def polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Horner's scheme in float32, every step fused."""
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = fused_multiply_add(y, x, F32(coefficient))
    return y


def c_library(name: str, x: np.ndarray) -> np.ndarray:
    """A function of the C library on float32 ``(n,)``, number by number."""
    return np.fromiter(map(c_function(name), x.tolist()), F32, x.size)


@functools.cache
def c_function(name: str) -> Callable[[float], float]:
    """The C library's; where there is none, float64's, of which 1 % rounds elsewhere."""
    try:
        function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    except (OSError, AttributeError, TypeError):
        return getattr(math, name.removesuffix("f"))
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    return function


def of_pair(first: float, second: float) -> tuple[float, float]:
    """Two normal numbers in float64 from two uniform ones, as PyTorch makes a few."""
    radius = math.sqrt(-2 * math.log1p(-second))
    angle = 2 * math.pi * first
    return radius * math.cos(angle), radius * math.sin(angle)
