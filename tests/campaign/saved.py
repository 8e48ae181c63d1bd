"""A run with two good checkpoints, to be damaged in copies; and how a copy is read."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from train.cli import InputError
from train.names import __main__ as names
from train.runs.checkpoint import Checkpoints

from . import programs


class Saved(NamedTuple):
    """A finished run.

    Attributes:
        path: Its directory.
        config: What its config.json says.
        steps: The updates of its checkpoints: the one before, and the newest.
        like: A tree as the checkpoints have it, read by Orbax alone.
        before: The arrays of the one before.
    """

    path: Path
    config: dict[str, Any]
    steps: tuple[int, int]
    like: Any
    before: Any

    @property
    def newest(self) -> Path:
        """The directory of the newest checkpoint."""
        return self.path / "checkpoints" / str(self.steps[1])


def train(path: Path, model: str = "gru") -> Saved:
    """Train a small run of the recipe practical."""
    program = programs.names(epochs=3, model=model)
    done = programs.call(names, *program.flags, "--out", str(path))
    assert done.code == 0, done
    before, newest = programs.steps(path)[-2:]
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    trees = [read_alone(path / "checkpoints" / str(step)) for step in (before, newest)]
    return Saved(path, config, (before, newest), trees[1], trees[0])


def read_alone(step: Path) -> Any:
    """Read a checkpoint with Orbax alone."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(step.resolve() / "state")


def equal(one: Any, other: Any) -> bool:
    """Whether two trees have the same arrays, bit by bit."""
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@contextlib.contextmanager
def copied(source: Path, scratch: Path) -> Iterator[Path]:
    """A copy of a directory, removed in the end."""
    copy = scratch / "copy"
    shutil.copytree(source, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


class Read(NamedTuple):
    """What came of reading checkpoints.

    Attributes:
        step: The updates of the state that was read; None is a refusal.
        tree: The state.
        said: What was printed, or the refusal.
    """

    step: int | None
    tree: Any
    said: str


def read(checkpoints: Path, saved: Saved) -> Read:
    """Read the newest good state, as a training does."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            reader = Checkpoints(checkpoints, saved.config)
            step, tree = reader.restore_newest(saved.like) or (None, None)
        except InputError as error:
            return Read(None, None, str(error))
    return Read(step, tree, printed.getvalue())


def problem_of(found: Read, saved: Saved) -> str:
    """What is wrong when the newest checkpoint is damaged; "" is nothing."""
    if found.step == saved.steps[1]:
        return "silently read"
    if found.step != saved.steps[0]:
        return f"no other was read: {found.said[:80]}"
    if not equal(found.tree, saved.before):
        return "the one before was read wrongly"
    lines = found.said.splitlines()
    named = len(lines) == 1 and str(saved.steps[1]) in lines[0]
    return "" if named else f"said {found.said!r}"
