"""The programs: train, use and measure recurrent networks from the command line."""

import time

STARTED = time.perf_counter()
"""When the process began, seconds: a program's own imports count as its time."""
