"""SIGTERM and Ctrl-C: a training finishes its update, is saved, and ends."""

import contextlib
import math
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from train.cli import Stopped
from train.runs.distributed import highest

SIGNALS = (signal.SIGTERM, signal.SIGINT)

CALL_SECONDS = 1.0
"""Time that one call of a compiled loop may take: a signal waits for its end."""


class Interruption:
    """Whether a training is to stop before its end.

    Args:
        after: Update after which to stop in any case.
        out: The run directory of the command.

    Attributes:
        after: The same.
        out: The same.
        signal: The signal that came, or None.
    """

    def __init__(self, after: float = math.inf, out: Path | None = None):
        self.after = after
        self.out = out
        self.signal: signal.Signals | None = None

    def should_stop(self, step: int) -> bool:
        """Whether to stop after this update; all processes answer the same."""
        # Asked once: a signal that comes meanwhile is not what was agreed on.
        number = highest(self.signal or 0)
        if number:
            self.signal = signal.Signals(number)
        return number != 0 or step >= self.after

    def stopped(self, step: int) -> Stopped:
        """What to raise once the state after this update is saved."""
        number = self.signal or signal.SIGTERM
        by = f" by {self.signal.name}" if self.signal else ""
        out = f"--out {shlex.quote(str(self.out))}" if self.out else "the same --out"
        return Stopped(
            f"stopped{by} after update {step:,}; saved; the same command with "
            f"{out} goes on",
            128 + number,
        )


@contextlib.contextmanager
def interruptible(
    after: float = math.inf, out: Path | None = None
) -> Iterator[Interruption]:
    """Note the first signal in the meantime; the second ends the process at once.

    Args:
        after: Update after which to stop in any case.
        out: The run directory of the command, to be named to who stops it.

    Yields:
        What a training has to ask.
    """
    stop = Interruption(after, out)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number, _frame):
        stop.signal = stop.signal or signal.Signals(number)

    # Python runs a handler only between two instructions of the main thread: during a
    # long compilation even the second signal would wait. A thread hears of it at once.
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    listener = threading.Thread(
        target=_exit_at_the_second, args=(read_end,), daemon=True
    )
    listener.start()
    before_fd = signal.set_wakeup_fd(write_end)
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(write_end)
        listener.join()
        os.close(read_end)


def _exit_at_the_second(read_end: int) -> None:
    seen = 0
    while heard := os.read(read_end, 1):
        seen += heard[0] in SIGNALS
        if seen == 2:
            os._exit(128 + heard[0])
