"""The generators of a lesson's own program, between the updates of ours."""

import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnjax.random import Processor, TorchGenerator, this_processor
from train.cli import InputError, printable
from train.runs.directory import RunDirectory
from train.runs.files import replacing

HIGHEST_TORCH_SEED = 2**32 - 1
"""NumPy's ``np.random.seed`` takes no larger one."""


def check_torch_seed(seed: int | None) -> None:
    """Refuse a ``--torch-seed`` that not all of the three generators take.

    Raises:
        InputError: If it is negative or too large.
    """
    if seed is not None and not 0 <= seed <= HIGHEST_TORCH_SEED:
        raise InputError(
            f"--torch-seed is {seed}; expected 0 to {HIGHEST_TORCH_SEED:,}, which "
            "torch.manual_seed, random.seed and np.random.seed all take"
        )


class Draws(NamedTuple):
    """Where the generators are, as arrays of a checkpoint.

    Attributes:
        torch: ``(5056,)`` uint8, as ``torch.get_rng_state()``.
        python: ``(625,)`` uint32, of ``random.getstate()``.
        order: ``(examples,)`` int64, the order that shuffling has left; lesson 003
            shuffles what it shuffled the epoch before. None where nothing is kept.
    """

    torch: np.ndarray
    python: np.ndarray
    order: np.ndarray | None = None


class Generators(NamedTuple):
    """What the lessons draw from.

    Attributes:
        torch: PyTorch's.
        python: That of the module ``random``.
        numpy: NumPy's global one, which scikit-learn uses.
    """

    torch: TorchGenerator
    python: random.Random
    numpy: np.random.RandomState

    @classmethod
    def seeded(cls, seed: int, processor: Processor) -> "Generators":
        """``torch.manual_seed(seed); random.seed(seed); np.random.seed(seed)``."""
        return cls(
            TorchGenerator(seed, processor),
            random.Random(seed),
            np.random.RandomState(seed),
        )

    @classmethod
    def at(cls, draws: Draws, processor: Processor) -> "Generators":
        """Where they were; NumPy's is only used before the first update."""
        python = random.Random()
        words = tuple(int(word) for word in draws.python)
        python.setstate((3, words, None))
        torch = TorchGenerator.from_state(np.asarray(draws.torch), processor)
        return cls(torch, python, np.random.RandomState(0))

    def draws(self, order: np.ndarray | None = None) -> Draws:
        """Where they are now."""
        words = np.array(self.python.getstate()[1], np.uint32)
        return Draws(self.torch.state(), words, order)


class Lesson(NamedTuple):
    """Where a training begins that draws what the lesson's own program draws.

    Attributes:
        seed: That of ``torch.manual_seed``, and of the other two.
        processor: What the last places of the draws owe to.
        params: The parameters before the first update.
        draws: Where the generators are then.
    """

    seed: int
    processor: Processor
    params: Any
    draws: Draws

    def generators(self, draws: Draws) -> Generators:
        """Generators that go on from there."""
        return Generators.at(draws, self.processor)

    def described(self) -> dict[str, Any]:
        """What ``config.json`` says beside the flags."""
        return {"processor": self.processor._asdict()}


def processor_of(path: Path) -> Processor:
    """The processor that a run was begun with; this one's where none is kept."""
    kept = None
    if (path / "config.json").is_file():
        kept = RunDirectory(path).config.get("processor")
    if kept is None:
        return this_processor()
    try:
        return Processor(**kept)
    except TypeError:
        raise InputError(
            f"{path / 'config.json'} is damaged: its processor is {kept!r}; give "
            "another --out"
        ) from None


LOSSES = "losses.npy"
"""Every update's loss, ``(updates,)`` float32."""


def write_losses(path: Path, recorded: int, new: np.ndarray) -> np.ndarray:
    """Write the newest losses behind those of the updates before them.

    Args:
        path: The run directory.
        recorded: Number of updates before them; what the file has more is of a training
            that was cut off, and is made again. What it has less, for somebody took it
            away, is NaN.
        new: ``(updates,)``.

    Returns:
        The losses of all updates.
    """
    old = np.full(recorded, np.nan, np.float32)
    if recorded:
        try:
            there = np.load(path / LOSSES)[:recorded]
            old[: len(there)] = there
        except (OSError, ValueError, EOFError, IndexError):
            print(f"{printable(str(path / LOSSES))} cannot be read: its losses are NaN")
    losses = np.concatenate([old, np.asarray(new, np.float32)])
    with replacing(path / LOSSES) as temporary, temporary.open("wb") as file:
        np.save(file, losses)
    return losses
