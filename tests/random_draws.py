"""Every draw of `rnnjax.random` as a function of a generator and a size.

The names are PyTorch's; `torch_random.DRAWS` has the same ones.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from flax.traverse_util import flatten_dict

from rnnjax import (
    GRU,
    LSTM,
    Elman,
    ElmanCell,
    GRUCell,
    Linear,
    LSTMCell,
    MultiHeadAttention,
    random,
)
from train.names.settings import SETTINGS
from train.recipes import build_model

SEEDS = [0, 1, 42, 123, 2026, 2**31 - 1, 2**32 + 7, 2**63 - 1, 2**64 - 1, -1, -(2**63)]

# Below and from 16 on, whole and broken sixteens, and around the 624 words after which
# the twister makes new ones. The last one takes several pieces.
SIZES = [1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 48, 100, 311, 312, 313,
         623, 624, 625, 1000, 16385]  # fmt: skip

STACK = {"features": 4, "num_layers": 3, "dropout": 0.4}
"""The stack whose masks are compared."""

STRIDED = (1, 2, 0)
"""How a tensor ``(n, 3, 2)`` lies in memory."""


def batches(generator, n, early=(False,), own=False, **options):
    own = random.TorchGenerator(7) if own else None
    loader = random.DataLoader(n, generator, 4, own_generator=own, **options)
    taken = [np.empty(0, np.int64)]
    for leave in early:
        for batch in loader:
            taken.append(batch)
            if leave:
                break
    return np.concatenate(taken)


def split(generator, n, lengths):
    return np.concatenate(random.random_split(n, lengths, generator))


def stack_mask(generator, n):
    stack = Elman(**STACK, bidirectional=True)
    masks = random.dropout_masks(stack, generator, 3, n)
    assert len(masks) == STACK["num_layers"] - 1
    return np.all([mask["kept"] for mask in masks.values()], axis=0)


def lesson_masks(recipe, model, between, generator, n):
    """Of those after the ``between`` ones that are inside PyTorch's stack."""
    module = build_model(recipe, model, hidden_size=5)
    masks = flatten_dict(random.dropout_masks(module, generator, 3, n)).values()
    return np.concatenate([mask.ravel() for mask in [*masks][between:]])


def weights(n, rows):
    return (np.arange(rows * n).reshape(rows, n) % 7 + 1).astype(np.float32)


def each(n):
    """Probabilities from 0 to 1 in float32."""
    return (np.arange(n) % 8).astype(np.float32) / np.float32(7)


DRAWS: dict[str, Callable[[random.TorchGenerator, int], np.ndarray]] = {
    "rand": lambda g, n: g.uniform(n),
    "rand float64": lambda g, n: g.uniform(n, dtype=np.float64),
    "uniform_": lambda g, n: g.uniform(n, -0.37, 0.37),
    "uniform_ float64": lambda g, n: g.uniform(n, 0.1, 3.7, np.float64),
    "uniform_ strided": lambda g, n: g.uniform((n, 3, 2), -0.37, 0.37, memory=STRIDED),
    "randn": lambda g, n: g.normal(n),
    "normal_": lambda g, n: g.normal(n, 0.3, 0.02),
    "normal_ strided": lambda g, n: g.normal((n, 3, 2), memory=STRIDED),
    "randint": lambda g, n: g.randint(-5, 1000, n),
    "randint below 2**28": lambda g, n: g.randint(0, 2**28 - 1, n),
    "randint from 2**28": lambda g, n: g.randint(0, 2**28, n),
    "randint of 64 bits": lambda g, n: g.randint(-(2**63), 2**63 - 1, n),
    "random_": lambda g, n: g.random_int64(n),
    "randperm": lambda g, n: g.randperm(n),
    "bernoulli_": lambda g, n: g.bernoulli(n, 0.3),
    "bernoulli_ of 1": lambda g, n: g.bernoulli(n, 1.0),
    "bernoulli": lambda g, n: g.bernoulli_each(each(n)),
    "bernoulli float64": lambda g, n: g.bernoulli_each(np.arange(n) / n),
    "dropout": lambda g, n: g.dropout_mask(n, 0.4),
    "dropout of 0": lambda g, n: g.dropout_mask(n, 0.0),
    "dropout of 1": lambda g, n: g.dropout_mask(n, 1.0),
    "dropout strided": lambda g, n: g.dropout_mask((n, 3, 2), 0.4, STRIDED),
    "exponential_": lambda g, n: g.exponential(n, 1.5),
    "multinomial": lambda g, n: g.multinomial(weights(n, 3)),
    "multinomial without replacement": lambda g, n: g.multinomial(
        weights(n, 1)[0], min(n, 5)
    ),
    "multinomial with replacement": lambda g, n: g.multinomial(weights(n, 3), 9, True),
    "kaiming_uniform_": lambda g, n: random.kaiming_uniform(g, (3, n)),
    "xavier_uniform_": lambda g, n: random.xavier_uniform(g, (3, n)),
    "nn.Embedding": lambda g, n: random.embedding(g, (n, 3), padding_index=0),
    "stack's dropout": stack_mask,
    "lab's dropout": partial(lesson_masks, "lab", "lstm", 0),
    "binary rnn's dropout": partial(lesson_masks, "binary", "rnn", 1),
    "DataLoader": batches,
    "DataLoader shuffled": partial(batches, early=(False, True, False), shuffle=True),
    "DataLoader, last dropped": partial(batches, shuffle=True, drop_last=True),
    "DataLoader, own generator": partial(
        batches, early=(False, False, True, False), own=True, shuffle=True
    ),
    "random_split by numbers": lambda g, n: split(g, n, (n // 3, n - n // 3)),
    "random_split by shares": lambda g, n: split(g, n, (0.5, 0.3, 0.2)),
}

MODULES = {
    "Linear": (Linear(5), 3),
    "Linear without bias": (Linear(5, use_bias=False), 3),
    "RNN": (Elman(5), 3),
    "RNN, 2 layers, 2 directions": (Elman(5, num_layers=2, bidirectional=True), 3),
    "GRU, 3 layers, no bias": (GRU(5, num_layers=3, use_bias=False), 3),
    "LSTM of 1024": (LSTM(1024, vocab_size=65), None),
    "LSTM projected": (LSTM(5, num_layers=2, bidirectional=True, projection=4), 3),
    "RNNCell": (ElmanCell(5), 3),
    "GRUCell": (GRUCell(5), 3),
    "LSTMCell without bias": (LSTMCell(5, use_bias=False), 3),
    "MultiheadAttention": (MultiHeadAttention(2), 6),
} | {
    f"{recipe} {model}": (build_model(recipe, model), None)
    for recipe, model in SETTINGS
    if recipe != "best"
}
MODULES["lab lstm"] = (build_model("lab", "lstm", vocab_size=65), None)

ORTHOGONAL = [(5, 5), (7, 3), (3, 7), (9, 16)]


def sizes_of(name: str) -> list[int]:
    """The sizes of a draw; what takes modules and loops in PyTorch has few."""
    slow = name.startswith("DataLoader") or name.endswith("'s dropout")
    return [n for n in SIZES if n < 50] if slow else SIZES


def drawn_by(name: str, processor: random.Processor) -> list[np.ndarray]:
    """A draw from every seed at every size, and the states in the end."""
    drawn = []
    for seed in SEEDS:
        generator = random.TorchGenerator(seed, processor)
        drawn += [DRAWS[name](generator, n) for n in sizes_of(name)]
        drawn.append(generator.state())
    return drawn


def digest(arrays: Iterable[np.ndarray]) -> str:
    """A hash of shapes, types and all bits."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]
