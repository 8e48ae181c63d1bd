"""The frame of every program: parse the flags, run, say it, fail in one line."""

import contextlib
import dataclasses
import difflib
import gc
import importlib
import io
import json
import os
import runpy
import shlex
import sys
import textwrap
import traceback
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple, TextIO, TypeVar

import tyro

from train import startup

Config = TypeVar("Config")

EXIT_CODES = """\
exit codes:
  0    done
  1    the system refused: a full disk, no permission
  2    what was given cannot be used: a flag, a file, a run, an address
  130  stopped by Ctrl-C (a training is saved first; a second one ends it at once)
  143  stopped by SIGTERM (the same)
  141  the reader of the output has gone"""

# Cf holds the bidi overrides, which can make a line read as another one.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Also Cf, but part of how Persian, Indic scripts and emoji are written.
_JOINERS = {"\u200c", "\u200d"}


class InputError(Exception):
    """What a person gave cannot be used.

    The message is one line: what was given, what was expected, and the remedy.
    """


HIGHEST_SEED = 2**31 - 1
"""Of larger ones JAX takes only the last 32 bits, or none at all."""


def check_seed(seed: int) -> None:
    """Refuse a ``--seed`` that JAX cannot tell from others.

    Raises:
        InputError: If it is negative or too large.
    """
    if not 0 <= seed <= HIGHEST_SEED:
        raise InputError(f"--seed is {seed}; expected 0 to {HIGHEST_SEED:,}")


def flag(name: str) -> str:
    """How a field of a program's dataclass is called on the command line.

    Example:
        >>> flag("batch_size")
        '--batch-size'
    """
    return f"--{name.replace('_', '-')}"


def some_of(given: str | None, known: Collection[str], what: str) -> list[str]:
    """The names of a flag that takes some of them, with commas between.

    Args:
        given: The flag; None is all.
        known: All there are.
        what: What one of them is called.

    Returns:
        The names.

    Raises:
        InputError: If one is unknown.
    """
    names = list(known) if given is None else given.split(",")
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"there is no {what} {', '.join(map(printable, unknown))}; expected some of "
            f"{', '.join(known)}"
        )
    return names


class Stopped(Exception):
    """A signal ended the program before its work was done; nothing is lost.

    Args:
        message: One line: what was stopped, and how to go on.
        code: What the process ends with.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


def default(text: str) -> Any:
    """What ``--help`` says of a flag that is left out, where that is not one value."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


def defaults(values: Iterable[tuple[str, float | None]]) -> Any:
    """The same where each recipe has its own value, or several, or none."""
    found: dict[str, list[str]] = {}
    for recipe, value in values:
        known = found.setdefault(recipe, [])
        if value is not None and f"{value:g}" not in known:
            known.append(f"{value:g}")
    return default(
        "; ".join(f"{recipe} {' or '.join(of)}" for recipe, of in found.items() if of)
    )


@dataclasses.dataclass(frozen=True)
class Quiet:
    """What is said."""

    quiet: bool = False
    """Say nothing but errors and results."""


@dataclasses.dataclass(frozen=True)
class Output(Quiet):
    """What a training leaves and says; nothing of this changes what it learns."""

    out: Annotated[Path | None, default("runs/<recipe>-<model>-<time>")] = None
    """Run directory; the same command with the same one continues the run."""
    json: bool = False
    """Print the summary as one JSON object, and all else to the standard error."""


class _Voice(NamedTuple):
    """How a program speaks.

    Attributes:
        results: Where results go, if not where all else goes.
        as_json: Whether a result is its summary in JSON.
        quiet: Whether there are only results.
    """

    results: TextIO | None = None
    as_json: bool = False
    quiet: bool = False


_voice = _Voice()


def note(message: str) -> None:
    """Say something that is no result, in a program whose output is its result."""
    if not _voice.quiet:
        print(message, file=sys.stderr)


@contextlib.contextmanager
def results(summary: Mapping[str, Any]) -> Iterator[None]:
    """Print in here what a training came to: ``--quiet`` shows it and nothing else.

    Args:
        summary: What ``--json`` prints instead; the lines then go where all else goes.
    """
    lines = None if _voice.as_json else _voice.results
    with contextlib.redirect_stdout(lines or sys.stdout):
        yield
    if _voice.as_json:
        print(json.dumps(summary), file=_voice.results)


