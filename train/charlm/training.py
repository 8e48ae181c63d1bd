"""A training of a character language model, as the loop asks for it."""

import math
from typing import Any

import jax
import numpy as np

from train.charlm.evaluate import final_text, greedy_text, validate
from train.charlm.finish import finish
from train.charlm.lesson_draws import Drawn, draw_masks
from train.charlm.settings import Settings
from train.charlm.task import CALL_UPDATES, Task
from train.charlm.update import Metrics, update_many
from train.cli import printable
from train.runs.devices import Layout, local, place
from train.runs.directory import RunDirectory
from train.runs.distributed import is_first
from train.runs.loop import Progress
from train.runs.seeded import write_losses

MOST_VALIDATED = 2**20
"""Tokens of the validation text that are measured during the training, at most; at the
end it is all of them."""


def start(task: Task) -> Progress:
    """Before the first update."""
    metrics = Metrics(np.zeros(CALL_UPDATES, np.float32))
    key = jax.random.key(task.config.seed)
    params = None if task.lesson is None else task.lesson.params
    state = task.trainer.init(key, len(task.windows.stream_starts), params)
    draws = None if task.lesson is None else task.lesson.draws
    return Progress(state, metrics, 0, None, 0.0, draws)


class Training:
    """A training by updates and by time; a record ends each call of the loop.

    Args:
        task: What to train.
        layout: The devices; None is one.
    """

    def __init__(self, task: Task, layout: Layout | None = None):
        self.task = task
        self.layout = layout
        self._seconds = 60 * (task.settings.minutes or math.inf)
        self._drawn: Drawn | None = None
        self._losses = np.zeros(0, np.float32)

    def start(self) -> Progress:
        """Before the first update."""
        return start(self.task)

    def is_over(self, progress: Progress) -> bool:
        """Whether all updates are made, or all the time is spent."""
        return (
            progress.step >= self.task.num_updates
            or progress.train_seconds >= self._seconds
        )

    def num_updates(self) -> int | None:
        """Number of updates of the whole training; None if only time ends it."""
        num = self.task.num_updates
        return None if math.isinf(num) else int(num)

    def seconds_left(self, progress: Progress) -> float:
        """What is left of the time, seconds."""
        return self._seconds - progress.train_seconds

    def room(self, progress: Progress) -> int:
        """Number of updates of the next call, at most."""
        return self.task.next_record(progress.step) - progress.step

    def inputs(self, progress: Progress, seconds_per_update: float) -> tuple:
        """The windows, learning rates and key of the next call."""
        task, steps = self.task, np.arange(CALL_UPDATES)
        share = np.maximum(
            (progress.step + steps) / task.num_updates,
            (progress.train_seconds + steps * seconds_per_update) / self._seconds,
        )
        rates = learning_rates(task.settings, share)
        windows, key = call_windows(task, progress.step, self.layout)
        return windows, rates, key, self.masks(progress)

    def masks(self, progress: Progress) -> Any:
        """The lesson's dropout masks of the next call, filled up as its windows are."""
        task = self.task
        if task.lesson is None:
            return None
        if self._drawn is None or self._drawn.step != progress.recorded:
            num = task.next_record(progress.recorded) - progress.recorded
            self._drawn = draw_masks(task, progress.recorded, num, progress.draws)
        done = progress.step - progress.recorded

        def cut(array):
            part = array[done:]
            missing = CALL_UPDATES - len(part)
            return np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1))

        masks = jax.tree.map(cut, self._drawn.masks)
        if self.layout is None:
            return masks
        rows = self.layout.along(1)
        return place(masks, jax.tree.map(lambda _: rows, masks))

    def update_many(self, progress: Progress, inputs: tuple, num: int) -> tuple:
        """``num`` updates in one compiled call."""
        windows, rates, key, masks = inputs
        return update_many(
            progress.state,
            windows,
            rates,
            num,
            key,
            masks,
            trainer=self.task.trainer,
            layout=self.layout,
        )

    def is_recorded(self, progress: Progress) -> bool:
        """Whether the call reached the next place where one has to end."""
        return progress.step >= self.task.next_record(progress.recorded)

    def record(self, progress: Progress) -> dict[str, Any]:
        """The mean loss of the newest updates; a sample, a validation where due."""
        task, step = self.task, progress.step
        losses = progress.unrecorded.loss
        share = max(
            (step - 1) / task.num_updates, progress.train_seconds / self._seconds
        )
        return {
            "epoch": step / task.epoch_updates,
            "train_loss": float(losses.mean(dtype=np.float64)),
            "learning_rate": float(learning_rates(task.settings, np.array(share))),
            **evaluation(task, progress, self.is_over(progress)),
        }

    def remember(self, progress: Progress, record: dict[str, Any]) -> Progress:
        """Where the draws are; checkpoints know their loss, and the best one is kept."""
        if self._drawn is None:
            return progress
        return progress._replace(draws=self._drawn.after)

    def is_saved(self, progress: Progress) -> bool:
        """Whether a checkpoint is due."""
        return progress.step % self.task.settings.checkpoint_every == 0

    def write(self, directory: RunDirectory, progress: Progress) -> None:
        """The newest parameters, so that a long training can be sampled from."""
        directory.write_params(self.task.trainer.model, local(progress.state.params))

    def keep_losses(self, directory: RunDirectory, progress: Progress) -> None:
        """Write every update's loss, where the lesson's own numbers are drawn."""
        if self.task.lesson is not None and is_first():
            new = progress.unrecorded.loss
            self._losses = write_losses(directory.path, progress.recorded, new)

    def running(self, metrics: Metrics) -> dict[str, str]:
        """The mean loss of the newest call."""
        return {"loss": f"{metrics.loss.mean():.3f}"}

    def line(self, progress: Progress, record: dict[str, Any]) -> str | None:
        """A validation or a sample; without them, the end of the training."""
        where = f"update {record['step']:,}  epoch {record['epoch']:.1f}"
        loss = f"loss {record['train_loss']:.4f}  {record['train_seconds']:.0f} s"
        if "val_loss" in record:
            val = record["val_loss"]
            bits = val / math.log(2)
            return f"{where}  {loss}  validation {val:.4f} ({bits:.3f} bits)"
        if "sample" in record:
            rule = "-" * 30
            sample = printable(record["sample"], keep="\n\t")
            if self.task.lesson is not None:
                seconds = record["train_seconds"] / record["epoch"]
                # As the lesson's, of float32 losses that were made Python's floats.
                newest = np.mean(self._losses[-10:], dtype=np.float64)
                return (
                    f"{rule}\n{sample}\n{rule}\nFinished epoch {record['epoch']:.0f} in "
                    f"{seconds:.1f} s: loss: {newest:.6f}"
                )
            return f"{rule}\n{sample}\n{rule}\n{where}  {loss}"
        return f"{where}  {loss}" if self.is_over(progress) else None

    def finish(
        self, progress: Progress, compile_seconds: float, directory: RunDirectory
    ) -> dict[str, Any]:
        """Measure, print and write all that the run leaves; return its summary."""
        return finish(self.task, progress, compile_seconds, directory)


