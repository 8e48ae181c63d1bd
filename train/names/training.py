"""Train the replicas of a task, round by round: an epoch, or a thousand iterations."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from train.names import batches as plans
from train.names.classification import Report, report
from train.names.evaluate import logits_of
from train.names.task import CHUNK, Task
from train.names.update import Metrics, State, Trainer, not_finite, skipped
from train.runs.checkpoint import Checkpoints
from train.runs.devices import Layout, kept, local, place, placed
from train.runs.directory import RunDirectory
from train.runs.distributed import first_says, restored, save
from train.runs.interruption import CALL_SECONDS, Interruption
from train.runs.scalars import ScalarWriter


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        state: The newest state; with replicas, a leading axis on every leaf.
        round_metrics: ``(updates of a round, replicas)`` what this round's updates did;
            behind them, what those of the round before did.
        best_params: Parameters that did best on the test names so far (``test_every``).
        best_accuracy: ``(replicas,)`` what they reached; -1 before the first look.
        train_seconds: Time spent in updates, without compilation.
    """

    state: State
    round_metrics: Metrics
    best_params: Any
    best_accuracy: np.ndarray
    train_seconds: float

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(np.asarray(self.state.step).max())

    @property
    def round_updates(self) -> int:
        """Number of updates of a round; the last one may have fewer."""
        return len(self.round_metrics.loss)

    def to_tree(self):
        """As arrays that can be saved."""
        key = jax.random.key_data(self.state.key)
        return self._replace(
            state=local(self.state._replace(key=key)),
            train_seconds=np.array(self.train_seconds),
        )._asdict()

    @classmethod
    def from_tree(cls, tree) -> "Progress":
        """The inverse of to_tree."""
        state = State(*tree["state"])
        key = jax.random.wrap_key_data(jnp.asarray(state.key))
        return cls(
            state._replace(key=key),
            Metrics(*map(np.array, tree["round_metrics"])),
            tree["best_params"],
            np.asarray(tree["best_accuracy"]),
            float(tree["train_seconds"]),
        )


def start(task: Task) -> Progress:
    """Before the first update."""
    keys = [jax.random.key(replica.seed) for replica in task.replicas]
    states = [task.trainer.init(key, task.settings.batch_size) for key in keys]
    state = states[0]
    if len(states) > 1:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    best = jax.tree.map(jnp.array, state.params) if task.settings.test_every else None
    # Even of fewer iterations, for a continued run may have more.
    rows = CHUNK if task.settings.iterations else task.batches(0).num_batches
    types = (np.float32, np.int32, np.int32)
    metrics = Metrics(*(np.zeros((rows, len(states)), each) for each in types))
    return Progress(state, metrics, best, np.full(len(states), -1.0), 0.0)


def replica_of(tree, index: int, task: Task):
    """One replica's part of a tree of parameters."""
    if len(task.replicas) == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf[index], tree)


