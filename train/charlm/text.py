"""A text as tokens, in memory or in a file, and cut into streams and windows."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rnnjax.truncated import Windows, even_windows
from train.cli import InputError, printable
from train.codec import Codec, join_lines
from train.datasets import find_text
from train.runs.files import replacing, write_text

LARGE = 64 * 2**20
"""Bytes; a larger text is read piece by piece, and its tokens stay in a file."""

CHARACTERS_AT_ONCE = 2**22
"""Characters that are read at once from a large text."""


class Text(NamedTuple):
    """A text that can be read in pieces, again and again.

    Attributes:
        pieces: Begins to read.
        source: Its path, or "builtin".
        note: Where it comes from, in a line for people.
        is_large: Whether its tokens are better kept in a file.
    """

    pieces: Callable[[], Iterable[str]]
    source: str
    note: str
    is_large: bool = False


def read_text(
    path: Path | None, kind: Literal["friends", "shakespeare"], joined: bool
) -> Text:
    """Find a text to train on, see :func:`train.datasets.find_text`.

    Args:
        path: The file that a person gave, ``builtin``, or None.
        kind: Which text is meant when none is given.
        joined: Whether lines are prepared as in lesson 002, see :func:`join_lines`.

    Returns:
        The text.

    Raises:
        InputError: If there is no such file, or it has no text.
    """
    if path is not None and path.is_file() and path.stat().st_size > LARGE:
        if joined:
            raise InputError(
                f"{path} has more than {LARGE:,} bytes; the recipe lab keeps its text "
                "in memory; use --recipe shakespeare"
            )
        note = f"{path.stat().st_size:,} bytes ({printable(str(path))})"
        return Text(functools.partial(_pieces, path), str(path), note, is_large=True)
    found = find_text(path, kind)
    text = join_lines(found.text) if joined else found.text
    return Text(lambda: [text], found.source, found.note)


def _pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            while piece := file.read(CHARACTERS_AT_ONCE):
                yield piece
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8: {error.reason}") from None


class Survey(NamedTuple):
    """What one has to know of a text before its tokens are made.

    Attributes:
        codec: Knows all of its characters.
        num_tokens: How many tokens it will have.
        sha256: Tells this text from others.
    """

    codec: Codec
    num_tokens: int
    sha256: str


def survey(text: Text, kind: Literal["chars", "bytes"], line_end: str = "\n") -> Survey:
    """Read a text once.

    Args:
        text: The text.
        kind: What a token is.
        line_end: As in :class:`Codec`.
    """
    characters: dict[str, None] = {}
    digest, num_tokens = hashlib.sha256(), 0
    for piece in text.pieces():
        encoded = piece.encode("utf-8", "replace")
        digest.update(encoded)
        if kind == "chars":
            characters |= dict.fromkeys(piece)
        num_tokens += len(piece if kind == "chars" else encoded)
    alphabet = "".join(characters) if kind == "chars" else None
    return Survey(Codec(alphabet, line_end), num_tokens, digest.hexdigest())


def tokenize(text: Text, codec: Codec, path: Path) -> np.ndarray:
    """The tokens of a text, those of a large one in a file mapped into memory.

    Args:
        text: The text.
        codec: Knows all of its characters.
        path: The file; one that is there already, as it was written, is taken for
            this text's. Its SHA-256 is kept beside it.

    Returns:
        ``(num_tokens,)`` of the codec's type.
    """
    if not text.is_large:
        return np.concatenate([codec.encode(piece) for piece in text.pieces()])
    hashed = path.with_name(f"{path.name}.sha256")
    if not (path.exists() and hashed.exists() and hashed.read_text() == _sha256(path)):
        # Half a file must not be taken for a whole one.
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            for piece in text.pieces():
                file.write(codec.encode(piece).data)
        write_text(hashed, _sha256(path))
    return np.memmap(path, codec.dtype, mode="r")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lesson_windows(num_tokens: int, batch_size: int, length: int) -> Windows:
    """Lesson 002's streams and windows.

    The text is cut into chunks of ``num_tokens // batch_size``, the last of which is
    left out when it would end with the text. A window has ``length + 1`` tokens, the
    first ``length`` of them inputs; windows do not overlap, so that the first token of
    each is never a target.

    Args:
        num_tokens: Length of the text.
        batch_size: Number of streams; where it divides ``num_tokens`` there is one less.
        length: Steps of a window.

    Returns:
        The windows.

    Raises:
        InputError: If the text is too short for one window of every stream, or there
            is only one stream.

    Source:
        Lesson 002, exercise 4: ``trainset`` and the loop over ``beg_t, end_t``.
    """
    if batch_size < 2:
        raise InputError(
            f"--batch-size is {batch_size}; the lesson's arithmetic, which leaves out "
            "the chunk that ends with the text, needs at least 2"
        )
    chunk, step = num_tokens // batch_size, length + 1
    if chunk <= step:
        raise InputError(
            f"the text has {num_tokens:,} characters; {batch_size} streams with windows "
            f"of {step} need at least {batch_size * (step + 1):,}; give a longer --text "
            "or a smaller --batch-size"
        )
    streams = zip(
        range(0, num_tokens - chunk, chunk),
        range(chunk, num_tokens, chunk),
        strict=False,
    )
    windows = zip(
        range(0, chunk - length - 1, step), range(step, chunk, step), strict=False
    )
    return Windows(
        np.array([begin for begin, _ in streams]),
        np.array([begin for begin, _ in windows]),
        length,
    )


def stream_windows(num_tokens: int, batch_size: int, length: int) -> Windows:
    """Windows without gaps, see :func:`rnnjax.truncated.even_windows`.

    Raises:
        InputError: If the text is too short for one window of every stream.
    """
    windows = even_windows(num_tokens, batch_size, length)
    if not len(windows.window_starts):
        raise InputError(
            f"the text leaves {num_tokens:,} tokens to train on; {batch_size} streams "
            f"with windows of {length} need at least {batch_size * length + 1:,}; give "
            "a longer --text or a smaller --batch-size"
        )
    return windows
