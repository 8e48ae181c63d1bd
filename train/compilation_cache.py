"""Keep compiled programs on the disk, so that a second start need not compile."""

import os
import warnings
from pathlib import Path

import jax


def switch_on() -> None:
    """Make JAX keep every program it compiles, small ones included.

    They go to ``$JAX_COMPILATION_CACHE_DIR``, else to the user's cache directory
    (``$XDG_CACHE_HOME/rnnjax``, ``~/.cache/rnnjax``), if that can be written to. What
    runs a process calls this, never the library: where files go is not for a library
    to decide. ``JAX_ENABLE_COMPILATION_CACHE=0`` switches it off.
    """
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
