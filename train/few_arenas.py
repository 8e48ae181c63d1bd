"""Let all threads share glibc's memory; import this before jax.

glibc gives every thread a part of memory to allocate in, up to eight for each core, and
keeps there what is freed. XLA, Orbax and TensorStore have dozens of threads: a training
that saves all the time would seem to need more and more, until each part is as large as
the largest save has ever needed it. With two parts for all there is little to keep.
"""

import ctypes

_ARENA_MAX = -8
_PARTS = 2

_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
if _mallopt is not None:
    _mallopt(_ARENA_MAX, _PARTS)
