"""The names as each lesson cleans and divides them."""

import functools
import string
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rnnjax.text import LETTERS_57, LETTERS_59, to_alphabet, transliterate
from train.cli import InputError, printable
from train.datasets import NamesData


class Examples(NamedTuple):
    """Names and their labels.

    Attributes:
        names: The names, in the alphabet of the split.
        labels: ``(names,)`` int32 indices of their languages.
    """

    names: np.ndarray
    labels: np.ndarray

    def at(self, indices: np.ndarray) -> "Examples":
        """The examples at these places."""
        return Examples(self.names[indices], self.labels[indices])


class Split(NamedTuple):
    """Names to learn from and names to be tested on.

    Attributes:
        alphabet: The characters that occur, in the order of their tokens.
        languages: The classes, in the order of their labels.
        train: What the parameters learn from.
        validation: What is looked at during training; None if the lesson has none.
        test: What is looked at in the end (lesson 004 also looks during training).
    """

    alphabet: str
    languages: tuple[str, ...]
    train: Examples
    validation: Examples | None
    test: Examples


def practical(data: NamesData, rng: np.random.Generator) -> Split:
    """Lesson 000: 57 letters; 75, 10 and 15 % of every language."""
    examples = clean(data, lambda name: to_alphabet(name, LETTERS_57))
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for label in range(len(data.languages)):
        indices = rng.permutation(np.flatnonzero(examples.labels == label))
        num_train = int(0.75 * len(indices))
        num_validation = int(0.10 * len(indices))
        cut = np.split(indices, [num_train, num_train + num_validation])
        for part, chosen in zip(parts, cut, strict=True):
            part.append(chosen)
    train, validation, test = (examples.at(np.concatenate(part)) for part in parts)
    # With fewer than ten names of every language a tenth of them is none.
    some = validation if len(validation.names) else None
    return Split(LETTERS_57, data.languages, train, some, test)


PRUNED = 50
"""Lesson 001 keeps this many names of a language."""


def workshop(data: NamesData, rng: np.random.Generator) -> Split:
    """Lesson 001: 57 letters; 50 names of every language, the rest is held out.

    A held-out name that is also among the 50 of its language is left out of the test.
    """
    examples = clean(data, lambda name: to_alphabet(name, LETTERS_57))
    kept, rest = [], []
    for label in range(len(data.languages)):
        indices = rng.permutation(np.flatnonzero(examples.labels == label))
        kept.append(indices[:PRUNED])
        rest.append(indices[PRUNED:])
    return workshop_split(data, examples, kept, rest)


def workshop_split(
    data: NamesData,
    examples: Examples,
    kept: list[np.ndarray],
    rest: list[np.ndarray],
) -> Split:
    """Lesson 001's split from the places of each language's names: 50, and the rest."""
    unknown = [
        there[~np.isin(examples.names[there], examples.names[here])]
        for here, there in zip(kept, rest, strict=True)
    ]
    train = examples.at(np.concatenate(kept))
    test = examples.at(np.concatenate(unknown))
    if not len(test.names):
        raise InputError(
            f"{data.directory} has at most {PRUNED} names of every language, and the "
            "workshop trains on that many; expected more, to be tested on"
        )
    return Split(LETTERS_57, data.languages, train, None, test)


def blog(data: NamesData, rng: np.random.Generator) -> Split:
    """Lesson 003: ASCII spelling; names with other characters are skipped; 10 % test.

    The 10 % are random but hold every language's share. Names that occur several times
    may be on both sides, as in the lesson.
    """
    examples = clean(data, ascii_or_nothing)
    test = _stratified(examples.labels, 0.1, rng)
    return Split(
        LETTERS_59,
        data.languages,
        examples.at(_others(test, len(examples.labels))),
        None,
        examples.at(test),
    )


def binary(data: NamesData, rng: np.random.Generator) -> Split:
    """Lesson 004: German or Italian, raw characters; names in both removed; 80/20."""
    examples, alphabet, languages = binary_examples(data)
    order = rng.permutation(len(examples.labels))
    train, test = (
        examples.at(part) for part in np.split(order, [int(0.8 * len(order))])
    )
    return Split(alphabet, languages, train, None, test)


