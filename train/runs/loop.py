"""The one loop of a training: restore, place, update, record, save, stop.

Both programs train by it, so that there is one order in which figures are written, states
are saved and a signal is obeyed. What differs between them is a :class:`Training`.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from train.report.render import write_report
from train.runs.checkpoint import Checkpoints
from train.runs.devices import Layout, local, placed
from train.runs.directory import RunDirectory
from train.runs.distributed import first_says, is_first, restored, save
from train.runs.guards import not_finite, skipped
from train.runs.interruption import CALL_SECONDS, Interruption
from train.runs.scalars import ScalarWriter


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        state: The newest state, with ``params``, ``opt_state`` and ``step``; with
            replicas, a leading axis on every leaf.
        metrics: A NamedTuple of arrays with ``loss``, an entry for every update since
            the newest record; behind them, what earlier updates left.
        recorded: Number of updates at the newest record.
        best: What a training remembers of the states that did best, or None.
        train_seconds: Time spent in updates, without compilation.
        draws: Where the generators of a lesson's own program were at the newest record,
            or None.
    """

    state: Any
    metrics: Any
    recorded: int
    best: Any
    train_seconds: float
    draws: Any = None

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(np.asarray(self.state.step).max())

    @property
    def unrecorded(self) -> Any:
        """The metrics of the updates since the newest record."""
        return jax.tree.map(lambda x: x[: self.step - self.recorded], self.metrics)

    def to_tree(self) -> dict[str, Any]:
        """As arrays that can be saved."""
        return self._asdict() | {
            "state": local(jax.tree.map(_key_data, self.state)),
            "recorded": np.array(self.recorded),
            "train_seconds": np.array(self.train_seconds),
        }

    def from_tree(self, tree: dict[str, Any]) -> "Progress":
        """The inverse of to_tree; of this progress the structure counts."""
        return Progress(
            jax.tree.map(_like, self.state, _structured(self.state, tree["state"])),
            jax.tree.map(np.array, _structured(self.metrics, tree["metrics"])),
            int(tree["recorded"]),
            _structured(self.best, tree["best"]),
            float(tree["train_seconds"]),
            jax.tree.map(np.asarray, _structured(self.draws, tree["draws"])),
        )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(old: Any, new: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(new)) if _is_key(old) else new


def _structured(like: Any, tree: Any) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(tree))


class Training(Protocol):
    """What a program tells the loop about its training.

    Attributes:
        layout: The devices; None is one.
    """

    layout: Layout | None

    def start(self) -> Progress:
        """Before the first update."""
        ...

    def is_over(self, progress: Progress) -> bool:
        """Whether the training has ended."""
        ...

    def num_updates(self) -> int | None:
        """Number of updates of the whole training; None if only time ends it."""
        ...

    def seconds_left(self, progress: Progress) -> float:
        """Time that the next call may take, seconds; infinite without a limit."""
        ...

    def room(self, progress: Progress) -> int:
        """Number of updates of the next call, at most: none goes past a record."""
        ...

    def inputs(self, progress: Progress, seconds_per_update: float) -> tuple:
        """What the next call reads, but for the state."""
        ...

    def update_many(self, progress: Progress, inputs: tuple, num: int) -> tuple:
        """``num`` updates in one compiled call.

        Returns:
            The state after, the metrics of every update, and whether all is finite.
        """
        ...

    def is_recorded(self, progress: Progress) -> bool:
        """Whether a record is due."""
        ...

    def record(self, progress: Progress) -> dict[str, Any]:
        """A line of metrics.jsonl: figures of the newest updates, and evaluations."""
        ...

    def remember(self, progress: Progress, record: dict[str, Any]) -> Progress:
        """The progress with what did best so far."""
        ...

    def is_saved(self, progress: Progress) -> bool:
        """Whether a checkpoint is due, of those after a record."""
        ...

    def write(self, directory: RunDirectory, progress: Progress) -> None:
        """Write what belongs beside a checkpoint."""
        ...

    def keep_losses(self, directory: RunDirectory, progress: Progress) -> None:
        """Write the losses of the updates since the newest record, if all are kept."""
        ...

    def running(self, metrics: Any) -> dict[str, str]:
        """Figures of the newest call, to be shown beside the bar."""
        ...

    def line(self, progress: Progress, record: dict[str, Any]) -> str | None:
        """What is printed of a record, or None."""
        ...

    def finish(
        self, progress: Progress, compile_seconds: float, directory: RunDirectory
    ) -> dict[str, Any]:
        """Test, print and write all that the run leaves; return its summary."""
        ...


class Trained(NamedTuple):
    """The end of a training.

    Attributes:
        progress: How far it came.
        compile_seconds: Time spent on compilation.
    """

    progress: Progress
    compile_seconds: float


def run_in(
    directory: RunDirectory, make: Callable[[], Training], stop: Interruption
) -> dict[str, Any]:
    """Train in a directory, or continue there, and leave everything about it.

    Args:
        directory: The run directory.
        make: Makes the training, once nobody else trains in the directory.
        stop: Whether to stop before the end.

    Returns:
        The summary; of several processes the first one has it, the others nothing.

    Raises:
        Stopped: If it was to stop; all is saved.
    """
    with directory.lock():
        training = make()
        progress, compile_seconds = train(training, directory, stop)
        if not is_first():
            return {}
        summary = directory.outcome(progress.step)
        if summary is not None:
            print(f"{directory.path} is complete; nothing to do")
        else:
            summary = training.finish(progress, compile_seconds, directory)
        write_report(directory.path)
        return summary


