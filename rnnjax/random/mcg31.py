"""Bernoulli numbers of Intel's MKL, with which older PyTorch made dropout."""

import numpy as np

MODULUS = 2**31 - 1
MULTIPLIER = 1132489760


def mcg31_bernoulli(seed: int, n: int, p: float) -> np.ndarray:
    r"""``viRngBernoulli`` of a fresh stream ``VSL_BRNG_MCG31``.

    .. math:: x_{k+1} = 1132489760 \, x_k \bmod (2^{31} - 1), \qquad
        y_k = [x_k / (2^{31} - 1) < p]

    Args:
        seed: What the stream begins with; PyTorch takes one word of its generator.
        n: How many.
        p: Probability of True.

    Returns:
        ``(n,)`` bool.

    Source:
        Intel MKL, "Notes for Intel MKL Vector Statistics"; PyTorch before 2.7,
        ``bernoulli_mkl_kernel``.
    """
    states = np.empty(n, np.int64)
    states[:1] = seed % MODULUS or 1
    done = 1
    while done < n:
        # What is there already, moved on by as many steps as it has.
        more = min(done, n - done)
        jump = pow(MULTIPLIER, done, MODULUS)
        states[done : done + more] = states[:more] * jump % MODULUS
        done += more
    return (states / MODULUS).astype(np.float32) < np.float32(p)
