"""How text becomes tokens, and tokens text."""

import codecs
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnnjax.text import Vocabulary, transliterate

LINE_END = "$"
"""What stands for the end of a line in lesson 002."""


@dataclasses.dataclass(frozen=True)
class Codec:
    """How text becomes tokens and tokens become text.

    Attributes:
        alphabet: The characters, in the order of their tokens; None means that tokens
            are the bytes of UTF-8.
        line_end: What stands for the end of a line; lesson 002 has ``$``.

    Example:
        >>> codec = Codec("abc$", line_end="$")
        >>> codec.encode("cab\\nc").tolist()
        [2, 0, 1, 3, 2]
        >>> codec.decode([2, 0, 1, 3, 2])
        'cab\\nc'
    """

    alphabet: str | None
    line_end: str = "\n"

    @functools.cached_property
    def _vocabulary(self) -> Vocabulary:
        assert self.alphabet is not None
        return Vocabulary(self.alphabet)

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
        return 256 if self.alphabet is None else len(self.alphabet)

    @property
    def dtype(self) -> np.dtype:
        """The smallest type that holds every token."""
        return np.min_scalar_type(self.vocab_size - 1)

    def spell(self, text: str) -> tuple[str, str]:
        """A text in the characters that the model knows.

        The policy: an unknown character is written without its accent if that is known
        (é as e, ß as ss, “’” as “'”), else it is left out.

        Args:
            text: Any text.

        Returns:
            The text, and the characters that it does not have, each once.
        """
        text = text.replace("\n", self.line_end)
        if self.alphabet is None:
            return text, ""
        known = set(self.alphabet)
        spellings: dict[str, str | int | None] = {
            c: "".join(s for s in transliterate(c) if s in known)
            for c in self._vocabulary.unknown(text)
        }
        return text.translate(str.maketrans(spellings)), "".join(spellings)

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a text.

        Raises:
            ValueError: If the text has a character that is not in the alphabet.
        """
        text = text.replace("\n", self.line_end)
        if self.alphabet is None:
            return np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
        return self._vocabulary.encode(text).astype(self.dtype)

    def decoder(self) -> Callable[[Sequence[int]], str]:
        """A function that decodes a text in pieces, as they come.

        Bytes that are no UTF-8 become the replacement character; those of a character
        that is not complete yet wait for the next piece.
        """
        if self.alphabet is not None:
            return self.decode
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        return lambda tokens: decode(bytes(tokens)).replace(self.line_end, "\n")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that the tokens stand for."""
        if self.alphabet is None:
            text = bytes(tokens).decode("utf-8", "replace")
        else:
            text = self._vocabulary.decode(tokens)
        return text.replace(self.line_end, "\n")


def codec_from(config: dict[str, Any]) -> Codec:
    """The codec of a run, from its ``config.json``."""
    return Codec(config["alphabet"], config["line_end"])


def join_lines(text: str) -> str:
    """Lesson 002's text: no blank lines, none of the spaces that end a line, ``$``.

    Example:
        >>> join_lines("Monica: Hi. \\n\\n  Ross: Hi.\\n")
        'Monica: Hi.$  Ross: Hi.'
    """
    lines = (line.rstrip() for line in text.split("\n"))
    return LINE_END.join(line for line in lines if line)
