"""The lines that each lesson's own program prints, with its intervals and its digits."""

from typing import Any, NamedTuple

import jax
import numpy as np

from train.names import batches as plans
from train.names.evaluate import logits_for
from train.names.task import Task
from train.names.update import Metrics

PRINT_EVERY = 5000
"""Lesson 001's ``print_every``."""

PRINT_INTERVAL = 3000
"""Lesson 003's ``print_interval``."""


class Tested(NamedTuple):
    """Names that a lesson's program goes through batch by batch.

    Attributes:
        loss: Sum of the losses of the batches, each a mean over its names.
        batches: Number of batches.
        correct: Number of names with the right answer.
        names: Number of names.
    """

    loss: float
    batches: int
    correct: int
    names: int


def go_through(task: Task, params: Any, which: str) -> Tested | None:
    """The figures of test or validation names, summed up as the lessons do.

    Returns:
        The figures; None where the lesson would divide by zero, without a whole batch.
    """
    num = len(getattr(task.replicas[0], which).labels)
    if num < (task.settings.batch_size if task.settings.drop_last else 1):
        return None
    logits = logits_for(task, params, 0, which)
    size = task.settings.batch_size
    if task.settings.drop_last:
        logits = logits[: len(logits) // size * size]
    labels = getattr(task.replicas[0], which).labels[: len(logits)]
    losses = np.asarray(jax.jit(task.settings.test_loss)(logits, labels))
    starts = range(0, len(losses), size)
    sums = sum(float(losses[i : i + size].mean()) for i in starts)
    correct = int((logits.argmax(axis=1) == labels).sum())
    return Tested(sums, len(starts), correct, len(labels))


def lines_of(
    task: Task,
    params: Any,
    step: int,
    metrics: Metrics,
    batches: plans.Batches,
    best: float,
    seconds: float,
) -> str | None:
    """What the lesson's program has printed at the end of these updates.

    Args:
        task: What is trained.
        params: The newest parameters.
        step: Number of updates so far.
        metrics: Of the updates since the record before; one replica.
        batches: The batches of these updates.
        best: The best share of right answers to test names before.
        seconds: Training time so far.

    Returns:
        Lines, or None.
    """
    loss, correct, count, answer = (np.asarray(array)[:, 0] for array in metrics)
    if task.recipe == "workshop":
        if step % PRINT_EVERY:
            return None
        name, label = _last(task, batches, len(loss) - 1)
        guess = task.languages[answer[-1]]
        verdict = "✓" if guess == label else f"✗ ({label})"
        share = int(step / task.num_updates * 100)
        passed = f"{int(seconds // 60)}m {int(seconds % 60)}s"
        return f"{step} {share}% ({passed}) {loss[-1]:.4f} {name} / {guess} {verdict}"
    epoch = task.epochs_after(step)
    assert epoch is not None
    if task.recipe == "blog":
        places = range(PRINT_INTERVAL, len(loss) + 1, PRINT_INTERVAL)
        return "\n".join(
            f"Epoch [{epoch}/{task.settings.epochs}], Step [{i}/{len(loss)}], "
            f"Loss: {loss[i - 1]:.4f}"
            for i in places
        )
    # As the lessons add up: Python's floats, one after the other.
    total, names = sum(loss.tolist()), int(count.sum())
    right = int(correct.sum()) / names
    if task.recipe == "practical":
        lines = [f"Epoch {epoch - 1}: {total / len(loss)}, {right}"]
        if seen := go_through(task, params, "validation"):
            right_share = seen.correct / seen.names
            lines += [f"Val: {seen.loss / seen.batches}, {right_share}"]
        return "\n".join(lines)
    lines = [f"Epoch: {epoch - 1}", f"Accuracy: {right * 100}"]
    lines += [f"Loss: {total / names}"]
    assert task.settings.test_every is not None
    due = epoch % task.settings.test_every == 0
    if due and (seen := go_through(task, params, "test")):
        accuracy = round(seen.correct / seen.names, 4) * 100
        lines += ["### TESTING ###", f"        Accuracy: {accuracy}"]
        lines += [f"        Loss: {round(seen.loss / seen.names, 4)}"]
        # The lesson's loops around its linear networks have this line commented out.
        if task.model_name == "rnn" and max(0, round(best, 4) * 100) < accuracy:
            lines += ["Best model found!"]
    return "\n".join(lines)


def _last(task: Task, batches: plans.Batches, index: int) -> tuple[str, str]:
    """A batch's first name, noise included, and its language."""
    length = batches.seq_lengths[index, 0]
    tokens = batches.tokens[index, 0, :length]
    characters = task.vocabulary.characters
    return (
        "".join(characters[token] for token in tokens),
        task.languages[batches.labels[index, 0]],
    )
