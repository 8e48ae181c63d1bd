"""How well a classifier does: loss, accuracy, F1, confusion."""

from typing import NamedTuple

import numpy as np


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
