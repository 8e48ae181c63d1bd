"""Text as tokens: alphabets, vocabularies, padding, buckets of lengths. NumPy only."""

import dataclasses
import functools
import string
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LETTERS_57 = string.ascii_letters + " .,;'"
"""The characters of lessons 000 and 001."""

LETTERS_59 = string.ascii_letters + " .,:;-'"
"""The characters of lesson 003."""


def to_alphabet(text: str, alphabet: str) -> str:
    """Strip accents, then drop what is not in the alphabet, as lessons 000 and 001 do.

    Args:
        text: Any text.
        alphabet: The characters to keep.

    Returns:
        The text in that alphabet, perhaps empty.

    Example:
        >>> to_alphabet("Ślusàrski-Łoś", LETTERS_57)
        'Slusarskios'
    """
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if c in alphabet)


SPELLINGS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o",
    "Ø": "O", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l",
    "Ł": "L", "ħ": "h", "Ħ": "H", "ı": "i", "ŋ": "ng", "Ŋ": "NG", "ŧ": "t", "Ŧ": "T",
    "\N{NO-BREAK SPACE}": " ", "’": "'", "‘": "'", "ʼ": "'", "ʹ": "'", "‐": "-",
    "‑": "-", "–": "-", "—": "-",
}  # fmt: skip
"""How ASCII spells what Unicode does not take apart into a base and an accent."""


def transliterate(text: str) -> str:
    """Write Latin text in ASCII; what has no such spelling stays as it is.

    Args:
        text: Any text.

    Returns:
        The text without accents, with ß as ss, ł as l and so on.

    Example:
        >>> transliterate("Ślusàrski-Łoś, Weiß")
        'Slusarski-Los, Weiss'
    """
    text = "".join(SPELLINGS.get(c, c) for c in text)
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Characters, numbered by their place.

    Attributes:
        characters: The characters, each once.

    Raises:
        ValueError: If a character occurs twice.

    Example:
        >>> vocabulary = Vocabulary("abc")
        >>> vocabulary.encode("cab").tolist()
        [2, 0, 1]
        >>> vocabulary.decode([2, 0, 1])
        'cab'
    """

    characters: str

    def __post_init__(self):
        if len(set(self.characters)) != len(self.characters):
            twice = {c for c in self.characters if self.characters.count(c) > 1}
            raise ValueError(f"characters occur twice: {''.join(sorted(twice))!r}")

    def __len__(self) -> int:
        return len(self.characters)

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {character: index for index, character in enumerate(self.characters)}

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """The characters of a text in the order of their first appearance."""
        return cls("".join(dict.fromkeys(text)))

    def unknown(self, text: str) -> str:
        """The characters of the text that are not in the vocabulary, each once."""
        return "".join(c for c in dict.fromkeys(text) if c not in self._index)

    def encode(self, text: str) -> np.ndarray:
        """Tokens ``(len(text),)`` of type int32.

        Raises:
            ValueError: If the text has a character that is not in the vocabulary.
        """
        try:
            return np.array([self._index[c] for c in text], np.int32)
        except KeyError:
            raise ValueError(
                f"{self.unknown(text)!r} not in the vocabulary of {len(self)} "
                f"characters {self.characters!r}"
            ) from None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that the tokens stand for."""
        return "".join(self.characters[token] for token in tokens)


_INT32 = np.iinfo(np.int32)


class Padded(NamedTuple):
    """Rows of tokens, padded to one length.

    Attributes:
        tokens: ``(rows, time)`` int32, 0 at padding.
        seq_lengths: ``(rows,)`` int32 number of real tokens.
    """

    tokens: np.ndarray
    seq_lengths: np.ndarray


def pad(rows: Sequence[np.ndarray], length: int | None = None) -> Padded:
    """Pad rows of tokens to one length.

    Args:
        rows: Arrays of tokens.
        length: The length; None is that of the longest row, at least 1.

    Returns:
        The tokens and their lengths.

    Raises:
        TypeError: If a row holds no whole numbers.
        ValueError: If a row is longer than ``length``, or a token has more than 32 bits.

    Example:
        >>> pad([np.array([3, 1]), np.array([2])]).tokens.tolist()
        [[3, 1], [2, 0]]
    """
    seq_lengths = np.array([len(row) for row in rows], np.int32)
    longest = int(seq_lengths.max(initial=1))
    if length is None:
        length = longest
    elif longest > length:
        index = int(seq_lengths.argmax())
        raise ValueError(
            f"rows[{index}] has {longest} tokens; expected at most {length} (length)"
        )
    tokens = np.zeros((len(rows), length), np.int32)
    for index, (row, padded) in enumerate(zip(rows, tokens, strict=True)):
        values = np.asarray(row)
        if values.size and not np.issubdtype(values.dtype, np.integer):
            raise TypeError(
                f"rows[{index}] is of type {values.dtype}; expected whole numbers"
            )
        if values.size and not _INT32.min <= values.min() <= values.max() <= _INT32.max:
            raise ValueError(f"rows[{index}] has a token that is no number of 32 bits")
        padded[: len(row)] = values
    return Padded(tokens, seq_lengths)


def bucket_widths(seq_lengths: np.ndarray, num_buckets: int) -> tuple[int, ...]:
    """The widths that waste the fewest steps when every row is padded to one of them.

    Args:
        seq_lengths: ``(rows,)`` lengths that occur.
        num_buckets: How many widths at most; each is one compilation.

    Returns:
        Ascending widths; the last one is the longest length, at least 1.

    Example:
        >>> bucket_widths(np.array([2, 2, 2, 3, 9]), 2)
        (3, 9)
    """
    counts = np.bincount(np.maximum(seq_lengths, 1))
    lengths = np.flatnonzero(counts).tolist() or [1]
    rows_up_to = np.concatenate([[0], np.cumsum(counts[lengths])]).tolist()
    # best[i]: fewest padded steps for the i shortest lengths, and their widths.
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    best += [(rows_up_to[i + 1] * w, (w,)) for i, w in enumerate(lengths)]
    for _ in range(num_buckets - 1):
        best = [best[0]] + [
            min(
                (
                    best[j][0] + (rows_up_to[i] - rows_up_to[j]) * width,
                    best[j][1] + (width,),
                )
                for j in range(i)
            )
            for i, width in enumerate(lengths, start=1)
        ]
    return best[-1][1]