def learning_rates(settings: Settings, share: np.ndarray) -> np.ndarray:
    """The learning rates at some points of the training.

    Args:
        settings: Has the highest rate, and whether it decays.
        share: ``(...,)`` 0 at the beginning, 1 at the end.

    Returns:
        ``(...,)`` float32: with ``decays``, a rise over the first 3 %, then a cosine
        down to zero.
    """
    if not settings.decays:
        return np.full(share.shape, settings.learning_rate, np.float32)
    rise = np.minimum(share / 0.03, 1)
    fall = 0.5 * (1 + np.cos(np.pi * np.clip(share, 0, 1)))
    return (settings.learning_rate * rise * fall).astype(np.float32)


def call_windows(task: Task, step: int, layout: Layout | None) -> tuple:
    """Windows ``(CALL_UPDATES, streams, window + 1)`` of a call; the key of dropout."""
    given = task.windows.cut(task.train, step, CALL_UPDATES), task.key
    if layout is None:
        return given
    return place(given, (layout.along(1), layout.everywhere))


def evaluation(task: Task, progress: Progress, over: bool) -> dict[str, Any]:
    """What the recipe evaluates during training: samples, and the validation text."""
    settings, step = task.settings, progress.step
    every = settings.sample_every and settings.sample_every * task.epoch_updates
    if every and step % every == 0:
        params = local(progress.state.params)
        return {"sample": greedy_text(task, params, "They ", 150)}
    if settings.every and (over or step % settings.every == 0):
        params = local(progress.state.params)
        loss = validate(task, params, MOST_VALIDATED).per_token
        return {"val_loss": loss, "sample": final_text(task, params)}
    return {}
