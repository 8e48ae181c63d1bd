"""The loops over time behind one contract: ``applies(job)`` and ``run(job)``.

:mod:`~rnnjax.loops.scan` runs every job; :mod:`~rnnjax.loops.columns` wide layers on a
CPU; :mod:`~rnnjax.loops.cudnn` and :mod:`~rnnjax.loops.pallas` what somebody asked them
for, on an NVIDIA GPU and on a TPU.
"""

import functools
import warnings
from types import ModuleType
from typing import Literal

import jax

from rnnjax.loops import columns, cudnn, scan
from rnnjax.loops.job import Job

Backend = Literal["scan", "reference", "pallas", "cudnn"]
"""What runs the steps of a layer, see :class:`rnnjax.Recurrent`."""


def loop_for(backend: Backend, job: Job) -> ModuleType:
    """The loop that runs a job.

    Args:
        backend: What was asked for.
        job: What it is asked to do.

    Returns:
        A module with ``run(job)``.

    Warns:
        UserWarning: Once for each reason, if the backend cannot do it, so that the
            scan runs instead.
    """
    if backend == "cudnn":
        reason = cudnn.obstacle(job)
        if reason is None:
            return cudnn
        say_that_the_scan_runs(backend, reason)
    if backend == "pallas":
        # Imported only here: Pallas takes a tenth of a second.
        from rnnjax.loops import pallas, pallas_kernels

        reason = pallas.obstacle(job)
        if reason is None:
            here = jax.default_backend()
            if here != "tpu" and not pallas_kernels.INTERPRET:
                _say_once(
                    f"backend 'pallas' is for TPUs, and the device is {here}; the scan "
                    "runs here, the kernel in a program compiled for a TPU"
                )
            return pallas
        say_that_the_scan_runs(backend, reason)
    return columns if columns.applies(job) else scan


def say_that_the_scan_runs(backend: Backend, reason: str) -> None:
    """Warn, once for each reason, that a backend which was asked for does not apply."""
    if backend in ("pallas", "cudnn"):
        _say_once(
            f"backend {backend!r} does not apply: {reason}; the scan runs instead"
        )


@functools.cache
def _say_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
