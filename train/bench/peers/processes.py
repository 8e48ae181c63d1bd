"""Whole programs against each other, from their start to their end."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from train.bench.measuring import Timer
from train.bench.peers.work import Amount
from train.cli import InputError

WORKSHOP_UPDATES = 80_000
BLOG_UPDATES = 2 * 18_063
MEASURED = 1000
"""Updates of a lesson's program, unless it is to be run to its end."""

WORKSHOP = ("--recipe", "workshop", "--model", "rnn")
ACCURACY = ("--recipe", "best", "--protocol", "blog", "--epochs", "3")
"""Less than the recipe's ten epochs, for only the post's accuracy is wanted."""

BLOG_ACCURACY = 0.814
"""What the post reaches, and so what our side has to."""


def run_program(command: Sequence[str], cache: Path | None = None) -> tuple[float, str]:
    """Run a Python module as a program.

    Args:
        command: Its name and arguments.
        cache: Directory of the compiled programs; None is a new one, so that all has
            to be compiled.

    Returns:
        Seconds from its start to its end, and what it wrote.

    Raises:
        InputError: If it failed; the message has the last line that it wrote.
    """
    with tempfile.TemporaryDirectory() as fresh:
        env = os.environ | {
            "JAX_ENABLE_COMPILATION_CACHE": "1",
            "JAX_COMPILATION_CACHE_DIR": str(cache or fresh),
        }
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InputError(f"python -m {' '.join(command)} failed: {last}")
    return seconds, done.stdout


class Programs(NamedTuple):
    """Work for whole programs.

    Attributes:
        directory: The names.
        whole: Whether a lesson's program is run to its end.
    """

    directory: Path
    whole: bool

    @property
    def notes(self) -> list[str]:
        """What has to be known about the figures."""
        if self.whole:
            return []
        return [
            f"only {MEASURED:,} updates of the lesson are made; the rest is extrapolated"
        ]

    def amount(self, round_: int) -> Amount:
        """What a round is: one program, whose characters are not counted."""
        return Amount(1, 0, 0)


def workshop(work: Programs) -> Timer:
    """Ours, when nothing is compiled yet."""
    return lambda round_: train_names(work, WORKSHOP, round_)


def workshop_again(work: Programs) -> Timer:
    """Ours, started a second time."""
    return _again(work, WORKSHOP)


def accuracy(work: Programs) -> Timer:
    """Ours, when nothing is compiled yet."""
    return lambda round_: train_names(work, ACCURACY, round_, BLOG_ACCURACY)


def accuracy_again(work: Programs) -> Timer:
    """Ours, started a second time."""
    return _again(work, ACCURACY, BLOG_ACCURACY)


def _again(work, flags, accuracy=None):
    cache = tempfile.mkdtemp(prefix="rnnjax-bench-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    # The first round finds everything compiled already.
    train_names(work, flags, 0, accuracy, Path(cache))
    return lambda round_: train_names(work, flags, round_, accuracy, Path(cache))


def train_names(
    work: Programs,
    flags: Sequence[str],
    seed: int,
    accuracy: float | None = None,
    cache: Path | None = None,
) -> float:
    """Seconds of ``python -m train.names``.

    Args:
        work: Has the names.
        flags: Its flags, but for the data, the seed and the run directory.
        seed: Its seed.
        accuracy: What it has to reach on the test names.
        cache: See :func:`run_program`.

    Raises:
        InputError: If it did not reach it.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "run")
        where = ["--data", str(work.directory), "--out", str(out), "--seed", str(seed)]
        seconds, _ = run_program(["train.names", *flags, *where], cache)
        reached = json.loads((out / "summary.json").read_text())["test_accuracy"]
    if accuracy is not None and reached < accuracy:
        raise InputError(
            f"train.names {' '.join(flags)} --seed {seed} reached {100 * reached:.2f} "
            f"%; expected at least {100 * accuracy:.1f} %"
        )
    return seconds


def lesson_workshop(work: Programs) -> Timer:
    """Lesson 001's program with its hand-made cell."""
    return _lesson(work, "workshop", WORKSHOP_UPDATES)


def lesson_blog(work: Programs) -> Timer:
    """Lesson 003's program with its GRU, without the test at its end."""
    return _lesson(work, "blog", BLOG_UPDATES)


def _lesson(work, lesson, num_updates):
    make = num_updates if work.whole else MEASURED
    command = [
        "train.bench.peers.lesson_program",
        lesson,
        str(work.directory),
        str(make),
    ]

    def timer(round_):
        seconds, said = run_program(command)
        # Each of the updates that were not made takes as long as one of the others.
        return seconds + (num_updates - make) * json.loads(said)["seconds"] / make

    return timer
