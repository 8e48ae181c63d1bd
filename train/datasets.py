"""Find and read the names and the texts to train on.

What a person names comes first, then what `train.fetch` left in `data/`, then a quick
try to fetch it, then the bundled sample. Which one it was is said in a `note`.
"""

import functools
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from train.cli import InputError, default, printable
from train.fetch import download as fetch

DATA = fetch.DATA
SAMPLE_NAMES = DATA / "sample" / "names"
SAMPLE_SCRIPT = DATA / "sample" / "script.txt"
NAMES = DATA / "names"
FRIENDS = DATA / fetch.DATA_SETS["friends"].name
SHAKESPEARE = DATA / fetch.DATA_SETS["shakespeare"].name

FOUND = default("fetched, or else the bundled sample")
"""What ``--help`` says of a flag for names or a text that is left out."""

MAX_LANGUAGES = 1000
MAX_NAME = 1000
"""In characters."""
MAX_NAMES_FILE = 64 * 2**20
MAX_TEXT = 2**30
"""In bytes, like MAX_NAMES_FILE."""

# Seconds; a person waits for this before the first training step.
FETCH_TIMEOUT = 3.0

# Control characters, the line and paragraph separators, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class NamesData(NamedTuple):
    """Names and the languages that they belong to."""

    languages: tuple[str, ...]
    """Sorted: the stems of the files."""
    names: tuple[str, ...]
    """As they stand in the files, spaces included: language by language, in order."""
    labels: np.ndarray
    """int32, for each name the index of its language."""
    directory: Path
    note: str
    """Where the names come from, in a line for people."""


class TextData(NamedTuple):
    """A text to learn character by character."""

    text: str
    source: str
    """Its path, or "builtin"."""
    note: str
    """Where the text comes from, in a line for people."""


def find_names(data: Path | None) -> NamesData:
    """Find names to train on.

    Args:
        data: The directory that a person gave, or None: then the real names, fetched
            if need be (not when ``RNNJAX_OFFLINE=1`` is set), else the sample.

    Raises:
        InputError: As ``load_names`` says, of ``data``.
    """
    if data is not None:
        return load_names(data)
    obstacle = _obstacle("names", NAMES)
    if not obstacle:
        return load_names(NAMES)
    sample = load_names(SAMPLE_NAMES)
    return sample._replace(
        note=f"{obstacle}: training on the bundled sample of {len(sample.names):,} "
        f"names ({_shown(SAMPLE_NAMES)}); python -m train.fetch names gets the real set"
    )


def load_names(directory: Path) -> NamesData:
    """Read names from a directory with one `<Language>.txt` for each language.

    A byte order mark, blank lines and the kind of line ends make no difference.

    Args:
        directory: Where the files are; each is UTF-8 with one name a line.

    Raises:
        InputError: There is no such directory, it has too few or too many languages,
            or a file cannot be what is meant; the message names the file and the line.
        OSError: A file cannot be read.
    """
    expected = "expected a directory with one <Language>.txt for each language"
    if not directory.exists():
        raise InputError(f"{directory} does not exist; {expected}")
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory; {expected}")
    # macOS leaves ._Arabic.txt beside Arabic.txt: not text, and not meant.
    files = {
        path.stem: path
        for path in directory.iterdir()
        if path.suffix.lower() == ".txt" and not path.name.startswith(".")
    }
    if not 2 <= len(files) <= MAX_LANGUAGES:
        raise InputError(
            f"{directory} has {len(files):,} .txt files; {expected}, 2 to "
            f"{MAX_LANGUAGES:,} of them"
        )
    languages = tuple(sorted(files))
    for language in languages:
        if printable(language) != language:
            raise InputError(
                f"{files[language]} has a control character in its name; rename it to "
                "its language"
            )
        path = files[language]
        # Not even opened: without a writer, a pipe would be waited for without end.
        if not path.is_file() and not path.is_dir():
            what = "is no file" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}; {expected}")
    by_language = [_read_names(files[language]) for language in languages]
    counts = [len(names) for names in by_language]
    return NamesData(
        languages=languages,
        names=tuple(name for names in by_language for name in names),
        labels=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        directory=directory,
        note=f"{sum(counts):,} names in {len(languages)} languages "
        f"({_shown(directory)})",
    )


