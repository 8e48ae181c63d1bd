"""A training of a names model, as the loop asks for it: epochs, or iterations."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.names import batches as plans
from train.names.evaluate import Report, evaluate
from train.names.finish import finish
from train.names.lesson_draws import Drawn, draw_record
from train.names.lesson_lines import lines_of
from train.names.task import CALL_UPDATES, REPORT_EVERY, Task
from train.names.update import Given, Metrics, update_many
from train.runs.devices import Layout, local, place
from train.runs.directory import RunDirectory
from train.runs.distributed import is_first
from train.runs.loop import Progress
from train.runs.seeded import write_losses


class Best(NamedTuple):
    """What did best on the test names so far (``test_every``).

    Attributes:
        params: The parameters; with replicas, a leading axis on every leaf.
        accuracy: ``(replicas,)`` what they reached; -1 before the first test.
    """

    params: Any
    accuracy: np.ndarray


def start(task: Task) -> Progress:
    """Before the first update."""
    keys = [jax.random.key(replica.seed) for replica in task.replicas]
    params = None if task.lesson is None else task.lesson.params
    size = task.settings.batch_size
    states = [task.trainer.init(key, size, params) for key in keys]
    state = states[0]
    if len(states) > 1:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    best = None
    if task.settings.test_every:
        params = jax.tree.map(jnp.array, state.params)
        best = Best(params, np.full(len(states), -1.0))
    types = (np.float32, np.int32, np.int32, np.int32)
    shape = (task.record_updates, len(states))
    metrics = Metrics(*(np.zeros(shape, each) for each in types))
    draws = None if task.lesson is None else task.lesson.draws
    return Progress(state, metrics, 0, best, 0.0, draws)


class Training:
    """A training of replicas of one model; a record ends an epoch, or 1,000 iterations.

    Args:
        task: What to train.
        layout: The devices; None is one.
        minutes: Stop after the first record that ends after so much training.
        checkpoint_every: Records between checkpoints; None is 1 epoch, or 20 thousand
            iterations.
    """

    def __init__(
        self,
        task: Task,
        layout: Layout | None = None,
        minutes: float | None = None,
        checkpoint_every: int | None = None,
    ):
        self.task = task
        self.layout = layout
        self._seconds = math.inf if minutes is None else 60 * minutes
        if checkpoint_every is None:
            # A thousand iterations of lesson 001 take a fraction of a second.
            checkpoint_every = 1 if task.settings.iterations is None else 20
        self._checkpoint_every = checkpoint_every
        self._batches: tuple[int, plans.Batches] | None = None
        self._drawn: Drawn | None = None
        self._lines: str | None = None

    def start(self) -> Progress:
        """Before the first update."""
        return start(self.task)

    def is_over(self, progress: Progress) -> bool:
        """Whether all updates are made, or a record ends after all the time."""
        late = progress.train_seconds >= self._seconds
        recorded = progress.step % self.task.record_updates == 0
        return progress.step >= self.task.num_updates or (late and recorded)

    def num_updates(self) -> int:
        """Number of updates of the whole training."""
        return self.task.num_updates

    def seconds_left(self, progress: Progress) -> float:
        """No limit: a record is always whole."""
        return math.inf

    def batches(self, progress: Progress) -> plans.Batches:
        """The batches of the epoch, or the thousand iterations, that it is in."""
        index = progress.step // self.task.record_updates
        if self._batches is None or self._batches[0] != index:
            if self.task.lesson is None:
                batches = self.task.batches(index)
            else:
                self._drawn = draw_record(self.task, index, progress.draws)
                batches = plans.join_replicas([self._drawn.batches])
            self._batches = (index, batches)
        return self._batches[1]

    def given(self, progress: Progress) -> Given:
        """The lesson's random numbers for the next call, filled up as its batches are."""
        if self._drawn is None:
            return Given()
        done = progress.step - progress.recorded
        size = min(self.task.record_updates, CALL_UPDATES)

        def cut(array):
            part = array[done : done + size]
            return np.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))

        given = jax.tree.map(cut, self._drawn.given)
        if self.layout is None:
            return given
        everywhere = self.layout.everywhere
        return place(given, jax.tree.map(lambda _: everywhere, given))

    def room(self, progress: Progress) -> int:
        """Number of updates of the next call, at most."""
        done = progress.step - progress.recorded
        return min(self.batches(progress).num_batches - done, CALL_UPDATES)

    def inputs(self, progress: Progress, seconds_per_update: float) -> tuple:
        """The batches of the next call, filled up with zeros."""
        done = progress.step - progress.recorded
        rows = self.task.record_updates
        batches = call_batches(self.batches(progress), done, rows, self.layout)
        return batches, self.given(progress)

    def update_many(self, progress: Progress, inputs: tuple, num: int) -> tuple:
        """``num`` updates in one compiled call."""
        state, replicas = progress.state, len(self.task.replicas) > 1
        if progress.step == progress.recorded:
            zeros = jax.tree.map(jnp.zeros_like, state.carry)
            state = state._replace(carry=zeros)
        batches, given = inputs
        return update_many(
            state,
            batches,
            num,
            given,
            trainer=self.task.trainer,
            replicas=replicas,
            layout=self.layout,
        )

    def is_recorded(self, progress: Progress) -> bool:
        """Whether an epoch, or a thousand iterations, is at its end."""
        return progress.step % self.task.record_updates == 0

    def record(self, progress: Progress) -> dict[str, Any]:
        """Means over all names, each before its update; and an evaluation."""
        loss, correct, count, _ = progress.unrecorded
        if self.task.lesson is not None:
            self._lines = self._lesson_lines(progress)
        total = count.sum(axis=0)
        epochs = self.task.epochs_after(progress.step)
        return ({} if epochs is None else {"epoch": epochs}) | {
            "train_loss": _listed((loss * count).sum(axis=0) / total),
            "train_accuracy": _listed(correct.sum(axis=0) / total),
            **evaluation(self.task, progress),
        }

    def remember(self, progress: Progress, record: dict[str, Any]) -> Progress:
        """Keep the parameters of the replicas that did better on the test names."""
        if self._drawn is not None:
            progress = progress._replace(draws=self._drawn.after)
        if progress.best is None or "test_accuracy" not in record:
            return progress
        return keep_best(self.task, progress, record["test_accuracy"])

    def is_saved(self, progress: Progress) -> bool:
        """Whether a checkpoint is due."""
        records = math.ceil(progress.step / self.task.record_updates)
        return records % self._checkpoint_every == 0

    def write(self, directory: RunDirectory, progress: Progress) -> None:
        """Nothing: the parameters of the end are those of all replicas together."""

    def running(self, metrics: Metrics) -> dict[str, str]:
        """Means over the names of the newest call."""
        loss, correct, count, _ = metrics
        return {
            "loss": f"{(loss * count).sum() / count.sum():.3f}",
            "accuracy": f"{100 * correct.sum() / count.sum():.1f} %",
        }

    def line(self, progress: Progress, record: dict[str, Any]) -> str | None:
        """The figures of a record; of thousands of iterations, every fifth."""
        task, step = self.task, progress.step
        if task.lesson is not None:
            return self._lines
        last = step >= task.num_updates
        counts = task.settings.iterations is not None
        if counts and step % (5 * REPORT_EVERY) and not last:
            return None
        parts = [task.place(step)]
        for which in ("train", "validation", "test"):
            if f"{which}_loss" in record:
                loss = np.mean(record[f"{which}_loss"])
                accuracy = 100 * np.mean(record[f"{which}_accuracy"])
                parts.append(f"{which} loss {loss:.4f} accuracy {accuracy:.2f} %")
        if record.get("skipped_updates"):
            parts.append(f"{record['skipped_updates']:,} updates skipped")
        return "  ".join(parts)

    def keep_losses(self, directory: RunDirectory, progress: Progress) -> None:
        """Write every update's loss, where the lesson's own numbers are drawn."""
        if self.task.lesson is not None and is_first():
            new = progress.unrecorded.loss[:, 0]
            write_losses(directory.path, progress.recorded, new)

    def _lesson_lines(self, progress: Progress) -> str | None:
        assert self._drawn is not None
        best = -1.0 if progress.best is None else float(progress.best.accuracy[0])
        return lines_of(
            self.task,
            local(progress.state.params),
            progress.step,
            progress.unrecorded,
            self._drawn.batches,
            best,
            progress.train_seconds,
        )

    def finish(
        self, progress: Progress, compile_seconds: float, directory: RunDirectory
    ) -> dict[str, Any]:
        """Test, print and write all that the run leaves; return its summary."""
        return finish(self.task, progress, compile_seconds, directory)


