"""What every program sets up for its process, before JAX and after."""

import ctypes
import os
import sys
import warnings
from pathlib import Path

# On a CPU every step of a loop is dispatched on its own, which for a network of 32 units
# takes longer than its arithmetic. Loops over less than this many bytes are compiled
# whole instead; larger ones are better off with the library's matrix products.
SMALL_LOOP = "xla_cpu_small_while_loop_byte_threshold=300000"

# glibc gives every thread a part of memory to allocate in, up to eight for each core, and
# keeps there what is freed. XLA, Orbax and TensorStore have dozens of threads: a training
# that saves all the time would seem to need more and more, until each part is as large
# as the largest save has ever needed it. With two parts for all there is little to keep.
ARENAS = 2
_ARENA_MAX = -8


_FLAG = f"--xla_backend_extra_options={SMALL_LOOP}"


def compile_small_loops_whole() -> None:
    """Tell XLA so; once JAX is imported it is too late."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "jax" not in sys.modules and "xla_backend_extra_options" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}".strip()


def compile_small_loops_as_jax_does() -> None:
    """Take that back, to measure what the library does without our programs."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = flags.replace(_FLAG, "").strip()


def start_program() -> None:
    """Set up a process that runs a program, once its flags are read."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, ARENAS)
    # What needs no JAX, such as train.fetch, need not wait for its import.
    if "jax" in sys.modules:
        keep_compiled()


def keep_compiled() -> None:
    """Keep every program that JAX compiles on the disk, so that a second start is sooner.

    They go to ``$JAX_COMPILATION_CACHE_DIR``, else to the user's cache directory
    (``$XDG_CACHE_HOME/rnnjax``, ``~/.cache/rnnjax``), if that can be written to. What
    runs a process calls this, never the library: where files go is not for a library
    to decide. ``JAX_ENABLE_COMPILATION_CACHE=0`` switches it off.
    """
    import jax

    # JAX declares its options only when it runs.
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = Path(home, "rnnjax").absolute()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # Only time is lost.
        jax.config.update("jax_compilation_cache_dir", str(directory))
    # By default what compiles within a second is not kept, and that is most of it.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # As on a full disk: the program is compiled again, and nothing else is wrong.
    failures = "Error (reading|writing) persistent compilation cache entry"
    warnings.filterwarnings("ignore", failures)