def command(program: str, *arguments: object) -> str:
    """A command to be copied, such as ``python -m train.predict --run 'my run' NAME``.

    Args:
        program: Name of the module.
        *arguments: Flags and values; the shell reads back what stands here.
    """
    words = ["python", "-m", program, *map(str, arguments)]
    return printable(shlex.join(words))


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
    main: Callable[[Config], object], config_type: type[Config], description: str | None
) -> None:
    """Run a program on the command line's flags.

    Args:
        main: The program. What it returns is dropped.
        config_type: Dataclass of its flags. If it has bases and no flags of its own,
            ``--help`` shows one group of flags for each of them. ``InputError`` and
            ``ValueError`` of its ``__post_init__`` mean that a flag was wrong.
        description: The program's docstring: ``--help`` begins with its first line and
            ends with the rest, the examples.

    Raises:
        SystemExit: With one of :data:`EXIT_CODES`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An ASCII terminal gets an escape for a letter it lacks, not a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    # What is imported stays: to look through it for garbage, now and once more at the
    # end, takes about half a second.
    gc.freeze()
    try:
        try:
            config = _parse(config_type, description or "")
            startup.start_program()
            with _speaking(config):
                main(config)
        finally:
            gc.freeze()
            _flush_stdout()
    except (InputError, Stopped, OSError, KeyboardInterrupt) as error:
        sys.exit(tell(error))


def tell(error: BaseException) -> int:
    """Say in a line why a program ends, on the standard error.

    Args:
        error: Of a kind that is not expected, it is shown with its traceback.

    Returns:
        One of :data:`EXIT_CODES`.
    """
    match error:
        case InputError():
            said, code = f"error: {printable(str(error))}", 2
        case Stopped():
            said, code = printable(str(error)), error.code
        case BrokenPipeError():
            return 141
        case OSError():
            reason = error.strerror or str(error)
            if error.filename is not None:
                reason = f"{error.filename}: {reason}"
            said, code = f"error: {printable(reason)}", 1
        case KeyboardInterrupt():
            said, code = "interrupted", 130
        case _:
            said, code = "".join(traceback.format_exception(error)).rstrip(), 1
    print(said, file=sys.stderr)
    return code


@contextlib.contextmanager
def _speaking(config: object) -> Iterator[None]:
    """Send what the program prints where ``--quiet`` and ``--json`` want it."""
    global _voice
    as_json = isinstance(config, Output) and config.json
    quiet = isinstance(config, Quiet) and config.quiet
    _voice = _Voice(sys.stdout, as_json, quiet)
    try:
        with contextlib.ExitStack() as stack:
            if quiet:
                stack.enter_context(contextlib.redirect_stderr(_Piped(sys.stderr)))
            if quiet and isinstance(config, Output):
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            elif as_json:
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            yield
    finally:
        _voice = _Voice()


class _Piped:
    """A stream that is no terminal, so that progress bars leave it alone."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return False


def command_name(module: str) -> str:
    """What follows ``python -m`` for a program's module.

    Example:
        >>> command_name("train.names.__main__"), command_name("train.sample")
        ('train.names', 'train.sample')
    """
    return module.removesuffix(".__main__")


def load_program(name: str) -> ModuleType:
    """The module that ``python -m train.<name>`` runs, a file or a folder's main."""
    module = importlib.import_module(f"train.{name}")
    if hasattr(module, "__path__"):
        return importlib.import_module(f"train.{name}.__main__")
    return module


def run_command(arguments: list[str]) -> None:
    """Run a program by its name, the first argument; without one, list them.

    Raises:
        SystemExit: With the program's code; with 2 where there is no such program.
    """
    root = Path(__file__).parent
    found = {path.stem for path in root.glob("*.py") if _is_program(path)}
    found |= {path.parent.name for path in root.glob("*/__main__.py")}
    name = arguments[0] if arguments else None
    if name in found:
        sys.argv = [name, *arguments[1:]]
        runpy.run_module(f"train.{name}", run_name="__main__", alter_sys=True)
        return
    names = ", ".join(sorted(found))
    if name in (None, "-h", "--help"):
        print(f"usage: rnnjax PROGRAM [FLAGS]; the programs are {names}")
        return
    close = difflib.get_close_matches(str(name), found, 1)
    meant = f"; perhaps you meant {close[0]}" if close else ""
    sys.exit(
        tell(
            InputError(f"there is no program {name!r}{meant}; expected one of {names}")
        )
    )


def _is_program(path: Path) -> bool:
    return "\nif __name__ ==" in path.read_text(encoding="utf-8")


def _parse(config_type: type[Config], description: str) -> Config:
    first, _, rest = description.partition("\n")
    spec = sys.modules["__main__"].__spec__
    helps = not {"-h", "--help"}.isdisjoint(sys.argv[1:])
    # Only in --help, on a terminal: errors repeat what was typed, escapes and all.
    tyro._experimental_options["ansi_codes"] = helps and not os.environ.get("NO_COLOR")
    groups = _groups(config_type)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _refusals_through_tyro(config_type):
            parsed: Any = tyro.cli(
                groups or config_type,
                prog=None if spec is None else f"python -m {command_name(spec.name)}",
                description=first,
                config=(
                    tyro.conf.FlagCreatePairsOff,
                    tyro.conf.OmitArgPrefixes,
                    tyro.conf.DisallowNone,
                ),
            )
            if groups is None:
                return parsed
            flags: dict[str, Any] = {}
            for field in dataclasses.fields(groups):
                flags |= vars(getattr(parsed, field.name))
            return config_type(**flags)
    except SystemExit as stop:
        if helps and not stop.code:
            print(f"\n{_epilogue(rest)}")
        raise
    finally:
        print(printable(said.getvalue(), keep="\n"), end="", file=sys.stderr)


def _groups(config_type: type) -> type | None:
    """A dataclass of the bases, by their names; None if all flags are in one."""
    bases = [base for base in config_type.__bases__ if dataclasses.is_dataclass(base)]
    inherited = {field.name for base in bases for field in dataclasses.fields(base)}
    if inherited != {field.name for field in dataclasses.fields(config_type)}:
        return None
    # The order of the fields: the last base comes first.
    return dataclasses.make_dataclass(
        "Groups", [(base.__name__.lower(), base) for base in reversed(bases)]
    )


def _epilogue(docstring: str) -> str:
    """What ``--help`` ends with: the rest of a docstring, its commands indented."""
    paragraphs = []
    for paragraph in docstring.strip("\n").split("\n\n"):
        text = textwrap.dedent(paragraph).strip()
        if text.startswith("python -m "):
            text = "examples:\n" + textwrap.indent(text, "  ")
        paragraphs.append(text)
    return "\n\n".join(filter(None, [*paragraphs, EXIT_CODES]))


@contextlib.contextmanager
def _refusals_through_tyro(config_type: Any) -> Iterator[None]:
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