def call_batches(
    batches: plans.Batches, begin: int, rows: int, layout: Layout | None = None
) -> plans.Batches:
    """The batches from one on, so many as one call may take, filled up with zeros."""
    size = min(CALL_UPDATES, rows)
    parts = (array[begin : begin + size] for array in batches)
    padded = plans.Batches(
        *(
            np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))
            for array in parts
        )
    )
    return padded if layout is None else place(padded, shardings(layout))


def shardings(layout: Layout) -> Any:
    """How batches are divided among devices: a sharding for every array."""
    rows = layout.along(1 if layout.replicas else 2)
    return plans.Batches._make([rows, rows, rows, layout.everywhere])


def _listed(values: np.ndarray | jax.Array):
    """One number for one replica, a list for several."""
    return float(values[0]) if len(values) == 1 else values.tolist()


def evaluation(task: Task, progress: Progress) -> dict[str, Any]:
    """Figures on the names that the recipe evaluates during training."""
    every = task.settings.test_every
    records = math.ceil(progress.step / task.record_updates)
    if every and (records % every == 0 or progress.step >= task.num_updates):
        which = "test"
    elif task.replicas[0].validation is not None:
        which = "validation"
    else:
        return {}
    params = local(progress.state.params)
    reports: list[Report] = [
        evaluate(task, task.replica_of(params, index), index, which)
        for index in range(len(task.replicas))
    ]
    return {
        f"{which}_loss": _listed(np.array([r.loss for r in reports])),
        f"{which}_accuracy": _listed(np.array([r.accuracy for r in reports])),
    }


def keep_best(task: Task, progress: Progress, accuracy: Any) -> Progress:
    """Remember the parameters of the replicas that did better than before."""
    accuracy = np.atleast_1d(accuracy)
    better = accuracy > progress.best.accuracy

    def choose(new, old):
        if len(task.replicas) == 1:
            return jnp.array(new) if better[0] else old
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    params = local(progress.state.params)
    best = Best(
        jax.tree.map(choose, params, progress.best.params),
        np.maximum(accuracy, progress.best.accuracy),
    )
    return progress._replace(best=best)
