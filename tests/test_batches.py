"""Batches as they are planned on the host."""

import numpy as np
import pytest

from rnnjax.text import LETTERS_57, Vocabulary
from train.names import batches as plans
from train.names.splits import Examples

VOCABULARY = Vocabulary(LETTERS_57)
NAMES = ["a", "bb", "ccc", "dddd", "ee", "ffffff", "g", "hhh", "ii", "jjjjj", "k"]
WIDTHS = (2, 4, 9)


@pytest.fixture
def encoded():
    labels = np.arange(len(NAMES), dtype=np.int32) % 3
    return plans.encode(Examples(np.array(NAMES, dtype=object), labels), VOCABULARY, 9)


def read(batches):
    """The names that the batches hold, with their labels."""
    return [
        (VOCABULARY.decode(tokens[:length]), int(label))
        for tokens, length, label in zip(
            batches.tokens.reshape(-1, batches.tokens.shape[-1]),
            batches.seq_lengths.ravel(),
            batches.labels.ravel(),
            strict=True,
        )
        if label != plans.ABSENT
    ]


def pairs(encoded, order):
    return [(NAMES[i], int(encoded.labels[i])) for i in order]


def test_in_order_holds_every_name_in_order(encoded, rng):
    order = rng.permutation(len(NAMES))
    batches = plans.in_order(encoded, order, 4, WIDTHS)
    assert batches.tokens.shape == (3, 4, 9)
    assert read(batches) == pairs(encoded, order)
    assert batches.labels[-1, -1] == plans.ABSENT
    assert batches.seq_lengths[-1, -1] == 0


def test_in_order_can_leave_out_the_short_batch(encoded):
    batches = plans.in_order(encoded, np.arange(11), 4, WIDTHS, drop_last=True)
    assert read(batches) == pairs(encoded, range(8))


def test_a_bucket_is_the_smallest_width_that_holds_its_batch(encoded):
    batches = plans.in_order(encoded, np.arange(11), 2, WIDTHS)
    longest = batches.seq_lengths.max(axis=1)
    expected = [next(i for i, w in enumerate(WIDTHS) if w >= n) for n in longest]
    assert batches.buckets.tolist() == expected


def test_by_length_holds_every_name_once_and_wastes_less(encoded, rng):
    order = plans.by_length(encoded, WIDTHS, 3, rng)
    assert sorted(order) == list(range(len(NAMES)))

    def steps(order):
        batches = plans.in_order(encoded, order, 3, WIDTHS)
        return np.array(WIDTHS)[batches.buckets].sum()

    assert steps(order) <= steps(rng.permutation(len(NAMES)))


def test_class_uniform_draws_classes_and_names_evenly(encoded, rng):
    batches = plans.class_uniform(encoded, 6000, 1, 0, VOCABULARY, WIDTHS, rng)
    counts = np.bincount(batches.labels.ravel())
    # Four standard deviations of a fair draw.
    np.testing.assert_allclose(counts, 2000, atol=4 * (6000 * 2 / 9) ** 0.5)
    assert set(read(batches)) == set(pairs(encoded, range(11)))


@pytest.mark.parametrize("noise", [1, 3])
def test_noise_is_a_suffix_of_0_to_one_more_than_noise(encoded, rng, noise):
    batches = plans.class_uniform(encoded, 3000, 1, noise, VOCABULARY, (9,), rng)
    lengths = []
    for text, label in read(batches):
        name = text.rstrip(plans.NOISE)
        assert (name, label) in pairs(encoded, range(11))
        lengths.append(len(text) - len(name))
    counts = np.bincount(lengths)
    assert len(counts) == noise + 2
    expected = 3000 / (noise + 2)
    np.testing.assert_allclose(counts, expected, atol=4 * expected**0.5)


def test_replicas_take_the_first_ones_number_of_batches(encoded):
    first = plans.in_order(encoded, np.arange(11), 3, WIDTHS)
    shorter = plans.in_order(encoded, np.arange(5), 3, WIDTHS)
    joined = plans.join_replicas([first, shorter])
    assert joined.tokens.shape == (4, 2, 3, 9)
    np.testing.assert_array_equal(joined.tokens[:, 0], first.tokens)
    np.testing.assert_array_equal(joined.tokens[2, 1], shorter.tokens[0])
    assert (joined.buckets >= first.buckets).all()
