"""Train a character language model, call by call of a compiled loop of updates."""

import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from rnnjax.truncated import window_losses
from train.charlm.evaluate import final_text, greedy_text, validate
from train.charlm.settings import Settings
from train.charlm.task import CALL, State, Task, Trainer, start
from train.cli import printable
from train.names.update import is_finite, not_finite, repeat_while_good, skipped
from train.runs.checkpoint import Checkpoints
from train.runs.devices import Layout, kept, local, place, placed
from train.runs.directory import RunDirectory
from train.runs.distributed import first_says, restored, save
from train.runs.interruption import CALL_SECONDS, Interruption
from train.runs.scalars import ScalarWriter

GLANCE = 2**20
"""Tokens of the validation text that are measured during the training, at most; at the
end it is all of them."""


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        state: The newest state.
        losses: ``(CALL,)`` of the updates since the newest record.
        begin: Number of updates before them.
        train_seconds: Time spent in updates, without compilation.
    """

    state: State
    losses: np.ndarray
    begin: int
    train_seconds: float

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.state.step)

    @property
    def mean_loss(self) -> float:
        """Of the updates since the newest record."""
        return float(self.losses[: self.step - self.begin].mean(dtype=np.float64))

    def to_tree(self) -> dict[str, Any]:
        """As arrays that can be saved."""
        return self._asdict() | {
            "state": local(self.state),
            "begin": np.array(self.begin),
            "train_seconds": np.array(self.train_seconds),
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Progress":
        """The inverse of to_tree."""
        return cls(
            State(*tree["state"]),
            np.array(tree["losses"]),
            int(tree["begin"]),
            float(tree["train_seconds"]),
        )


def update(
    trainer: Trainer, state: State, tokens: jax.Array, rate: jax.Array, key: jax.Array
) -> tuple[State, jax.Array]:
    """One update of the parameters.

    Args:
        trainer: The model and its optimiser.
        state: The state before.
        tokens: ``(streams, window + 1)``.
        rate: The learning rate.
        key: Randomness of dropout.

    Returns:
        The state after, and the mean loss before, in nats per character.
    """
    dropout_key = jax.random.fold_in(key, state.step)

    def mean_loss(params):
        losses, carry = window_losses(
            trainer.model, params, state.carry, tokens, dropout_key=dropout_key
        )
        return jnp.mean(losses), carry

    gradient = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, carry), grads = gradient(state.params)
    steps, opt_state = trainer.tx.update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, s: p - rate * s, state.params, steps)
    return State(params, opt_state, carry, state.step + 1), loss


@functools.partial(
    jax.jit, static_argnames=("trainer", "layout"), donate_argnames="state"
)
def update_many(
    state: State,
    tokens,
    rates,
    num,
    key,
    *,
    trainer: Trainer,
    layout: Layout | None = None,
):
    """The first ``num`` updates with ``tokens (CALL, streams, window + 1)``.

    They end after one in which the loss or a parameter is not finite.

    Returns:
        The state after, the losses ``(CALL,)``, and whether all is finite.
    """

    def body(index, loop):
        state, losses = loop
        state, loss = update(trainer, state, tokens[index], rates[index], key)
        return (state, losses.at[index].set(loss)), is_finite((state.params, loss))

    loop = (state, jnp.zeros(CALL))
    (state, losses), good = repeat_while_good(num, body, loop)
    return kept(layout, state, (losses, good))


def learning_rates(settings: Settings, progress: np.ndarray) -> np.ndarray:
    """The learning rates at some points of the training.

    Args:
        settings: Has the highest rate, and whether it decays.
        progress: ``(...,)`` 0 at the beginning, 1 at the end.

    Returns:
        ``(...,)`` float32: with ``decays``, a rise over the first 3 %, then a cosine
        down to zero.
    """
    if not settings.decays:
        return np.full(progress.shape, settings.learning_rate, np.float32)
    rise = np.minimum(progress / 0.03, 1)
    fall = 0.5 * (1 + np.cos(np.pi * np.clip(progress, 0, 1)))
    return (settings.learning_rate * rise * fall).astype(np.float32)


class Clock:
    """How far a training is, by updates and by time.

    Attributes:
        seconds: Time spent in updates, without compilation.
    """

    def __init__(self, task: Task, seconds: float):
        self.seconds = seconds
        self._task = task
        self._budget = 60 * (task.settings.minutes or math.inf)
        self._per_step = 0.0

    def is_over(self, step: int) -> bool:
        """Whether the training ends before this update."""
        return step >= self._task.num_steps or self.seconds >= self._budget

    def plan(self, step: int) -> tuple[int, np.ndarray]:
        """The next call: how many updates, and their learning rates ``(CALL,)``."""
        num = 1
        if self._per_step:
            num = self._task.next_stop(step) - step
            left = min(self._budget - self.seconds, CALL_SECONDS) / self._per_step
            num = max(1, min(num, math.ceil(left)))
        steps = np.arange(CALL)
        progress = np.maximum(
            (step + steps) / self._task.num_steps,
            (self.seconds + steps * self._per_step) / self._budget,
        )
        return num, learning_rates(self._task.settings, progress)

    def add(self, seconds: float, num: int) -> None:
        """Note the time spent so far, and the number of updates of the newest call."""
        self._per_step = (seconds - self.seconds) / num
        self.seconds = seconds


def train(
    task: Task,
    directory: RunDirectory,
    stop: Interruption,
    layout: Layout | None = None,
) -> tuple[Progress, float]:
    """Train to the end, from the newest checkpoint on if there is one.

    Args:
        task: What to train.
        directory: Where metrics, samples and checkpoints go.
        stop: Whether to stop before the end.
        layout: The devices; None is one.

    Returns:
        The end of the training, and seconds spent on compilation.

    Raises:
        InputError: If the loss or a parameter is not finite, which is not saved; if no
            checkpoint can be used.
        Stopped: If it was to stop; all is saved.
    """
    progress, saved = Progress(start(task), np.zeros(CALL, np.float32), 0, 0.0), None
    checkpoints = Checkpoints(directory.path / "checkpoints", directory.config)
    if found := restored(checkpoints, progress.to_tree()):
        saved, progress = found[0], Progress.from_tree(found[1])
    clock = Clock(task, progress.train_seconds)
    if clock.is_over(progress.step):
        return progress, 0.0
    progress = progress._replace(state=placed(layout, progress.state))
    if found:
        print(f"resuming after update {saved:,}")
    directory.keep_metrics(progress.begin)
    compile_seconds = warm_up(task, progress.state, layout)
    writer = ScalarWriter(directory.path / "tensorboard", progress.step)
    with writer, tqdm(total=None, unit=" updates", disable=None, leave=False) as bar:
        while not clock.is_over(progress.step):
            if stop.should_stop(progress.step):
                save(checkpoints, progress.step, progress.to_tree())
                raise stop.stopped(progress.step)
            num, rates = clock.plan(progress.step)
            num = int(min(num, stop.after - progress.step))
            progress = advance(task, progress, num, rates, saved, layout)
            clock.add(progress.train_seconds, num)
            step, over = progress.step, clock.is_over(progress.step)
            bar.update(num)
            if not over and step < task.next_stop(progress.begin):
                continue
            record = {
                # How many updates came before.
                "round": progress.begin,
                "step": step,
                "epoch": step / task.epoch_steps,
                "train_loss": progress.mean_loss,
                "learning_rate": float(rates[num - 1]),
                "train_seconds": progress.train_seconds,
            }
            record |= skipped(progress.state) | look(task, progress.state, step, over)
            directory.append_metrics(record)
            figures = record.keys() - {"round", "step", "epoch", "sample"}
            writer.add_scalars({name: record[name] for name in sorted(figures)}, step)
            bar.set_postfix(loss=f"{record['train_loss']:.3f}")
            say(task, record, bar, over)
            progress = progress._replace(begin=step)
            if over or step % task.settings.checkpoint_every == 0:
                tree = progress.to_tree()
                save(checkpoints, step, tree, record.get("val_loss"))
                directory.write_params(task.trainer.model, tree["state"].params)
                saved = step
    # As the first process, which alone goes on, needs it: fetched from all of them.
    return Progress.from_tree(progress.to_tree()), compile_seconds


def warm_up(task: Task, state: State, layout: Layout | None = None) -> float:
    """Compile the updates without making any; seconds that it took."""
    began = time.perf_counter()
    copy = jax.tree.map(jnp.array, state)
    tokens, key = inputs(task, 0, layout)
    rates = np.zeros(CALL, np.float32)
    done = update_many(copy, tokens, rates, 0, key, trainer=task.trainer, layout=layout)
    jax.block_until_ready(done)
    return time.perf_counter() - began


def inputs(
    task: Task, step: int, layout: Layout | None
) -> tuple[np.ndarray | jax.Array, jax.Array]:
    """What a call reads: windows ``(CALL, streams, window + 1)``, the key of dropout."""
    given = task.windows.cut(task.train, step, CALL), task.key
    if layout is None:
        return given
    return place(given, (layout.along(1), layout.everywhere))


def advance(
    task: Task,
    progress: Progress,
    num: int,
    rates: np.ndarray,
    saved: int | None,
    layout: Layout | None = None,
) -> Progress:
    """Some updates.

    Args:
        task: What to train.
        progress: The state before.
        num: How many updates.
        rates: ``(CALL,)`` their learning rates.
        saved: Number of updates of the newest checkpoint, or None.
        layout: The devices; None is one.

    Returns:
        The progress after.

    Raises:
        InputError: If the loss or a parameter is not finite.
    """
    step = progress.step
    tokens, key = inputs(task, step, layout)
    began = time.perf_counter()
    state, losses, good = update_many(
        progress.state, tokens, rates, num, key, trainer=task.trainer, layout=layout
    )
    if not good:
        made = int(state.step) - step
        params = local(state.params)
        raise not_finite(params, losses[made - 1], step + made, saved)
    done = step - progress.begin
    progress.losses[done : done + num] = np.asarray(losses)[:num]
    seconds = first_says(time.perf_counter() - began)
    return progress._replace(
        state=state, train_seconds=progress.train_seconds + seconds
    )


def look(task: Task, state: State, step: int, over: bool) -> dict[str, Any]:
    """What the recipe looks at during training: samples, and the validation text."""
    settings, params = task.settings, local(state.params)
    every = settings.sample_every and settings.sample_every * task.epoch_steps
    if every and step % every == 0:
        return {"sample": greedy_text(task, params, "They ", 150)}
    if settings.every and (over or step % settings.every == 0):
        loss = validate(task, params, GLANCE).per_token
        return {"val_loss": loss, "sample": final_text(task, params)}
    return {}


def say(task: Task, record: dict[str, Any], bar, over: bool) -> None:
    """Print a validation or a sample; without them, the end of the training."""
    where = f"update {record['step']:,}  epoch {record['epoch']:.1f}"
    loss = f"loss {record['train_loss']:.4f}  {record['train_seconds']:.0f} s"
    if "val_loss" in record:
        val = record["val_loss"]
        bits = val / math.log(2)
        bar.write(f"{where}  {loss}  validation {val:.4f} ({bits:.3f} bits)")
    elif "sample" in record:
        line = "-" * 30
        sample = printable(record["sample"], keep="\n\t")
        bar.write(f"{line}\n{sample}\n{line}\n{where}  {loss}")
    elif over:
        bar.write(f"{where}  {loss}")