def train(
    task: Task,
    directory: RunDirectory,
    stop: Interruption,
    minutes: float | None = None,
    checkpoint_every: int | None = None,
    layout: Layout | None = None,
) -> tuple[Progress, float]:
    """Train to the end, from the newest checkpoint on if there is one.

    Args:
        task: What to train.
        directory: Where metrics and checkpoints go.
        stop: Whether to stop before the end.
        minutes: Stop after the first round that ends after so much training.
        checkpoint_every: Rounds between checkpoints; None is 1 epoch, or 20 thousand
            iterations.
        layout: The devices; None is one.

    Returns:
        The end of the training, and seconds spent on compilation.

    Raises:
        InputError: If a loss or parameter is not finite, which is not saved; if no
            checkpoint can be used.
        Stopped: If it was to stop; all is saved.
    """
    progress, saved = start(task), None
    checkpoints = Checkpoints(directory.path / "checkpoints", directory.config)
    if found := restored(checkpoints, progress.to_tree()):
        saved, progress = found[0], Progress.from_tree(found[1])
    if is_over(task, progress, minutes):
        return progress, 0.0
    progress = progress._replace(state=placed(layout, progress.state))
    if found:
        print(f"resuming after update {saved:,}")
    if checkpoint_every is None:
        checkpoint_every = 1 if task.settings.iterations is None else 20
    directory.keep_metrics(progress.step // progress.round_updates)
    writer = ScalarWriter(directory.path / "tensorboard", progress.step)
    batches, compile_seconds, speed = None, 0.0, 1.0
    with writer, tqdm(total=0, unit=" updates", disable=None, leave=False) as bar:
        while not is_over(task, progress, minutes):
            step = progress.step
            if stop.should_stop(step):
                save(checkpoints, step, progress.to_tree())
                raise stop.stopped(step)
            round_, done = divmod(step, progress.round_updates)
            if batches is None or done == 0:
                batches = task.batches(round_)
                bar.reset(batches.num_batches)
                bar.update(done)
                bar.set_description(task.round_name(round_ + 1))
            if not compile_seconds:
                compile_seconds = warm_up(task, progress, batches, layout)
            most = min(batches.num_batches - done, CHUNK, stop.after - step)
            num = int(min(most, max(1, int(speed * CALL_SECONDS))))
            seconds = progress.train_seconds
            progress = advance(task, progress, batches, num, saved, layout)
            speed = num / (progress.train_seconds - seconds)
            show(progress, done, num, bar)
            if done + num < batches.num_batches:
                continue
            record = summed(progress, round_, done + num)
            record |= look(task, progress, round_)
            if task.settings.test_every and "test_accuracy" in record:
                progress = keep_best(task, progress, record["test_accuracy"])
            directory.append_metrics(record)
            figures = record.keys() - {"round", "step"}
            means = {name: np.mean(record[name]) for name in sorted(figures)}
            writer.add_scalars(means, record["step"])
            say(task, round_, record, bar)
            over = is_over(task, progress, minutes)
            if over or (round_ + 1) % checkpoint_every == 0:
                saved = progress.step
                save(checkpoints, saved, progress.to_tree())
    # As the first process, which alone goes on, needs it: fetched from all of them.
    return Progress.from_tree(progress.to_tree()), compile_seconds


def is_over(task: Task, progress: Progress, minutes: float | None) -> bool:
    """Whether the training has ended: after all rounds, or one that ends too late."""
    settings, rows = task.settings, progress.round_updates
    last = settings.iterations or (settings.epochs or 0) * rows
    late = minutes is not None and progress.train_seconds >= 60 * minutes
    return progress.step >= last or (late and progress.step % rows == 0)


@functools.partial(
    jax.jit, static_argnames=("trainer", "replicas", "layout"), donate_argnames="state"
)
def update_many(
    state: State,
    batches,
    num,
    *,
    trainer: Trainer,
    replicas: bool,
    layout: Layout | None = None,
):
    """The first ``num`` updates of a piece, compiled once."""
    if replicas:
        state, metrics, good = trainer.run(state, batches, num, replicas=True)
    else:
        alone = plans.Batches(
            batches.tokens[:, 0],
            batches.seq_lengths[:, 0],
            batches.labels[:, 0],
            batches.buckets,
        )
        state, metrics, good = trainer.run(state, alone, num, replicas=False)
        metrics = jax.tree.map(lambda x: x[:, None], metrics)
    return kept(layout, state, (metrics, good))


def piece_of(
    batches: plans.Batches, begin: int, rows: int, layout: Layout | None = None
) -> plans.Batches:
    """The batches from one on, so many as one call may take, filled up with zeros."""
    size = min(CHUNK, rows)
    pieces = (array[begin : begin + size] for array in batches)
    piece = plans.Batches(
        *(
            np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))
            for array in pieces
        )
    )
    return piece if layout is None else place(piece, of_batches(layout))


def of_batches(layout: Layout) -> Any:
    """How batches are divided among devices: a sharding for every array."""
    rows = layout.along(1 if layout.replicas else 2)
    return plans.Batches._make([rows, rows, rows, layout.everywhere])


def warm_up(
    task: Task,
    progress: Progress,
    batches: plans.Batches,
    layout: Layout | None = None,
) -> float:
    """Compile the updates without making any; seconds that it took."""
    began = time.perf_counter()
    piece = piece_of(batches, 0, progress.round_updates, layout)
    copy = jax.tree.map(jnp.array, progress.state)
    replicas = len(task.replicas) > 1
    done = update_many(
        copy, piece, 0, trainer=task.trainer, replicas=replicas, layout=layout
    )
    jax.block_until_ready(done)
    return time.perf_counter() - began


def advance(
    task: Task,
    progress: Progress,
    batches: plans.Batches,
    num: int,
    saved: int | None,
    layout: Layout | None = None,
) -> Progress:
    """Some updates of a round.

    Args:
        task: What to train.
        progress: The state before.
        batches: The batches of the round.
        num: How many updates.
        saved: Number of updates of the newest checkpoint, or None.
        layout: The devices; None is one.

    Returns:
        The progress after.

    Raises:
        InputError: If a loss or parameter is not finite.
    """
    state, replicas = progress.state, len(task.replicas) > 1
    step = progress.step
    done = step % progress.round_updates
    began = time.perf_counter()
    if done == 0:
        state = state._replace(carry=jax.tree.map(jnp.zeros_like, state.carry))
    piece = piece_of(batches, done, progress.round_updates, layout)
    state, metrics, good = update_many(
        state, piece, num, trainer=task.trainer, replicas=replicas, layout=layout
    )
    if not good:
        made = int(np.asarray(state.step).max()) - step
        params = local(state.params)
        raise not_finite(params, metrics.loss[made - 1], step + made, saved)
    for all_, new in zip(progress.round_metrics, metrics, strict=True):
        all_[done : done + num] = np.asarray(new)[:num]
    seconds = first_says(time.perf_counter() - began)
    return progress._replace(
        state=state, train_seconds=progress.train_seconds + seconds
    )


