"""Train the replicas of a task, round by round: an epoch, or a thousand iterations."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from train import batches as plans
from train.checkpoint import Checkpoints
from train.classification import Report, report
from train.cli import InputError
from train.evaluation import logits_of
from train.run_directory import RunDirectory
from train.task import CHUNK, Task
from train.tensorboard import scalar_writer
from train.updates import State, Trainer


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        state: The newest state; with replicas, a leading axis on every leaf.
        best_params: Parameters that did best on the test names so far (``test_every``).
        best_accuracy: ``(replicas,)`` what they reached; -1 before the first look.
        train_seconds: Time spent in updates, without compilation.
    """

    state: State
    best_params: Any
    best_accuracy: np.ndarray
    train_seconds: float

    def to_tree(self):
        """As arrays that can be saved."""
        key = jax.random.key_data(self.state.key)
        return self._replace(
            state=self.state._replace(key=key),
            train_seconds=np.array(self.train_seconds),
        )._asdict()

    @classmethod
    def from_tree(cls, tree) -> "Progress":
        """The inverse of to_tree."""
        state = State(*tree["state"])
        key = jax.random.wrap_key_data(jnp.asarray(state.key))
        return cls(
            state._replace(key=key),
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
    return Progress(state, best, np.full(len(states), -1.0), 0.0)


def replica_of(tree, index: int, task: Task):
    """One replica's part of a tree of parameters."""
    if len(task.replicas) == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf[index], tree)


def train(
    task: Task,
    directory: RunDirectory,
    minutes: float | None = None,
    checkpoint_every: int | None = None,
) -> tuple[Progress, float]:
    """Train to the end, from the newest checkpoint on if there is one.

    Args:
        task: What to train.
        directory: Where metrics and checkpoints go.
        minutes: Stop after the first round that ends after so much training.
        checkpoint_every: Rounds between checkpoints; None is 1 epoch, or 20 thousand
            iterations.

    Returns:
        The end of the training, and seconds spent on compilation.

    Raises:
        InputError: If the loss is not finite; the newest checkpoint stays as it was.
    """
    progress, checkpoints = start(task), Checkpoints(directory.path / "checkpoints")
    first = checkpoints.latest() or 0
    if first:
        tree = checkpoints.restore(first, progress.to_tree())
        progress = Progress.from_tree(tree)
        print(f"resuming from {task.round_name(first)}")
    directory.keep_metrics(first)
    if checkpoint_every is None:
        checkpoint_every = 1 if task.settings.iterations is None else 20
    compile_seconds = 0.0
    step = int(np.max(progress.state.step))
    writer = scalar_writer(directory.path / "tensorboard", step)
    with writer, tqdm(total=0, unit=" updates", disable=None, leave=False) as bar:
        for round_ in range(first, task.num_rounds):
            if minutes is not None and progress.train_seconds >= 60 * minutes:
                break
            batches = task.batches(round_)
            if not compile_seconds:
                compile_seconds = warm_up(task, progress.state, batches)
            progress, record = train_round(task, progress, round_, batches, bar)
            record |= look(task, progress, round_)
            if task.settings.test_every and "test_accuracy" in record:
                progress = keep_best(task, progress, record["test_accuracy"])
            directory.append_metrics(record)
            for name, value in record.items():
                if name not in ("round", "step"):
                    writer.add_scalar(name, np.mean(value), record["step"])
            say(task, round_, record, bar)
            finished = round_ + 1
            if finished % checkpoint_every == 0 or finished == task.num_rounds:
                checkpoints.save(finished, progress.to_tree())
    checkpoints.close()
    return progress, compile_seconds


@functools.partial(
    jax.jit, static_argnames=("trainer", "replicas"), donate_argnames="state"
)
def update_many(state: State, batches, num, *, trainer: Trainer, replicas: bool):
    """The first ``num`` updates of a chunk, compiled once."""
    if not replicas:
        alone = plans.Batches(*(array[:, 0] for array in batches[:-1]), batches.buckets)
        state, metrics = trainer.run(state, alone, num, replicas=False)
        return state, jax.tree.map(lambda x: x[:, None], metrics)
    return trainer.run(state, batches, num, replicas=True)


def chunks(batches: plans.Batches):
    """A round's batches, in pieces of one shape: ``(piece, number of real batches)``."""
    size = min(CHUNK, batches.num_batches)
    for begin in range(0, batches.num_batches, size):
        piece = plans.Batches(*(array[begin : begin + size] for array in batches))
        num = piece.num_batches
        missing = size - num
        yield (
            plans.Batches(
                *(
                    np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
                    for array in piece
                )
            ),
            num,
        )


def warm_up(task: Task, state: State, batches: plans.Batches) -> float:
    """Compile the updates without making any; seconds that it took."""
    began = time.perf_counter()
    piece, _ = next(chunks(batches))
    copy = jax.tree.map(jnp.array, state)
    replicas = len(task.replicas) > 1
    done = update_many(copy, piece, 0, trainer=task.trainer, replicas=replicas)
    jax.block_until_ready(done)
    return time.perf_counter() - began


def train_round(task: Task, progress: Progress, round_: int, batches, bar):
    """One epoch, or a thousand iterations.

    Args:
        task: What to train.
        progress: The state before.
        round_: Number of the round.
        batches: Its batches.
        bar: The progress bar.

    Returns:
        The progress after, and the round's training figures: the loss is the mean over
        all names, each before the update it took part in.
    """
    state = progress.state
    if len(task.replicas) == 1:
        state = task.trainer.fresh_carry(state, task.settings.batch_size)
    else:
        refresh = functools.partial(
            task.trainer.fresh_carry, batch_size=task.settings.batch_size
        )
        state = jax.vmap(refresh)(state)
    bar.reset(total=batches.num_batches)
    bar.set_description(task.round_name(round_ + 1))
    began = time.perf_counter()
    losses, correct, counts, done = [], [], [], 0
    for piece, num in chunks(batches):
        state, metrics = update_many(
            state,
            piece,
            num,
            trainer=task.trainer,
            replicas=len(task.replicas) > 1,
        )
        loss, right, names = (np.asarray(each)[:num] for each in metrics)
        bad = ~np.isfinite(loss).all(axis=1)
        if bad.any():
            step = round_ * batches.num_batches + done + int(bad.argmax()) + 1
            raise InputError(
                f"the loss is not finite at update {step}; the newest checkpoint is "
                "from before; try a smaller --learning-rate"
            )
        losses.append(loss * names)
        correct.append(right)
        counts.append(names)
        done += num
        total = np.sum(counts[-1])
        bar.update(num)
        bar.set_postfix(
            loss=f"{losses[-1].sum() / total:.3f}",
            accuracy=f"{100 * correct[-1].sum() / total:.1f} %",
        )
    seconds = progress.train_seconds + time.perf_counter() - began
    total = np.concatenate(counts).sum(axis=0)
    record = {
        "round": round_,
        "step": int(np.max(state.step)),
        "train_loss": _listed(np.concatenate(losses).sum(axis=0) / total),
        "train_accuracy": _listed(np.concatenate(correct).sum(axis=0) / total),
        "train_seconds": seconds,
    }
    return progress._replace(state=state, train_seconds=seconds), record


def _listed(values: np.ndarray):
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
    reports = [
        evaluate(task, replica_of(progress.state.params, index, task), index, which)
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

    return progress._replace(
        best_params=jax.tree.map(choose, progress.state.params, progress.best_params),
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
    bar.write("  ".join(parts))
