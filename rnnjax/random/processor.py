"""What PyTorch's random numbers owe to the processor and to the version."""

import functools
import platform
from typing import NamedTuple

import numpy as np


class Processor(NamedTuple):
    """On what the last places of the same seed's numbers depend.

    Attributes:
        fma: Whether ``uniform_(low, high)``, and so every weight of ``nn.Linear`` and
            of a recurrent layer, is rounded once, by a fused multiply-add. So it is
            with AVX2 (nearly every x86-64 machine) and on aarch64; without it half of
            the numbers differ in their last place, except where the bound is a power
            of two.
        vector_normal: Whether 16 normal numbers and more are made by PyTorch's AVX2
            code (which runs with AVX-512, too). Elsewhere they are made by the C
            library's logarithm, sine and cosine.
        mkl_bernoulli: Whether dropout draws with Intel's MKL, as PyTorch did before 2.7
            on Intel's processors (x86-64 wheels). It is never detected.

    Example:
        >>> Processor(fma=True, vector_normal=True)._asdict()
        {'fma': True, 'vector_normal': True, 'mkl_bernoulli': False}
    """

    fma: bool
    vector_normal: bool
    mkl_bernoulli: bool = False


@functools.cache
def this_processor() -> Processor:
    """What PyTorch (2.7 or later) would use on this machine.

    Returns:
        AVX2 decides on x86-64. What is not x86-64 is taken for an aarch64 processor;
        on macOS that is untested.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Processor(fma=True, vector_normal=False)
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    found = {*extensions.get("baseline", ()), *extensions.get("found", ())}
    # NumPy up to 2.3 names AVX2 itself, later ones the level of x86-64 that has it.
    avx2 = bool(found & {"AVX2", "X86_V3"})
    return Processor(fma=avx2, vector_normal=avx2)
