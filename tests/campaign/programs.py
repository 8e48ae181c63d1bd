"""Run the programs, small, as a person does; tell what a run directory has come to."""

import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import load_file

from train import cli

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data" / "sample"
TIMED = {"train_seconds", "wall_seconds", "compile_seconds"}
MANIFEST = "MANIFEST.sha256"


class Program(NamedTuple):
    """A small training.

    Attributes:
        module: The program.
        flags: All but ``--out``.
        interval: Updates between two saves.
    """

    module: str
    flags: tuple[str, ...]
    interval: int

    def command(self, out: Path, *fault: str) -> list[str]:
        """The command that trains in a directory, perhaps with a fault."""
        before = ["-m", "tests.campaign.faults", str(out), *fault] if fault else ["-m"]
        return [sys.executable, *before, self.module, *self.flags, "--out", str(out)]


def names(epochs: int, recipe: str = "practical", model: str = "gru") -> Program:
    """A names training of 120 updates an epoch, saved after each."""
    flags = ["--recipe", recipe, "--model", model, "--hidden-size", "8"]
    flags += ["--epochs", str(epochs), "--data", str(SAMPLE / "names")]
    return Program("train.names", tuple(flags), 120)


def charlm(epochs: int) -> Program:
    """A training on the sample text of 82 updates an epoch, saved every 20."""
    flags = ["--hidden-size", "8", "--text", str(SAMPLE / "script.txt")]
    flags += ["--epochs", str(epochs), "--checkpoint-every", "20"]
    return Program("train.charlm", tuple(flags), 20)


class Done(NamedTuple):
    """What became of a process, or of a call of a program's main.

    Attributes:
        code: Its exit code; minus the signal's number if it was killed.
        out: What it wrote to the standard output.
        err: What it wrote to the standard error.
    """

    code: int
    out: str
    err: str

    @property
    def is_plain(self) -> bool:
        """Whether it ended well, or a failure was told in one line.

        A flag that cannot be read is told by tyro, in a box that ends with the help.
        """
        told = len(self.errors) == 1 or (self.code == 2 and "helptext" in self.err)
        ends_well = self.code in (0, 130, 143)
        return "Traceback" not in self.err and (
            ends_well or (self.code in (1, 2) and told)
        )

    @property
    def errors(self) -> list[str]:
        """The lines that begin with ``error:``."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Process:
    """A program that is being run.

    Args:
        command: The program and its flags.

    Attributes:
        process: The process.
        began: When it was started.
    """

    def __init__(self, command: list[str]):
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"RNNJAX_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._head = ""

    def wait_for_start(self) -> None:
        """Wait for the program's first line, which it prints before it trains."""
        self._head = self.process.stdout.readline()

    def end(self, timeout: float = 300) -> Done:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=timeout)
        return Done(self.process.returncode, self._head + out, err)


def run(command: list[str], timeout: float = 300) -> Done:
    """Run a program to its end; kill it if that takes too long.

    Raises:
        subprocess.TimeoutExpired: If it was killed.
    """
    process = Process(command)
    try:
        return process.end(timeout)
    finally:
        process.process.kill()


def call(module: Any, *flags: str, stdin: str = "", **options: Any) -> Done:
    """Run a program here, through its command line.

    Args:
        module: The program.
        *flags: Its flags.
        stdin: What it can read.
        **options: Of its main, beside the flags: ``stop_after``.

    Returns:
        What became of it.
    """
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, sys.stdin
    sys.argv = [module.__name__, *flags]
    sys.stdin = io.StringIO(stdin)
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main = functools.partial(module.main, **options)
            cli.run(main, module.Config, "A program of the campaign.")
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv, sys.stdin = before
    return Done(code, out.getvalue(), err.getvalue())


def steps(run_directory: Path) -> list[int]:
    """The steps that are saved, with a manifest, in order."""
    folder = run_directory / "checkpoints"
    return sorted(int(path.parent.name) for path in folder.glob(f"[0-9]*/{MANIFEST}"))


def metrics(run_directory: Path) -> list[dict[str, Any]]:
    """The whole lines of ``metrics.jsonl``, without what a clock says."""
    path = run_directory / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [
        {name: value for name, value in json.loads(line).items() if name not in TIMED}
        for line in lines
    ]


def state(run_directory: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a saved step (the newest if None), read by Orbax alone.

    What a clock says is left out.
    """
    step = steps(run_directory)[-1] if step is None else step
    folder = run_directory.resolve() / "checkpoints" / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(folder / "state")
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {
        name: array
        for name, array in arrays.items()
        if not any(timed in name for timed in TIMED)
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two sets of arrays are equal, bit by bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def files(run_directory: Path) -> set[str]:
    """The names of a run's files; of steps, and what libraries invent, made alike."""
    found = (path.relative_to(run_directory) for path in run_directory.rglob("*"))
    invented = r"[0-9a-f]{32}|(?<=events\.out).*|(?<=checkpoints/)\d+"
    return {re.sub(invented, "…", str(path)) for path in found}


def differences(run_directory: Path, whole: Path) -> list[str]:
    """In what a finished run differs from the one that was never disturbed."""
    found = []
    params = [load_file(each / "params.safetensors") for each in (run_directory, whole)]
    if not same(*params):
        found.append("parameters")
    if not same(state(run_directory), state(whole)):
        found.append("optimiser state")
    if metrics(run_directory) != metrics(whole):
        found.append("metrics")
    if extra := files(run_directory) - files(whole):
        found.append(f"left over: {', '.join(sorted(extra)[:3])}")
    return found
