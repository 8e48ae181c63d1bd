"""Examples for training and for testing, as PyTorch and scikit-learn divide them.

The lessons that divide them by Python's own ``random`` need nothing from here:
``random.Random(seed)`` is what ``random.seed(seed)`` begins.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnjax.random.generator import TorchGenerator


def random_split(
    size: int, lengths: Sequence[float], generator: TorchGenerator
) -> list[np.ndarray]:
    """The indices of ``torch.utils.data.random_split(range(size), lengths)``.

    Args:
        size: Number of examples.
        lengths: Of the parts: numbers of examples, or shares that add up to 1, of which
            what is left over by rounding goes to the first parts, one each.
        generator: What draws.

    Returns:
        One array of indices for each part.

    Raises:
        ValueError: If the lengths do not add up to ``size``, nor to 1.

    Example:
        >>> train, test = random_split(5, [0.8, 0.2], TorchGenerator(0))
        >>> train.tolist(), test.tolist()
        ([4, 0, 1, 3], [2])
    """
    total = sum(lengths)
    if math.isclose(total, 1) and total <= 1:
        counts = [math.floor(size * share) for share in lengths]
        for i in range(size - sum(counts)):
            counts[i % len(counts)] += 1
    elif total == size:
        counts = [int(length) for length in lengths]
    else:
        raise ValueError(
            f"the lengths {list(lengths)} add up to {total}; expected {size}, the "
            "number of examples, or 1"
        )
    return np.split(generator.randperm(size), np.cumsum(counts)[:-1])


class Split(NamedTuple):
    """Indices of examples.

    Attributes:
        train: ``(n,)`` to train with.
        test: ``(m,)`` to test with.
    """

    train: np.ndarray
    test: np.ndarray


def stratified_split(
    labels: np.ndarray, test_size: float, random: np.random.RandomState
) -> Split:
    """``train_test_split(range(n), test_size=test_size, stratify=labels)``.

    Args:
        labels: ``(n,)``, or ``(n, 1)``, which scikit-learn makes of a list of tensors
            of one number (lesson 003's labels). These it orders as text, so that class
            10 comes before class 2, and so the draws go to other classes.
        test_size: Share of the examples to test with.
        random: What draws: ``np.random.RandomState(seed)`` is what
            ``np.random.seed(seed)`` or ``random_state=seed`` begins.

    Returns:
        The indices, both shuffled.

    Raises:
        ValueError: If a class has a single example, or a side would have fewer examples
            than there are classes.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> split = stratified_split(labels, 0.5, np.random.RandomState(0))
        >>> labels[split.train].tolist(), labels[split.test].tolist()
        ([0, 1, 0], [1, 0, 0])

    Source:
        ``sklearn.model_selection.StratifiedShuffleSplit``.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        labels = np.array([" ".join(row) for row in labels.astype(str)])
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    n_test = math.ceil(test_size * labels.size)
    n_train = labels.size - n_test
    if counts.min() < 2 or min(n_train, n_test) < counts.size:
        raise ValueError(
            f"{labels.size} examples of {counts.size} classes, the smallest of "
            f"{counts.min()}, cannot be divided into {n_train} and {n_test}; expected "
            "at least 2 of each class, and on each side as many as there are classes"
        )
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    train_counts = _shares(counts, n_train, random)
    test_counts = _shares(counts - train_counts, n_test, random)
    train, test = [], []
    for rows, here, there in zip(members, train_counts, test_counts, strict=True):
        rows = rows[random.permutation(rows.size)]
        train.append(rows[:here])
        test.append(rows[here : here + there])
    shuffled = (random.permutation(np.concatenate(side)) for side in (train, test))
    return Split(*shuffled)


def _shares(
    counts: np.ndarray, draws: int, random: np.random.RandomState
) -> np.ndarray:
    """How many of each class to take; ties for the last ones are broken at random."""
    exact = counts / counts.sum() * draws
    shares = np.floor(exact)
    missing = int(draws - shares.sum())
    rest = exact - shares
    for value in np.unique(rest)[::-1]:
        if not missing:
            break
        (tied,) = np.where(rest == value)
        more = min(tied.size, missing)
        shares[random.choice(tied, size=more, replace=False)] += 1
        missing -= more
    return shares.astype(int)