class BinaryExamples(NamedTuple):
    """Lesson 004's names.

    Attributes:
        examples: The names.
        alphabet: The characters that occur, and all letters.
        languages: German and Italian.
    """

    examples: Examples
    alphabet: str
    languages: tuple[str, ...]


def binary_examples(data: NamesData) -> BinaryExamples:
    """German and Italian names without those of both.

    Raises:
        InputError: If a file is missing, or there are too few names.
    """
    wanted = ("German", "Italian")
    missing = [language for language in wanted if language not in data.languages]
    if missing:
        raise InputError(
            f"{data.directory} has no {' and no '.join(missing)}.txt; the recipe "
            "binary needs German.txt and Italian.txt"
        )
    names = [
        [data.names[i] for i in np.flatnonzero(data.labels == data.languages.index(w))]
        for w in wanted
    ]
    alphabet = "".join(
        sorted(set("".join(names[0] + names[1])) | set(string.ascii_letters))
    )
    for name in set(names[0]) & set(names[1]):
        # One of each only, as the lesson does: a second German one would stay.
        for side in names:
            side.remove(name)
    examples = Examples(
        np.array(names[0] + names[1], dtype=object),
        np.repeat(np.arange(2, dtype=np.int32), [len(side) for side in names]),
    )
    if not int(0.8 * len(examples.labels)):
        raise InputError(f"{data.directory} has too few German and Italian names")
    return BinaryExamples(examples, alphabet, wanted)


def best(data: NamesData, rng: np.random.Generator) -> Split:
    """The blog's protocol on raw characters: the same names are skipped, 10 % test."""
    examples = clean(data, lambda name: name.strip() if ascii_or_nothing(name) else "")
    test = _stratified(examples.labels, 0.1, rng)
    return _best_split(data, examples, test)


def best_leak_free(data: NamesData, rng: np.random.Generator) -> Split:
    """As best, but each name stands once, and no test name is in training.

    A name of several languages stands once in each of them, all on one side.
    """
    examples = clean(data, lambda name: name.strip() if ascii_or_nothing(name) else "")
    pairs = dict.fromkeys(zip(examples.names, examples.labels.tolist(), strict=True))
    examples = Examples(
        np.array([name for name, _ in pairs], dtype=object),
        np.array([label for _, label in pairs], np.int32),
    )
    _, first, group = np.unique(
        examples.names.astype(str), return_index=True, return_inverse=True
    )
    test_groups = _stratified(examples.labels[first], 0.1, rng)
    return _best_split(data, examples, np.flatnonzero(np.isin(group, test_groups)))


def _best_split(data, examples, test):
    alphabet = "".join(sorted(set("".join(examples.names))))
    train = _others(test, len(examples.labels))
    return Split(alphabet, data.languages, examples.at(train), None, examples.at(test))


def ascii_or_nothing(name: str) -> str:
    spelling = transliterate(name.rstrip())
    return spelling if set(spelling) <= set(LETTERS_59) else ""


def clean(data: NamesData, normalise: Callable[[str], str]) -> Examples:
    """Normalise the names and drop those that nothing is left of."""
    names = np.array([normalise(name) for name in data.names], dtype=object)
    left = np.array([bool(name) for name in names])
    for label, language in enumerate(data.languages):
        if not left[data.labels == label].any():
            raise InputError(
                f"{data.directory}/{language}.txt has no name that this recipe can "
                "spell; expected names in Latin script"
            )
    if not left.all():
        first = printable(data.names[int(np.argmin(left))])
        _say_once(
            f"left out {np.sum(~left):,} of {len(left):,} names that this recipe cannot "
            f"spell, the first {first!r} ({data.languages[data.labels[np.argmin(left)]]})"
        )
    return Examples(names[left], data.labels[left])


@functools.cache
def _say_once(message: str) -> None:
    print(message)


def _stratified(labels, share, rng) -> np.ndarray:
    """Places of a random share that holds every label's part, rounded fairly."""
    total = int(np.ceil(share * len(labels)))
    sizes = np.bincount(labels)
    exact = sizes * (total / len(labels))
    counts = exact.astype(int)
    most_due = np.argsort(-(exact - counts), kind="stable")
    counts[most_due[: total - counts.sum()]] += 1
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(counts)
    ]
    return np.concatenate(chosen)


def _others(chosen: np.ndarray, total: int) -> np.ndarray:
    return np.setdiff1d(np.arange(total), chosen)
