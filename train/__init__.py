"""The programs: train, use and measure recurrent networks from the command line."""

import time

from train import startup

STARTED = time.perf_counter()
"""When the process began, seconds: a program's own imports count as its time."""

# Every `python -m train.<program>` imports this first, before anything imports JAX.
startup.compile_small_loops_whole()