def show(progress: Progress, done: int, num: int, bar) -> None:
    """Move the bar, with the means of the newest updates."""
    loss, correct, count = (x[done : done + num] for x in progress.round_metrics)
    bar.update(num)
    bar.set_postfix(
        loss=f"{(loss * count).sum() / count.sum():.3f}",
        accuracy=f"{100 * correct.sum() / count.sum():.1f} %",
    )


def summed(progress: Progress, round_: int, num: int) -> dict[str, Any]:
    """A round's training figures: means over all names, each before its update."""
    loss, correct, count = (x[:num] for x in progress.round_metrics)
    total = count.sum(axis=0)
    return {
        "round": round_,
        "step": progress.step,
        "train_loss": _listed((loss * count).sum(axis=0) / total),
        "train_accuracy": _listed(correct.sum(axis=0) / total),
        "train_seconds": progress.train_seconds,
    } | skipped(progress.state)


def _listed(values: np.ndarray | jax.Array):
    """One number for one replica, a list for several."""
    return float(values[0]) if len(values) == 1 else values.tolist()


def look(task: Task, progress: Progress, round_: int) -> dict[str, Any]:
    """Figures on the names that the recipe looks at during training."""
    every = task.settings.test_every
    if every and ((round_ + 1) % every == 0 or round_ + 1 == task.num_rounds):
        which = "test"
    elif task.replicas[0].validation is not None:
        which = "validation"
    else:
        return {}
    params = local(progress.state.params)
    reports = [
        evaluate(task, replica_of(params, index, task), index, which)
        for index in range(len(task.replicas))
    ]
    return {
        f"{which}_loss": _listed(np.array([r.loss for r in reports])),
        f"{which}_accuracy": _listed(np.array([r.accuracy for r in reports])),
    }


def keep_best(task: Task, progress: Progress, accuracy) -> Progress:
    """Remember the parameters of the replicas that did better than before."""
    accuracy = np.atleast_1d(accuracy)
    better = accuracy > progress.best_accuracy

    def choose(new, old):
        if len(task.replicas) == 1:
            return jnp.array(new) if better[0] else old
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    params = local(progress.state.params)
    return progress._replace(
        best_params=jax.tree.map(choose, params, progress.best_params),
        best_accuracy=np.maximum(accuracy, progress.best_accuracy),
    )


def evaluate(task: Task, params, index: int, which: str) -> Report:
    """Figures of one replica on its test or validation names."""
    return report_of(task, logits_for(task, params, index, which), index, which)


def report_of(task: Task, logits: np.ndarray, index: int, which: str) -> Report:
    """Figures of logits for one replica's test or validation names."""
    labels = getattr(task.replicas[index], which).labels[: len(logits)]
    losses = np.asarray(jax.jit(task.settings.test_loss)(logits, labels))
    return report(losses, logits, labels)


def logits_for(task: Task, params, index: int, which: str) -> np.ndarray:
    """Logits of one replica for its test or validation names."""
    replica = task.replicas[index]
    # A stream of its own, for the recipe whose initial states are random.
    key = jax.random.fold_in(jax.random.key(replica.seed), 1)
    return logits_of(
        task.trainer, params, getattr(replica, which), task.settings.batch_size, key
    )


def say(task: Task, round_: int, record, bar) -> None:
    """Print a round's figures; of thousands of iterations, every fifth."""
    last = round_ + 1 == task.num_rounds
    if task.settings.iterations is not None and (round_ + 1) % 5 and not last:
        return
    parts = [task.round_name(round_ + 1)]
    for which in ("train", "validation", "test"):
        if f"{which}_loss" in record:
            loss = np.mean(record[f"{which}_loss"])
            accuracy = 100 * np.mean(record[f"{which}_accuracy"])
            parts.append(f"{which} loss {loss:.4f} accuracy {accuracy:.2f} %")
    if record.get("skipped_updates"):
        parts.append(f"{record['skipped_updates']:,} updates skipped")
    bar.write("  ".join(parts))
