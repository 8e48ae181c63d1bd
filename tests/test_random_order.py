"""Splits and the order of batches, against scikit-learn and at their edges."""

import numpy as np
import pytest

from rnnjax.random import DataLoader, TorchGenerator, random_split, stratified_split

# The names of lesson 003's 18 languages are as unequal.
COUNTS = [11, 2, 300, 77, 24, 5, 150, 9, 33, 2, 18, 64]


def labels_in_no_order(seed):
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    return np.random.default_rng(seed).permutation(labels)


@pytest.mark.parametrize("test_size", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("columns", [0, 1])
def test_stratified_split_is_scikit_learns(test_size, columns):
    model_selection = pytest.importorskip("sklearn.model_selection")
    for seed in range(8):
        labels = labels_in_no_order(seed)
        if columns:
            labels = labels[:, None]
        expected = model_selection.train_test_split(
            np.arange(len(labels)),
            test_size=test_size,
            stratify=labels,
            random_state=seed,
        )
        random = np.random.RandomState(seed)
        split = stratified_split(labels, test_size, random)
        np.testing.assert_array_equal(split.train, expected[0])
        np.testing.assert_array_equal(split.test, expected[1])


def test_stratified_split_leaves_numpys_generator_where_scikit_learn_does():
    model_selection = pytest.importorskip("sklearn.model_selection")
    labels = labels_in_no_order(0)
    np.random.seed(5)
    model_selection.train_test_split(labels, test_size=0.1, stratify=labels)
    random = np.random.RandomState(5)
    stratified_split(labels, 0.1, random)
    assert random.randint(2**31) == np.random.randint(2**31)


def test_labels_in_rows_are_ordered_as_text():
    labels = labels_in_no_order(0)
    as_numbers = stratified_split(labels, 0.1, np.random.RandomState(0))
    as_text = stratified_split(labels[:, None], 0.1, np.random.RandomState(0))
    assert (as_numbers.test != as_text.test).any()
    assert np.bincount(labels[as_text.test]).sum() == np.ceil(0.1 * labels.size)


def test_stratified_split_refuses_classes_that_cannot_be_divided():
    with pytest.raises(ValueError, match="the smallest of 1"):
        stratified_split(np.array([0, 0, 0, 1]), 0.5, np.random.RandomState(0))
    with pytest.raises(ValueError, match="into 5 and 1"):
        stratified_split(np.array([0, 0, 1, 1, 2, 2]), 0.1, np.random.RandomState(0))


def test_random_split_has_every_example_once():
    parts = random_split(1427, (1141, 286), TorchGenerator(3))
    assert [part.size for part in parts] == [1141, 286]
    assert sorted(np.concatenate(parts)) == list(range(1427))


@pytest.mark.parametrize("lengths", [(3, 3), (0.5, 0.6), (8,)])
def test_random_split_refuses_lengths_that_do_not_add_up(lengths):
    with pytest.raises(ValueError, match="add up to"):
        random_split(7, lengths, TorchGenerator(3))


def test_even_an_unshuffled_loader_takes_words():
    generator, other = TorchGenerator(3), TorchGenerator(3)
    iter(DataLoader(5, generator))
    other.words(2)
    np.testing.assert_array_equal(generator.state(), other.state())


def test_leaving_early_changes_the_epochs_of_an_own_generator_only():
    def second_epoch(leave, own):
        generator = TorchGenerator(3)
        own = generator if own else None
        loader = DataLoader(20, generator, 4, shuffle=True, own_generator=own)
        for _ in loader:
            if leave:
                break
        return np.concatenate(list(loader)).tolist()

    assert second_epoch(True, own=False) == second_epoch(False, own=False)
    assert second_epoch(True, own=True) != second_epoch(False, own=True)


@pytest.mark.parametrize("sizes", [(0, 4), (5, 0)])
def test_loader_refuses_sizes_below_one(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        DataLoader(sizes[0], TorchGenerator(0), sizes[1])
