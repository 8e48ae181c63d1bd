"""Train for half an hour, saving all the time, and watch the process."""

import contextlib
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from . import programs
from .programs import SAMPLE, Process, Program
from .results import Plan, Row

EVERY = 5.0
"""Seconds between two looks."""

POOL = 2
"""TensorStore starts the threads of its pool one by one, as it comes to need them."""


class Look(NamedTuple):
    """A process and its run directory at one moment.

    Attributes:
        memory: Resident megabytes.
        descriptors: Open files.
        threads: Threads.
        checkpoints: Megabytes of checkpoints.
        rest: Megabytes of all other files.
        step: Number of updates of the newest checkpoint.
    """

    memory: float
    descriptors: int
    threads: int
    checkpoints: float
    rest: float
    step: int


def look(pid: int, out: Path) -> Look:
    """Look at a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Look(
        int(fields["VmRSS"].split()[0]) / 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(fields["Threads"]),
        size(out / "checkpoints"),
        size(out) - size(out / "checkpoints"),
        max(programs.steps(out), default=0),
    )


def size(folder: Path) -> float:
    """Megabytes of a folder's files, while they may be renamed and removed."""
    total = 0
    # Unlike rglob, it goes on where a folder has gone.
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += Path(where, name).stat().st_size
    return total / 2**20


def watch(programs_: dict[str, Program], plan: Plan) -> dict[str, list[Look]]:
    """Run programs side by side and look at them from time to time."""
    processes, looks = {}, {name: [] for name in programs_}
    for name, program in programs_.items():
        # Nobody reads what they say, and a full pipe would stop them.
        command = [*program.command(plan.scratch / name), "--quiet"]
        processes[name] = Process(command)
    end = time.monotonic() + 60 * plan.minutes
    while time.monotonic() < end:
        time.sleep(EVERY)
        for name, process in processes.items():
            if process.process.poll() is None:
                found = look(process.process.pid, plan.scratch / name)
                looks[name].append(found)
    for process in processes.values():
        process.process.terminate()
        done = process.end()
        assert done.code == 143, done.err
    return looks


def row(name: str, looks: list[Look], saves: int, minutes: float) -> Row:
    """A line of the table: the last fifth against the middle one.

    Medians, for descriptors, threads and unfinished checkpoints come and go with every
    save; and not the beginning, when memory is given out for the first time.
    """
    fifth = len(looks) // 5
    early, late = looks[2 * fifth : 3 * fifth], looks[-fifth:]
    assert late[0].step < late[-1].step, f"{name} stood still"

    def growth(field: str) -> float:
        first, last = (
            statistics.median(getattr(x, field) for x in part) for part in (early, late)
        )
        return last - first

    flat = {
        "memory": growth("memory") <= 0.02 * early[-1].memory,
        "descriptors": growth("descriptors") <= 0,
        "threads": growth("threads") <= POOL,
        "checkpoints": growth("checkpoints") <= 0.02 * early[-1].checkpoints,
    }
    return Row(
        f"`train.{name}` for {minutes:g} minutes, {saves:,} saves: memory, descriptors, "
        "threads and checkpoints do not grow (last fifth against the middle, medians)",
        len(flat),
        sum(flat.values()),
        f"memory {late[-1].memory:.0f} MB ({growth('memory'):+.1f}), descriptors "
        f"{late[-1].descriptors} ({growth('descriptors'):+g}), threads "
        f"{late[-1].threads} ({growth('threads'):+g}), checkpoints "
        f"{late[-1].checkpoints:.2f} MB ({growth('checkpoints'):+.2f}); metrics and "
        f"TensorBoard {growth('rest'):+.2f} MB",
    )


def run(plan: Plan) -> list[Row]:
    """Both programs at once, one on each core."""
    minutes = plan.few(1, plan.minutes)
    plan = plan.__class__(plan.scratch, plan.quick, plan.seed, minutes)
    names = ["--recipe", "workshop", "--model", "gru", "--iterations", "100000000"]
    names += ["--data", str(SAMPLE / "names")]
    text = ["--text", str(SAMPLE / "script.txt"), "--epochs", "1000000"]
    text += ["--hidden-size", "64"]
    small = {
        "names": Program("train.names", tuple(names), 20_000),
        "charlm": Program("train.charlm", tuple(text), 2000),
    }
    looks = watch(small, plan)
    rows = []
    for name, program in small.items():
        step = programs.steps(plan.scratch / name)[-1]
        saves = step // program.interval
        rows.append(row(name, looks[name], saves, minutes))
    return rows
