"""Batches of names, planned on the host: a pure function of the seed and the round."""

from typing import NamedTuple

import numpy as np

from rnnjax.text import Vocabulary, pad
from train.names.splits import Examples

ABSENT = -1
"""The label of a row that only fills up a batch."""


class Encoded(NamedTuple):
    """Examples as arrays.

    Attributes:
        tokens: ``(names, time)`` int32.
        seq_lengths: ``(names,)`` int32.
        labels: ``(names,)`` int32.
    """

    tokens: np.ndarray
    seq_lengths: np.ndarray
    labels: np.ndarray


class Batches(NamedTuple):
    """Several batches, one after the other.

    Attributes:
        tokens: ``(batches, batch, time)`` int32.
        seq_lengths: ``(batches, batch)`` int32; 0 in absent rows.
        labels: ``(batches, batch)`` int32; :data:`ABSENT` in absent rows.
        buckets: ``(batches,)`` int32, the index of each batch's width.
    """

    tokens: np.ndarray
    seq_lengths: np.ndarray
    labels: np.ndarray
    buckets: np.ndarray

    @property
    def num_batches(self) -> int:
        """Number of batches."""
        return len(self.buckets)


def encode(examples: Examples, vocabulary: Vocabulary, max_length: int) -> Encoded:
    """Names as padded tokens.

    Args:
        examples: The names.
        vocabulary: Has all their characters.
        max_length: Time steps of the result.

    Returns:
        The arrays.
    """
    padded = pad([vocabulary.encode(name) for name in examples.names], max_length)
    return Encoded(padded.tokens, padded.seq_lengths, examples.labels)


def in_order(
    encoded: Encoded,
    order: np.ndarray,
    batch_size: int,
    widths: tuple[int, ...],
    drop_last: bool = False,
) -> Batches:
    """Cut a sequence of examples into batches.

    Args:
        encoded: The examples.
        order: Their places, in the order in which they are wanted.
        batch_size: Rows of a batch.
        widths: Ascending lengths that a batch may be padded to.
        drop_last: Leave out a last batch with fewer rows; otherwise it is filled up
            with absent rows.

    Returns:
        The batches.
    """
    if drop_last:
        order = order[: len(order) // batch_size * batch_size]
    missing = -len(order) % batch_size
    rows = np.concatenate([order, np.zeros(missing, order.dtype)])
    present = np.arange(len(rows)) < len(order)
    shape = (-1, batch_size)
    seq_lengths = np.where(present, encoded.seq_lengths[rows], 0).reshape(shape)
    return Batches(
        tokens=encoded.tokens[rows].reshape(*shape, encoded.tokens.shape[1]),
        seq_lengths=seq_lengths.astype(np.int32),
        labels=np.where(present, encoded.labels[rows], ABSENT)
        .reshape(shape)
        .astype(np.int32),
        buckets=bucket_of(seq_lengths.max(axis=1, initial=0), widths),
    )


def bucket_of(seq_lengths: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """The index of the smallest width that holds each length."""
    return np.searchsorted(widths, seq_lengths).astype(np.int32)


def by_length(
    encoded: Encoded, widths: tuple[int, ...], batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """A random order in which neighbours, batch by batch, have similar lengths.

    Args:
        encoded: The examples.
        widths: Ascending lengths that a batch may be padded to.
        batch_size: Rows of a batch.
        rng: Decides the order of the rows and of the batches.

    Returns:
        ``(names,)`` places of the examples.
    """
    order = rng.permutation(len(encoded.labels))
    buckets = bucket_of(encoded.seq_lengths[order], widths)
    order = order[np.argsort(buckets, kind="stable")]
    last = order[len(order) // batch_size * batch_size :]
    batches = order[: len(order) - len(last)].reshape(-1, batch_size)
    # The short batch stays last, so that every other one is full.
    return np.concatenate([rng.permutation(batches).ravel(), last])


NOISE = ".,;'"
"""Lesson 001's meaningless characters."""


def class_uniform(
    encoded: Encoded,
    count: int,
    batch_size: int,
    noise: int,
    vocabulary: Vocabulary,
    widths: tuple[int, ...],
    rng: np.random.Generator,
) -> Batches:
    """Lesson 001's examples: a uniform class, a uniform name of it, a noisy suffix.

    Args:
        encoded: The names, with room for the suffix.
        count: Number of batches.
        batch_size: Names of a batch; the lesson takes one.
        noise: With n > 0, each name gets 0 to n + 1 random characters of ``.,;'``.
        vocabulary: Has these characters.
        widths: Ascending lengths that a batch may be padded to.
        rng: Decides all of it.

    Returns:
        ``count`` batches.
    """
    num_classes = encoded.labels.max() + 1
    sizes = np.bincount(encoded.labels)
    by_class = np.argsort(encoded.labels, kind="stable")
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    labels = rng.integers(num_classes, size=count * batch_size)
    places = by_class[first[labels] + rng.integers(sizes[labels])]
    batches = in_order(encoded, places, batch_size, widths)
    if noise:
        batches = _add_noise(batches, noise, vocabulary.encode(NOISE), widths, rng)
    return batches


def _add_noise(batches, noise, noise_tokens, widths, rng):
    time = np.arange(batches.tokens.shape[-1])
    starts = batches.seq_lengths[..., None]
    ends = starts + rng.integers(noise + 2, size=starts.shape)
    random = rng.choice(noise_tokens, size=batches.tokens.shape)
    suffix = (time >= starts) & (time < ends)
    return batches._replace(
        tokens=np.where(suffix, random, batches.tokens).astype(np.int32),
        seq_lengths=ends[..., 0].astype(np.int32),
        buckets=bucket_of(ends[..., 0].max(axis=1), widths),
    )


def add_suffixes(
    batches: Batches,
    suffixes: list[str],
    vocabulary: Vocabulary,
    widths: tuple[int, ...],
) -> Batches:
    """Names with something at their ends.

    Args:
        batches: The names, with room for it.
        suffixes: One for each name, batch by batch.
        vocabulary: Has their characters.
        widths: Ascending lengths that a batch may be padded to.

    Returns:
        The batches with longer names.
    """
    if not any(suffixes):
        return batches
    tokens = batches.tokens.copy().reshape(len(suffixes), -1)
    lengths = batches.seq_lengths.ravel()
    for row, start, suffix in zip(tokens, lengths, suffixes, strict=True):
        row[start : start + len(suffix)] = vocabulary.encode(suffix)
    ends = lengths + np.array([len(suffix) for suffix in suffixes], np.int32)
    seq_lengths = ends.reshape(batches.seq_lengths.shape)
    return batches._replace(
        tokens=tokens.reshape(batches.tokens.shape),
        seq_lengths=seq_lengths,
        buckets=bucket_of(seq_lengths.max(axis=1), widths),
    )


def join_replicas(replicas: list[Batches]) -> Batches:
    """The batches of several replicas side by side, on a new axis after the first.

    All replicas take the number of batches of the first one: more are dropped, missing
    ones begin again. A bucket is the widest of its batches.

    Args:
        replicas: The batches of each replica.

    Returns:
        Batches with ``tokens (batches, replicas, batch, time)`` and so on.
    """
    count = replicas[0].num_batches
    same = [
        Batches(*(np.resize(a, (count, *a.shape[1:])) for a in batches))
        for batches in replicas
    ]
    joined = Batches(*(np.stack(arrays, axis=1) for arrays in zip(*same, strict=True)))
    return joined._replace(buckets=joined.buckets.max(axis=1))
