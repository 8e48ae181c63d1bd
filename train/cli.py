"""The frame of every program: parse the flags, run, fail in one line."""

import contextlib
import gc
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import tyro

Config = TypeVar("Config")

# Cf holds the bidi overrides, which can make a line read as another one.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Also Cf, but part of how Persian, Indic scripts and emoji are written.
_JOINERS = {"\u200c", "\u200d"}


class InputError(Exception):
    """What a person gave cannot be used.

    The message is one line: what was given, what was expected, and the remedy.
    """


class Stopped(Exception):
    """A signal ended the program before its work was done; nothing is lost.

    Args:
        message: One line: what was stopped, and how to go on.
        code: What the process ends with.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


def printable(text: str, keep: str = "") -> str:
    """Escape what could move the cursor, reorder a line or fail to encode.

    Args:
        text: Anything, such as a name typed by a person or the name of a file.
        keep: Characters that stay in any case, such as the line breaks of a text.

    Returns:
        The text, with control characters, line breaks, bidi controls and lone
        surrogates as ``repr`` writes them; letters and spaces of any script stay.
    """
    return "".join(
        repr(character)[1:-1]
        if unicodedata.category(character) in _UNPRINTABLE
        and character not in _JOINERS
        and character not in keep
        else character
        for character in text
    )


def run(
    main: Callable[[Config], object], config_type: type[Config], description: str
) -> None:
    """Run a program on the command line's flags.

    Args:
        main: The program. What it returns is dropped.
        config_type: Dataclass of its flags. ``InputError`` and ``ValueError`` of its
            ``__post_init__`` mean that a flag was wrong.
        description: What ``--help`` says first.

    Raises:
        SystemExit: With 2 when the input cannot be used, 1 when the system refuses (a
            full disk, no permission), 130 on Ctrl-C, 143 on SIGTERM, 141 when the
            reader of the output has gone: the codes of other command line programs.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An ASCII terminal gets an escape for a letter it lacks, not a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    # What is imported stays: to look through it for garbage, now and once more at the
    # end, takes about half a second.
    gc.freeze()
    try:
        try:
            main(_parse(config_type, description))
        finally:
            gc.freeze()
            _flush_stdout()
    except InputError as error:
        _fail(str(error), 2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.code)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        reason = error.strerror or str(error)
        named = error.filename is not None
        _fail(f"{error.filename}: {reason}" if named else reason, 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _parse(config_type: type[Config], description: str) -> Config:
    program = sys.modules["__main__"].__spec__
    with _refusals_through_tyro(config_type):
        return tyro.cli(
            config_type,
            prog=program and f"python -m {program.name}",
            description=description,
            config=(tyro.conf.FlagCreatePairsOff,),
        )


@contextlib.contextmanager
def _refusals_through_tyro(config_type: type) -> Iterator[None]:
    """Turn a ValueError of `__post_init__` into an InputError.

    tyro draws a box around the one, terminal escapes and all, and leaves the other.
    """
    check = getattr(config_type, "__post_init__", None)
    if check is None:
        yield
        return

    def __post_init__(config: object) -> None:
        try:
            check(config)
        except ValueError as error:
            raise InputError(str(error)) from error

    config_type.__post_init__ = __post_init__
    try:
        yield
    finally:
        config_type.__post_init__ = check


def _flush_stdout() -> None:
    try:
        print(end="", flush=True)
    except OSError:
        # Python flushes again at exit and would report the failure in its own way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(code)