def train(training: Training, directory: RunDirectory, stop: Interruption) -> Trained:
    """Train to the end, from the newest checkpoint on if there is one.

    Args:
        training: What to train.
        directory: Where metrics and checkpoints go.
        stop: Whether to stop before the end.

    Returns:
        The end of the training.

    Raises:
        InputError: If a loss or parameter is not finite, which is not saved; if no
            checkpoint can be used.
        Stopped: If it was to stop; all is saved.
    """
    progress, saved = training.start(), None
    checkpoints = Checkpoints(directory.path / "checkpoints", directory.config)
    if found := restored(checkpoints, progress.to_tree()):
        saved, progress = found[0], progress.from_tree(found[1])
    if training.is_over(progress):
        return Trained(progress, 0.0)
    progress = progress._replace(state=placed(training.layout, progress.state))
    if found:
        print(f"resuming after update {saved:,}")
    directory.keep_metrics(progress.recorded)
    writer = ScalarWriter(directory.path / "tensorboard", progress.step)
    bar = tqdm(
        total=training.num_updates(),
        initial=progress.step,
        unit=" updates",
        disable=None,
        leave=False,
    )
    with writer, bar:
        compile_seconds = compiled(training, progress)
        seconds_per_update = 0.0
        while not training.is_over(progress):
            step, seconds = progress.step, progress.train_seconds
            if stop.should_stop(step):
                save(checkpoints, step, progress.to_tree())
                raise stop.stopped(step)
            num = 1
            if seconds_per_update:
                left = min(training.seconds_left(progress), CALL_SECONDS)
                num = max(1, math.ceil(left / seconds_per_update))
            num = int(min(num, training.room(progress), stop.after - step))
            progress = advance(training, progress, num, seconds_per_update, saved)
            seconds_per_update = (progress.train_seconds - seconds) / num
            _show(training, progress, num, seconds_per_update, bar)
            over = training.is_over(progress)
            if not over and not training.is_recorded(progress):
                continue
            record = {"step": progress.step, **training.record(progress)}
            record |= {"train_seconds": progress.train_seconds}
            record |= skipped(progress.state)
            progress = training.remember(progress, record)
            training.keep_losses(directory, progress)
            directory.append_metrics(record)
            writer.add_scalars(_scalars(record), progress.step)
            if line := training.line(progress, record):
                bar.write(line)
            progress = progress._replace(recorded=progress.step)
            if over or training.is_saved(progress):
                saved = progress.step
                save(checkpoints, saved, progress.to_tree(), record.get("val_loss"))
                training.write(directory, progress)
    # As the first process, which alone goes on, needs it: fetched from all of them.
    return Trained(progress.from_tree(progress.to_tree()), compile_seconds)


def compiled(training: Training, progress: Progress) -> float:
    """Compile the updates without making any; seconds that it took."""
    began = time.perf_counter()
    # The call gives its state away.
    copy = progress._replace(state=jax.tree.map(jnp.array, progress.state))
    done = training.update_many(copy, training.inputs(copy, 0.0), 0)
    jax.block_until_ready(done)
    return time.perf_counter() - began


def advance(
    training: Training,
    progress: Progress,
    num: int,
    seconds_per_update: float = 0.0,
    saved: int | None = None,
) -> Progress:
    """Some updates, in one call.

    Args:
        training: What to train.
        progress: The progress before.
        num: How many updates.
        seconds_per_update: Of the call before; 0 if it is not known.
        saved: Number of updates of the newest checkpoint, or None.

    Returns:
        The progress after.

    Raises:
        InputError: If a loss or parameter is not finite.
    """
    step = progress.step
    done = step - progress.recorded
    inputs = training.inputs(progress, seconds_per_update)
    began = time.perf_counter()
    state, metrics, finite = training.update_many(progress, inputs, num)
    if not finite:
        made = int(np.asarray(state.step).max()) - step
        params = local(state.params)
        raise not_finite(params, metrics.loss[made - 1], step + made, saved)
    for all_, new in zip(progress.metrics, metrics, strict=True):
        all_[done : done + num] = np.asarray(new)[:num]
    seconds = first_says(time.perf_counter() - began)
    return progress._replace(
        state=state, train_seconds=progress.train_seconds + seconds
    )


def _show(training, progress, num, seconds_per_update, bar):
    """Move the bar; where only time ends the training, its total is an estimate."""
    left = training.seconds_left(progress)
    if training.num_updates() is None and math.isfinite(left):
        bar.total = progress.step + max(0, math.ceil(left / seconds_per_update))
    bar.update(num)
    done = progress.step - progress.recorded
    newest = jax.tree.map(lambda x: x[done - num : done], progress.metrics)
    bar.set_postfix(training.running(newest))


def _scalars(record: dict[str, Any]) -> dict[str, Any]:
    """The figures of a record, means where there are replicas."""
    return {
        name: np.mean(value)
        for name, value in sorted(record.items())
        if name not in ("step", "epoch") and not isinstance(value, str)
    }
