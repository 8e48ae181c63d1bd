"""The names as each lesson's own program divides them, drawn as it draws."""

import numpy as np

from rnnjax.random.splits import random_split, stratified_split
from rnnjax.text import LETTERS_57, LETTERS_59, to_alphabet
from train.cli import InputError
from train.datasets import NamesData
from train.names.splits import (
    PRUNED,
    Split,
    ascii_or_nothing,
    binary_examples,
    clean,
    workshop_split,
)
from train.runs.seeded import Generators


def practical(data: NamesData, generators: Generators) -> Split:
    """Lesson 000: ``random.sample`` of every file, first to train, then to validate."""
    examples = clean(data, lambda name: to_alphabet(name, LETTERS_57))
    train, validation, test = [], [], []
    for label in range(len(data.languages)):
        places = np.flatnonzero(examples.labels == label).tolist()
        chosen = generators.python.sample(places, int(0.75 * len(places)))
        rest = sorted(set(places) - set(chosen))
        validated = generators.python.sample(rest, int(0.10 * len(places)))
        train += chosen
        validation += validated
        test += sorted(set(rest) - set(validated))
    parts = (examples.at(np.array(part, int)) for part in (train, validation, test))
    return Split(LETTERS_57, data.languages, *parts)


def workshop(data: NamesData, generators: Generators) -> Split:
    """Lesson 001: ``random.shuffle`` of every file, then its first 50 lines."""
    examples = clean(data, lambda name: to_alphabet(name, LETTERS_57))
    kept, rest = [], []
    for label in range(len(data.languages)):
        places = np.flatnonzero(examples.labels == label).tolist()
        generators.python.shuffle(places)
        kept.append(np.array(places[:PRUNED], int))
        rest.append(np.array(places[PRUNED:], int))
    return workshop_split(data, examples, kept, rest)


def blog(data: NamesData, generators: Generators) -> Split:
    """Lesson 003: scikit-learn's stratified split.

    Its labels are tensors of one number, which scikit-learn orders as text.
    """
    examples = clean(data, ascii_or_nothing)
    try:
        parts = stratified_split(examples.labels[:, None], 0.1, generators.numpy)
    except ValueError as error:
        raise InputError(f"{data.directory} has too few names: {error}") from None
    train, test = examples.at(parts.train), examples.at(parts.test)
    return Split(LETTERS_59, data.languages, train, None, test)


def binary(data: NamesData, generators: Generators) -> Split:
    """Lesson 004: ``torch.utils.data.random_split``."""
    examples, alphabet, languages = binary_examples(data)
    num_train = int(0.8 * len(examples.labels))
    lengths = (num_train, len(examples.labels) - num_train)
    parts = random_split(len(examples.labels), lengths, generators.torch)
    train, test = (examples.at(part) for part in parts)
    return Split(alphabet, languages, train, None, test)


SPLITS = {
    "practical": practical,
    "workshop": workshop,
    "blog": blog,
    "binary": binary,
}
