import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from train import cli

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Config:
    steps: int = 3
    """Steps to take."""
    quiet: bool = False
    """Say nothing."""
    names: tuple[str, ...] = ()
    """Names."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"--steps is {self.steps};\nexpected 0 or more\x1b[31m")
        if self.steps > 100:
            raise cli.InputError(f"--steps is {self.steps}; expected at most 100")


@dataclass(frozen=True)
class Unchecked:
    steps: int = 3
    """Steps to take."""


def run(monkeypatch, *flags: str, main=lambda config: None, config_type=Config) -> int:
    """Return the exit code of a run with these flags."""
    monkeypatch.setattr(sys, "argv", ["program", *flags])
    try:
        cli.run(main, config_type, "A program for the tests.")
    except SystemExit as stop:
        return stop.code
    return 0


def fail_with(error: BaseException):
    def main(config):
        raise error

    return main


def program(tmp_path: Path, body: str) -> list[str]:
    """Return the command of a program whose main has this body."""
    path = tmp_path / "program.py"
    path.write_text(
        "import sys, time\nfrom dataclasses import dataclass\nfrom train import cli\n"
        "@dataclass\nclass Config:\n    steps: int = 3\n"
        f"def main(config):\n    {body}\ncli.run(main, Config, 'A program.')\n"
    )
    return [sys.executable, str(path)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("config_type", [Config, Unchecked])
def test_flags_reach_main(monkeypatch, config_type):
    seen = []
    assert (
        run(monkeypatch, "--steps", "5", main=seen.append, config_type=config_type) == 0
    )
    assert seen == [config_type(steps=5)]
    assert type(seen[0]) is config_type


def test_booleans_are_plain_flags_and_tuples_are_lists(monkeypatch):
    seen = []
    run(monkeypatch, "--quiet", "--names", "Ada", "Ólafur", main=seen.append)
    assert seen == [Config(quiet=True, names=("Ada", "Ólafur"))]
    assert run(monkeypatch, "--no-quiet") == 2


def test_help_explains_every_field(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    for words in ("A program for the tests.", "Steps to take.", "Say nothing."):
        assert words in said


def test_misspelt_flag_gets_a_suggestion(monkeypatch, capsys):
    assert run(monkeypatch, "--stesp", "5") == 2
    assert "--steps" in capsys.readouterr().err


def test_input_error_is_one_line_and_2(monkeypatch, capsys):
    error = cli.InputError("no such\nrun \x1b]0;title\x07")
    assert run(monkeypatch, main=fail_with(error)) == 2
    assert capsys.readouterr().err == "error: no such\\nrun \\x1b]0;title\\x07\n"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("-1", "--steps is -1;\\nexpected 0 or more\\x1b[31m"),
        ("101", "--steps is 101; expected at most 100"),
    ],
)
def test_refused_config_is_one_line_and_2(monkeypatch, capsys, steps, message):
    assert run(monkeypatch, "--steps", steps) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_parsing_leaves_the_config_type_as_it_was(monkeypatch):
    run(monkeypatch, "--steps", "-1")
    with pytest.raises(ValueError, match="expected 0 or more"):
        Config(steps=-1)


def test_value_error_of_main_is_a_bug_and_keeps_its_traceback(monkeypatch):
    with pytest.raises(ValueError, match="a bug"):
        run(monkeypatch, main=fail_with(ValueError("a bug")))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Denied", "/a\x1b"), "/a\\x1b: Denied"),
        (OSError("odd"), "odd"),
    ],
)
def test_system_error_is_one_line_and_1(monkeypatch, capsys, error, message):
    assert run(monkeypatch, main=fail_with(error)) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_ctrl_c_is_one_line_and_130(monkeypatch, capsys):
    assert run(monkeypatch, main=fail_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_stopped_program_says_so_and_ends_with_its_code(monkeypatch, capsys):
    stopped = cli.Stopped("stopped by SIGTERM", 143)
    assert run(monkeypatch, main=fail_with(stopped)) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_sigint_ends_a_process_with_130(tmp_path):
    command = program(tmp_path, "print('ready', flush=True); time.sleep(30)")
    with subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "interrupted\n")


def test_reader_that_has_gone_is_no_error(tmp_path):
    command = program(tmp_path, "print('x' * 1_000_000)")
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=10)
    assert (process.returncode, said) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_under_the_output_is_one_line_and_1(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            program(tmp_path, "print('lost')"),
            check=False,
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=10,
        )
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_ascii_terminal_gets_escapes(tmp_path):
    done = subprocess.run(
        program(tmp_path, r"print('\u0141')"),
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
        check=False,
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u0141\n", "")


@pytest.mark.parametrize(
    "text", ["", "O'Néàl", "Ó Briain\u00a0", "Žižek", "北京", "علی‌رضا", "👩‍🔬", "a\\b"]
)
def test_printable_keeps_ordinary_text(text):
    assert cli.printable(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("txt\u202eexe", r"txt\u202eexe"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("\udce9", r"\udce9"),
        ("\ufeffa", r"\ufeffa"),
    ],
)
def test_printable_escapes_what_a_terminal_would_obey(text, escaped):
    assert cli.printable(text) == escaped
