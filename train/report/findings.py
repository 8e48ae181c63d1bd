"""What the test names showed: the part of a run's report that is in no other file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from train.forward import Attention

NUM_MISTAKES = 20


class Mistake(NamedTuple):
    """A name that was taken for one of another language.

    Attributes:
        name: The name.
        language: Its language.
        answer: The language that the model took it for.
        prob: The probability of the answer.
        prob_of_language: That of the name's own language.
    """

    name: str
    language: str
    answer: str
    prob: float
    prob_of_language: float


class AttendedName(NamedTuple):
    """How attention weighed the characters of a name.

    Attributes:
        text: The characters, noise included.
        language: The name's language.
        weights: One for each character; they sum to 1.
    """

    text: str
    language: str
    weights: tuple[float, ...]


class Findings(NamedTuple):
    """What findings.json holds.

    Attributes:
        languages: The classes.
        confusion: Counts; rows are languages, columns answers.
        mistakes: The wrong answers that the model was surest of, surest first.
        attention: Some names; none for a model without attention.
    """

    languages: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]
    attention: tuple[AttendedName, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return self._asdict() | {
            "mistakes": [mistake._asdict() for mistake in self.mistakes],
            "attention": [attention._asdict() for attention in self.attention],
        }

    @classmethod
    def from_json(cls, value: Any) -> "Findings":
        """The inverse of to_json.

        Raises:
            TypeError: If something has another form.
            KeyError: If something is missing.
            ValueError: If the parts do not fit each other.
        """
        languages = tuple(map(_text, value["languages"]))
        confusion = tuple(tuple(map(_whole, row)) for row in value["confusion"])
        if {len(languages)} != {len(confusion), *map(len, confusion)}:
            raise ValueError("the confusion matrix has another size")
        mistakes = tuple(
            Mistake(
                _text(each["name"]),
                _text(each["language"]),
                _text(each["answer"]),
                float(each["prob"]),
                float(each["prob_of_language"]),
            )
            for each in value["mistakes"]
        )
        attention = tuple(
            AttendedName(
                _text(each["text"]),
                _text(each["language"]),
                tuple(map(float, each["weights"])),
            )
            for each in value["attention"]
        )
        if any(len(each.text) != len(each.weights) for each in attention):
            raise ValueError("attention has not one weight for each character")
        return cls(languages, confusion, mistakes, attention)


def find(
    confusion: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    attended: Sequence[Attention],
    attended_languages: Sequence[str],
    languages: Sequence[str],
) -> Findings:
    """Sum up what the test names showed.

    Args:
        confusion: ``(classes, classes)`` counts.
        logits: ``(examples, classes)``.
        labels: ``(examples,)``.
        names: ``(examples,)``.
        attended: Where attention looked in some names.
        attended_languages: The languages of those.
        languages: Names of the classes.

    Returns:
        The findings.
    """
    exps = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probs = exps / exps.sum(axis=1, keepdims=True)
    answers = logits.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    surest = wrong[np.argsort(-probs[wrong, answers[wrong]], kind="stable")]
    return Findings(
        tuple(languages),
        tuple(map(tuple, confusion.tolist())),
        tuple(
            Mistake(
                str(names[i]),
                languages[labels[i]],
                languages[answers[i]],
                round(float(probs[i, answers[i]]), 6),
                round(float(probs[i, labels[i]]), 6),
            )
            for i in surest[:NUM_MISTAKES]
        ),
        tuple(
            AttendedName(each.text, language, tuple(np.round(each.weights, 4).tolist()))
            for each, language in zip(attended, attended_languages, strict=True)
        ),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value
