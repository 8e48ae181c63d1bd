"""The bytes of ``torch.get_rng_state()``."""

import math
from typing import NamedTuple

import numpy as np

WORDS = 624
"""Words of a Mersenne twister's state; after as many draws it makes the next ones."""

LAYOUT = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", WORDS),
        ("unused_x", "<f8"),
        ("kept_normal", "<f8"),
        ("unused_rho", "<f8"),
        ("has_kept_normal", "<i4"),
        ("padding", "<i4"),
        # A kept number in float32, of which PyTorch itself makes no use.
        ("unused_float", "<f4"),
        ("has_float", "<i4"),
    ]
)
"""``CPUGeneratorImplState`` of PyTorch: 5056 bytes."""


class State(NamedTuple):
    """What a generator will draw.

    Attributes:
        seed: What it began with, 64 bits.
        words: ``(624,)`` uint32, the Mersenne twister.
        position: How many of them are drawn.
        kept_normal: The second of a pair of normal numbers, for the next odd one.
    """

    seed: int
    words: np.ndarray
    position: int
    kept_normal: float | None


def to_bytes(state: State) -> np.ndarray:
    """``(5056,)`` uint8, as ``torch.get_rng_state()`` has them."""
    record = np.zeros((), LAYOUT)
    # PyTorch counts a fresh twister's words from 0; its first word is the seed's.
    fresh = state.position == WORDS and state.words[0] == state.seed % 2**32
    record["seed"], record["words"], record["seeded"] = state.seed, state.words, 1
    record["next"] = 0 if fresh else state.position
    record["left"] = WORDS + 1 - state.position
    if state.kept_normal is not None:
        record["kept_normal"], record["has_kept_normal"] = state.kept_normal, 1
    return np.frombuffer(record.tobytes(), np.uint8).copy()


def from_bytes(array: np.ndarray) -> State:
    """The state in ``(5056,)`` uint8.

    Raises:
        ValueError: If they are no state of PyTorch's generator on a CPU.
    """
    array = np.ascontiguousarray(array)
    if array.dtype != np.uint8 or array.shape != (LAYOUT.itemsize,):
        raise ValueError(
            f"a generator's state is {array.dtype} {array.shape}; expected uint8 "
            f"({LAYOUT.itemsize},), as torch.get_rng_state() and "
            "TorchGenerator.state() give"
        )
    record = array.view(LAYOUT)[0]
    left, kept = int(record["left"]), float(record["kept_normal"])
    words = record["words"]
    if record["seeded"] != 1 or not 1 <= left <= WORDS or (words >= 2**32).any():
        raise ValueError(
            "these bytes are not the state of a PyTorch generator on a CPU; expected "
            "what torch.get_rng_state() or TorchGenerator.state() gave"
        )
    has_kept = record["has_kept_normal"] == 1 and math.isfinite(kept)
    return State(
        int(record["seed"]),
        words.astype(np.uint32),
        WORDS + 1 - left,
        kept if has_kept else None,
    )
