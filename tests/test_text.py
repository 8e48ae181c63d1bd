"""Alphabets, vocabularies, padding, buckets."""

import itertools

import numpy as np
import pytest

from rnnjax.text import (
    LETTERS_57,
    LETTERS_59,
    Vocabulary,
    bucket_widths,
    pad,
    to_alphabet,
    transliterate,
)


def test_alphabets_have_the_lessons_sizes():
    assert len(LETTERS_57) == 57
    assert len(LETTERS_59) == 59
    assert LETTERS_57[0] == LETTERS_59[0] == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ślusàrski", "Slusarski"),
        ("Weiß", "Wei"),
        ("Łoś", "os"),
        ("O'Neill-Smith", "O'NeillSmith"),
        ("日本", ""),
    ],
)
def test_to_alphabet_drops_what_the_lesson_drops(text, expected):
    assert to_alphabet(text, LETTERS_57) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ślusàrski", "Slusarski"),
        ("Weiß", "Weiss"),
        ("Łoś", "Los"),
        ("Nguyễn", "Nguyen"),
        ("Ærø", "AEro"),
        ("a\N{NO-BREAK SPACE}b", "a b"),
        ("Smith/B1", "Smith/B1"),
    ],
)
def test_transliterate(text, expected):
    assert transliterate(text) == expected


def test_vocabulary_goes_round():
    vocabulary = Vocabulary.of("hello world")
    assert vocabulary.characters == "helo wrd"
    assert vocabulary.decode(vocabulary.encode("world")) == "world"
    assert vocabulary.encode("hw").dtype == np.int32


def test_vocabulary_names_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"'xy' not in the vocabulary of 3"):
        Vocabulary("abc").encode("axyx")


def test_vocabulary_refuses_a_character_that_occurs_twice():
    with pytest.raises(ValueError, match=r"occur twice: 'ac'"):
        Vocabulary("abcac")


def test_pad():
    padded = pad([np.array([5]), np.array([1, 2, 3]), np.array([], int)], 4)
    assert padded.tokens.tolist() == [[5, 0, 0, 0], [1, 2, 3, 0], [0, 0, 0, 0]]
    assert padded.seq_lengths.tolist() == [1, 3, 0]


def test_pad_refuses_a_row_that_is_too_long():
    with pytest.raises(ValueError, match=r"rows\[1\] has 3 tokens; expected at most 2"):
        pad([np.array([1]), np.array([1, 2, 3])], 2)


@pytest.mark.parametrize("num_buckets", [1, 2, 3, 5])
def test_bucket_widths_waste_the_fewest_steps(num_buckets, rng):
    seq_lengths = rng.integers(1, 10, size=40)
    widths = bucket_widths(seq_lengths, num_buckets)

    def steps(widths):
        return np.array(widths)[np.searchsorted(widths, seq_lengths)].sum()

    lengths = np.unique(seq_lengths).tolist()
    others = itertools.combinations(lengths[:-1], min(num_buckets, len(lengths)) - 1)
    assert widths[-1] == seq_lengths.max()
    assert len(widths) <= num_buckets
    assert steps(widths) == min(steps((*some, lengths[-1])) for some in others)