def in_file_order(data: NamesData, order: Sequence[str] | None) -> NamesData:
    """The same names, language by language as a lesson's program reads the files.

    Args:
        data: The names.
        order: The languages; None is the order in which the file system lists them,
            which ``glob.glob`` and ``os.listdir`` leave as it is.

    Raises:
        InputError: If the languages are not those of the data, each once.
    """
    if order is None:
        stems = [Path(name).stem for name in os.listdir(data.directory)]
        order = [stem for stem in stems if stem in data.languages]
    if sorted(order) != list(data.languages):
        raise InputError(
            f"--file-order is {printable(','.join(order))}; expected each language of "
            f"{data.directory} once: {','.join(data.languages)}"
        )
    places = [
        np.flatnonzero(data.labels == data.languages.index(language))
        for language in order
    ]
    counts = [len(each) for each in places]
    return data._replace(
        languages=tuple(order),
        names=tuple(data.names[i] for i in np.concatenate(places)),
        labels=np.repeat(np.arange(len(order), dtype=np.int32), counts),
    )


def find_text(
    text: Path | Literal["builtin"] | None, kind: Literal["friends", "shakespeare"]
) -> TextData:
    """Find a text to train on.

    Args:
        text: The file that a person gave; ``"builtin"`` for Python's own help topics,
            which every machine has but which differ from one Python to the next; or
            None: then the text called ``kind``, fetched if need be (not when
            ``RNNJAX_OFFLINE=1`` is set), else the sample.
        kind: Which text is meant when none is given.

    Raises:
        InputError: As ``load_text`` says, of ``text``.
    """
    if text is not None:
        # A command line that asks for a path hands over Path("builtin").
        return _builtin() if str(text) == "builtin" else load_text(Path(text))
    path = {"friends": FRIENDS, "shakespeare": SHAKESPEARE}[kind]
    obstacle = _obstacle(kind, path)
    if not obstacle:
        return load_text(path)
    sample = load_text(SAMPLE_SCRIPT)
    return sample._replace(
        note=f"{obstacle}: training on the bundled sample of {len(sample.text):,} "
        f"characters ({_shown(SAMPLE_SCRIPT)}); python -m train.fetch {kind} gets the "
        "real text"
    )


def load_text(path: Path) -> TextData:
    """Read a text in UTF-8, without its byte order mark, lines ended by a newline.

    Raises:
        InputError: There is no such file, or it is a directory, empty, not UTF-8 or
            longer than 1 GiB.
        OSError: It cannot be read.
    """
    text = composed(_decode(fetch.read_limited(path, MAX_TEXT), path))
    if not text.strip():
        raise InputError(f"{path} is empty; expected a text to learn from")
    return TextData(text, str(path), f"{len(text):,} characters ({_shown(path)})")


def _builtin() -> TextData:
    from pydoc_data.topics import topics  # half a megabyte, seldom needed

    text = "\n".join(topics[topic] for topic in sorted(topics))
    return TextData(text, "builtin", f"{len(text):,} characters (Python's help topics)")


def _obstacle(what: str, path: Path) -> str:
    """Return what keeps the real data from being at `path`; "" when they are there."""
    return (
        "" if fetch.is_there(fetch.DATA_SETS[what], path) else _try_to_fetch(what, path)
    )


# Cached, so that a program without a network waits for it only once.
@functools.cache
def _try_to_fetch(what: str, path: Path) -> str:
    if os.environ.get("RNNJAX_OFFLINE", "0") not in ("", "0"):
        return "RNNJAX_OFFLINE is set"
    try:
        fetch.fetch(fetch.DATA_SETS[what], path, timeout=FETCH_TIMEOUT)
    except fetch.Unreachable:
        return "no network"
    except (InputError, OSError) as error:
        return printable(f"{what} could not be fetched ({error})")
    return ""


def _read_names(path: Path) -> list[str]:
    text = composed(_decode(fetch.read_limited(path, MAX_NAMES_FILE), path))
    names = []
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_NAME:
            raise InputError(
                f"{path}, line {number}: {len(line):,} characters; expected one name "
                f"a line, of at most {MAX_NAME:,}"
            )
        if control := _CONTROL.search(line):
            raise InputError(
                f"{path}, line {number}: control character U+{ord(control[0]):04X}; "
                "expected one name a line, nothing else"
            )
        if line.strip():
            names.append(line)
    if not names:
        raise InputError(f"{path} has no names; expected one a line, or no such file")
    return names


def composed(text: str) -> str:
    """A text in one form of Unicode's (NFC): what looks the same is the same.

    A letter and its accent may come as one sign or as two; file systems and programs
    differ in which. Wherever text enters it becomes one.

    Example:
        >>> len("u\u0308"), len(composed("u\u0308"))
        (2, 1)
    """
    return unicodedata.normalize("NFC", text)


def _decode(content: bytes, path: Path) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte {error.start} of the file "
            f"(0x{content[error.start]:02x}) is not UTF-8; save it as UTF-8"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _shown(path: Path) -> str:
    """Return the path as a person here would type it."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if here in path.parents else path))
