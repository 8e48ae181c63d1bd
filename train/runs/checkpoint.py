"""States on the disk: Orbax writes them, a manifest of hashes vouches for them."""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from train.cli import InputError, printable
from train.runs.directory import differing, lasting
from train.runs.files import first_line, sync, write_json, write_text

KEPT = 2
"""Number of newest states that are kept, beside the best."""

MANIFEST = "MANIFEST.sha256"
"""A line ``<SHA-256>  <path>`` for every file of a state."""


class Damaged(Exception):
    """A checkpoint is not what was saved."""


class Checkpoints:
    """The last few states of a training, by number of updates; and the best.

    A state gets its name when all of it is written, the manifest last. So one without a
    good manifest is not half written but damaged.

    Args:
        directory: Where they are. No other process may use it.
        config: All that decides what the run does.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]):
        self._directory = directory.absolute()  # as Orbax wants it
        self._config = config
        self._directory.mkdir(parents=True, exist_ok=True)
        # Whatever else is there was left by a process that was killed.
        for path in self._directory.iterdir():
            if not _is_step(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def steps(self) -> list[int]:
        """Numbers of updates of the states, damaged ones too, ascending."""
        return sorted(int(p.name) for p in self._directory.iterdir() if _is_step(p))

    def save(self, step: int, tree: Any, loss: float | None = None) -> None:
        """Save a state, if it is not there; then drop older ones.

        Args:
            step: Number of updates.
            tree: The state; keys of randomness as raw data.
            loss: What decides which one is the best, if it was measured.

        Raises:
            OSError: If it cannot be written; the older ones stay.
        """
        path = self._directory / str(step)
        if path.exists():
            return
        unfinished = self._directory / ".unfinished"
        try:
            unfinished.mkdir()
            with _orbax() as orbax, _silence():
                # For each save of JAX's own arrays TensorStore lists its figures, and
                # never frees the list.
                state = ocp.args.StandardSave(jax.device_get(tree))
                orbax.save(unfinished / "state", args=state)
            write_json(unfinished / "run.json", {"config": self._config, "loss": loss})
            write_text(unfinished / MANIFEST, _manifest(unfinished))
            unfinished.replace(path)
            sync(self._directory)
        # Orbax and TensorStore raise all kinds of errors for a full disk.
        except Exception as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = first_line(error)
            raise OSError(f"checkpoint {path} cannot be written: {reason}") from error
        self._drop_old()

    def best(self) -> int | None:
        """Number of updates of the state with the lowest loss, if any was measured."""
        losses = {step: self._loss(step) for step in self.steps()}
        measured = {step: loss for step, loss in losses.items() if loss is not None}
        return min(measured, key=measured.__getitem__, default=None)

    def _drop_old(self) -> None:
        best = self.best()
        for step in self.steps()[:-KEPT]:
            if step != best:
                self._remove(step)

    def _loss(self, step: int) -> float | None:
        try:
            return json.loads(self._path(step, "run.json").read_bytes())["loss"]
        except (OSError, ValueError, KeyError):
            return None

    def _path(self, step: int, name: str = "") -> Path:
        return self._directory / str(step) / name

    def _remove(self, step: int) -> None:
        # Its name goes first, for a process can be killed while it removes files.
        dropped = self._directory / ".dropped"
        self._path(step).replace(dropped)
        shutil.rmtree(dropped)

    def restore_newest(self, like: Any) -> tuple[int, Any] | None:
        """Restore the newest state that is not damaged; damaged ones are named.

        Args:
            like: A tree of the same structure, shapes and types.

        Returns:
            Its number of updates and the state; None if there is none.

        Raises:
            InputError: If all are damaged, or the newest good one is of another
                configuration, structure, shape or type.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                verify(self._path(step))
            except Damaged as damage:
                where = printable(f"{self._path(step)}: {damage}")
                print(f"damaged checkpoint {where}; trying the one before")
                damaged.append(step)
                continue
            tree = self._load(step, like)
            for each in damaged:
                self._remove(each)
            return step, tree
        if damaged:
            raise InputError(
                f"all checkpoints in {self._directory} are damaged; remove them to train "
                "from the beginning, or give another --out"
            )
        return None

    def restore(self, step: int, like: Any) -> Any:
        """Restore one state.

        Args:
            step: Number of updates.
            like: A tree of the same structure, shapes and types.

        Returns:
            The state.

        Raises:
            InputError: If it is damaged, or of another configuration, structure, shape
                or type.
        """
        try:
            verify(self._path(step))
        except Damaged as damage:
            raise InputError(
                f"damaged checkpoint {self._path(step)}: {damage}; remove it to do "
                "without"
            ) from None
        return self._load(step, like)

    def _load(self, step: int, like: Any) -> Any:
        path = self._path(step)
        try:
            config = json.loads((path / "run.json").read_bytes())["config"]
            wrong = differing(lasting(config), lasting(self._config))
            with _orbax() as orbax:
                if not wrong:
                    # Orbax itself would load another shape, and cast another type.
                    stored = orbax.metadata(path / "state").item_metadata.tree
                    wrong = differing(_leaves(stored), _leaves(like))
                if not wrong:
                    args = ocp.args.StandardRestore(like)
                    return orbax.restore(path / "state", args=args)
        except (ValueError, KeyError, TypeError, OSError) as error:
            wrong = f"it cannot be read: {first_line(error)}"
        raise InputError(
            f"checkpoint {path} is not one of this run ({wrong}); give another --out"
        )


def _orbax() -> ocp.Checkpointer:
    # Not StandardCheckpointer, which saves in threads: after a save that fails they
    # wait for ten minutes, and so does the end of the process.
    # Of several processes only the first one is here: Orbax must not wait for others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
    )
    return ocp.Checkpointer(
        ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        multiprocessing_options=alone,
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the threads of Orbax and TensorStore from printing tracebacks.

    What goes wrong in them is raised here as well. After a failure their other writes
    still come to nothing for a while: the threads stay silent, and only they.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def of_main_thread(unraisable: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            hook(unraisable)

    logger.disabled, sys.unraisablehook = True, of_main_thread
    try:
        yield
    except BaseException:
        logger.disabled = False
        logger.addFilter(_is_of_main_thread)
        raise
    logger.disabled, sys.unraisablehook = False, hook


def _is_of_main_thread(record: logging.LogRecord) -> bool:
    return record.thread == threading.main_thread().ident


def verify(path: Path) -> None:
    """Compare the files of a checkpoint with its manifest.

    Args:
        path: Its directory.

    Raises:
        Damaged: If a file is missing, additional or different.
    """
    try:
        wanted, found = (path / MANIFEST).read_text(encoding="utf-8"), _manifest(path)
    except (OSError, ValueError) as error:
        raise Damaged(first_line(error)) from None
    if wanted != found:
        lines = set(wanted.splitlines()) ^ set(found.splitlines())
        names = sorted(line.partition("  ")[2] for line in lines)
        raise Damaged(f"{next(iter(names), MANIFEST)} is not what {MANIFEST} says")


def _manifest(path: Path) -> str:
    lines = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != MANIFEST:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            lines.append(f"{digest}  {file.relative_to(path).as_posix()}\n")
    return "".join(lines)


def _leaves(tree: Any) -> dict[str, str]:
    """Type and shape of every leaf by its name; lists and tuples are the same."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{np.dtype(leaf.dtype)} {tuple(leaf.shape)}"
        )
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _is_step(path: Path) -> bool:
    return path.is_dir() and re.fullmatch("0|[1-9][0-9]*", path.name) is not None
