"""A product and a sum with one rounding, as a processor's fused multiply-add."""

import numpy as np
import numpy.typing as npt

SPLIT = 2.0**27 + 1
"""Times this, less what is above: the upper half of a float64's 53 bits (Veltkamp)."""


def fused_multiply_add(
    x: np.ndarray, factor: npt.ArrayLike, addend: npt.ArrayLike
) -> np.ndarray:
    r"""``x * factor + addend``, rounded once.

    Args:
        x: ``(n,)`` of float32 or float64.
        factor: One number or ``(n,)``, in the type of ``x``.
        addend: One number or ``(n,)``, in the type of ``x``.

    Returns:
        ``(n,)`` in the type of ``x``.

    Example:
        The product alone would be rounded to 1:

        >>> x = np.array([1 + 2.0**-23], np.float32)
        >>> fused_multiply_add(x, np.float32(1 - 2.0**-23), np.float32(-1)).tolist()
        [-1.4210854715202004e-14]

    Source:
        Boldo & Melquiond, 2008, "Emulation of FMA and correctly rounded sums: proved
        algorithms using rounding to odd".
    """
    a, b, c = (np.asarray(value, np.float64) for value in (x, factor, addend))
    product = a * b
    if x.dtype == np.float32:
        # The product of two float32 is exact in float64.
        return odd_sum(product, c).astype(np.float32)
    a_high, b_high = (value * SPLIT - (value * SPLIT - value) for value in (a, b))
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + (
        a_low * b_low
    )
    small, smaller = two_sum(error, c)
    large, rest = two_sum(product, small)
    return large + odd_sum(rest, smaller)


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(a + b, what its rounding lost)``, of which the sum is exact (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def odd_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a + b`` in float64, and where that is not exact the neighbour with an odd place.

    An odd last place tells the next rounding that something is beyond it, so that the
    two roundings are together as good as one.
    """
    total, lost = two_sum(a, b)
    inexact = lost != 0
    if inexact.any():
        places = total.view(np.int64)
        even = inexact & (places & 1 == 0)
        places += np.where(even, np.where((lost > 0) == (total > 0), 1, -1), 0)
    return total
