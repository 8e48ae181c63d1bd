"""How well a classifier does on names: logits, loss, accuracy, F1, confusion, attention."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from rnnjax.text import pad
from train.forward import Attention, forward, random_carry
from train.names.batches import Encoded, bucket_of, in_order
from train.names.task import Task
from train.names.update import Trainer

BATCH_SIZE = 256


def logits_of(
    trainer: Trainer,
    params,
    encoded: Encoded,
    batch_size: int,
    key: jax.Array,
    carries: np.ndarray | None = None,
) -> np.ndarray:
    """Logits of every example.

    Args:
        trainer: The model and what its recurrence starts from.
        params: Parameters.
        encoded: The examples.
        batch_size: Rows of a batch where the carry is kept from batch to batch: there,
            as in lesson 004, the batches come in order and a last short one is left out.
        key: Of the random initial states, where the recipe has them.
        carries: ``(examples, features)`` initial states in their place, or None.

    Returns:
        ``(examples, classes)``; fewer rows where a short batch is left out.
    """
    if trainer.carry == "kept":
        return _with_kept_carry(trainer, params, encoded, batch_size)
    if carries is None and trainer.carry == "random":
        features = trainer.model.hidden_size
        carries = np.asarray(random_carry(key, len(encoded.labels), features))
    order = np.argsort(encoded.seq_lengths, kind="stable")
    logits = []
    for start in range(0, len(order), BATCH_SIZE):
        # Filled up with repeated rows, so that every batch has the same shape.
        rows = np.resize(order[start : start + BATCH_SIZE], BATCH_SIZE)
        widest = encoded.seq_lengths[rows].max()
        width = trainer.widths[bucket_of(widest, trainer.widths)]
        logits.append(
            batch_logits(
                trainer,
                params,
                encoded.tokens[rows, :width],
                encoded.seq_lengths[rows],
                None if carries is None else carries[rows],
            )
        )
    flat = np.concatenate(logits)[: len(order)]
    result = np.empty_like(flat)
    result[order] = flat
    return result


@functools.partial(jax.jit, static_argnums=0)
def batch_logits(trainer: Trainer, params, tokens, seq_lengths, carry) -> jax.Array:
    """Logits of one batch, ``(batch, classes)``."""
    return trainer.apply(params, tokens, seq_lengths, carry, {})[0]


def _with_kept_carry(trainer, params, encoded, batch_size):
    order = np.arange(len(encoded.labels))
    batches = in_order(encoded, order, batch_size, trainer.widths, drop_last=True)
    logits = _carried_logits(trainer, params, batches.tokens, batches.seq_lengths)
    return np.asarray(logits).reshape(-1, logits.shape[-1])


@functools.partial(jax.jit, static_argnums=0)
def _carried_logits(trainer, params, tokens, seq_lengths):
    def step(carry, batch):
        logits, carry = trainer.apply(params, *batch, carry, {})
        return carry, logits

    carry = trainer.zero_carry(params, tokens.shape[1])
    return jax.lax.scan(step, carry, (tokens, seq_lengths))[1]


def attention_of(
    trainer: Trainer, params, texts: list[str], vocabulary
) -> list[Attention]:
    """Where attention looks in texts; nothing for a model without attention.

    Args:
        trainer: Has the model.
        params: Parameters.
        texts: Texts in the vocabulary's characters.
        vocabulary: Encodes them.

    Returns:
        One for each text, or an empty list.
    """
    padded = pad([vocabulary.encode(text) for text in texts])

    def attend(params):
        return forward(trainer.model, params, *padded)[1]

    if jax.eval_shape(attend, params) is None:
        return []
    # To NumPy first: JAX would compile a slice for each length.
    weights = np.asarray(attend(params))
    return [
        Attention(text, row[: len(text)])
        for text, row in zip(texts, weights, strict=True)
    ]


class Report(NamedTuple):
    """Figures of a classifier on a set of examples.

    Attributes:
        loss: Mean loss, nats.
        accuracy: Share of examples whose largest logit is that of the label.
        macro_f1: Mean F1 of the classes that occur, as a label or as an answer.
        confusion: ``(classes, classes)`` counts; rows are labels, columns answers.
        precision: ``(classes,)``; 0 for a class that is never the answer.
        recall: ``(classes,)``; 0 for a class that is never the label.
        f1: ``(classes,)`` harmonic mean of the two.
    """

    loss: float
    accuracy: float
    macro_f1: float
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def report(losses: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> Report:
    """Sum up how well the labels were found.

    Args:
        losses: ``(examples,)`` nats.
        logits: ``(examples, classes)``.
        labels: ``(examples,)``.

    Returns:
        The figures.

    Example:
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> figures = report(np.zeros(3), logits, np.array([0, 1, 1]))
        >>> round(figures.accuracy, 3), figures.confusion.tolist()
        (0.667, [[1, 0], [1, 1]])
    """
    num_classes = logits.shape[1]
    answers = logits.argmax(axis=1)
    confusion = np.zeros((num_classes, num_classes), int)
    np.add.at(confusion, (labels, answers), 1)
    correct = np.diag(confusion)
    as_answer, as_label = confusion.sum(axis=0), confusion.sum(axis=1)
    f1 = _ratio(2 * correct, as_answer + as_label)
    return Report(
        loss=float(np.mean(losses)),
        accuracy=float(correct.sum() / confusion.sum()),
        macro_f1=float(f1[as_answer + as_label > 0].mean()),
        confusion=confusion,
        precision=_ratio(correct, as_answer),
        recall=_ratio(correct, as_label),
        f1=f1,
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def table(figures: Report, languages: tuple[str, ...]) -> str:
    """The figures of every language, as lines for people."""
    width = max(8, *map(len, languages))
    lines = [f"{'language':<{width}}  names  precision  recall     F1"]
    for i, language in enumerate(languages):
        lines.append(
            f"{language:<{width}}  {figures.confusion[i].sum():5d}  "
            f"{figures.precision[i]:9.3f}  {figures.recall[i]:6.3f}  {figures.f1[i]:.3f}"
        )
    return "\n".join(lines)


def evaluate(task: Task, params, index: int, which: str) -> Report:
    """Figures of one replica on its test or validation names."""
    return report_of(task, logits_for(task, params, index, which), index, which)


def report_of(task: Task, logits: np.ndarray, index: int, which: str) -> Report:
    """Figures of logits for one replica's test or validation names."""
    labels = getattr(task.replicas[index], which).labels[: len(logits)]
    losses = np.asarray(jax.jit(task.settings.test_loss)(logits, labels))
    return report(losses, logits, labels)


def logits_for(
    task: Task, params, index: int, which: str, carries: np.ndarray | None = None
) -> np.ndarray:
    """Logits of one replica for its test or validation names, see :func:`logits_of`."""
    replica = task.replicas[index]
    # A stream of its own, for the recipe whose initial states are random.
    key = jax.random.fold_in(jax.random.key(replica.seed), 1)
    return logits_of(
        task.trainer,
        params,
        getattr(replica, which),
        task.settings.batch_size,
        key,
        carries,
    )
