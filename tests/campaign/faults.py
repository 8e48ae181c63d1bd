"""Run a program, and kill it or fill its disk at one exact change of its files.

    python -m tests.campaign.faults DIRECTORY kill 17 train.names --epochs 3 …
    python -m tests.campaign.faults DIRECTORY count 0 train.names --epochs 3 …

A change is a file opened for writing, a folder made, a renaming or a removal below
DIRECTORY, as Python announces them to audit hooks. ``kill`` ends the process with
SIGKILL just before the change; ``full`` lets that one and all that follow fail as on a
full disk; ``count`` writes the number of changes to the standard error in the end.
"""

import atexit
import errno
import itertools
import os
import runpy
import signal
import sys
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def is_change(event: str, args: tuple, directory: str) -> bool:
    """Whether an audit event announces a change of a file below a directory."""
    if event == "open":
        path, _, flags = args
        if not (isinstance(flags, int) and flags & WRITING):
            return False
    elif event in CHANGES:
        path = args[0]
    else:
        return False
    if isinstance(path, int):
        return False
    path = os.fsdecode(path)
    # shutil.rmtree removes by names relative to an open folder.
    relative_to_folder = event in ("os.remove", "os.rmdir") and args[-1] != -1
    return relative_to_folder or os.path.abspath(path).startswith(directory)


def arm(directory: Path, action: str, number: int) -> None:
    """Watch the changes from now on and act at the given one, counted from 1."""
    counter, below = itertools.count(1), str(directory.resolve()) + os.sep
    seen = [0]

    def watch(event: str, args: tuple) -> None:
        if not is_change(event, args, below):
            return
        seen[0] = next(counter)
        if action == "kill" and seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "full" and seen[0] >= number and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    sys.addaudithook(watch)
    if action == "count":
        atexit.register(lambda: print(f"changes: {seen[0]}", file=sys.stderr))


if __name__ == "__main__":
    folder, action, number, program, *flags = sys.argv[1:]
    arm(Path(folder), action, int(number))
    sys.argv = [program, *flags]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
