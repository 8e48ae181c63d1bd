"""Tell XLA to compile small loops into one piece of code; import this before jax.

On a CPU every step of a loop is dispatched on its own, which for a network of 32 units
takes longer than its arithmetic. Loops over less than this many bytes are compiled whole
instead. Larger ones are better off with the library's matrix products.
"""

import os
import sys

_OPTION = "xla_cpu_small_while_loop_byte_threshold"
_BYTES = 300_000

_flags = os.environ.get("XLA_FLAGS", "")
if "jax" not in sys.modules and "xla_backend_extra_options" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_backend_extra_options={_OPTION}={_BYTES}"
