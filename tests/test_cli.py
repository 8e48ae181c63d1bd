import errno
import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tqdm import tqdm

from train import cli
from train.charlm import __main__ as charlm
from train.completion import PROGRAMS
from train.names import __main__ as names

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


def run(
    monkeypatch,
    *flags: str,
    main=lambda config: None,
    config_type=Config,
    description="A program for the tests.",
) -> int:
    """Return the exit code of a run with these flags."""
    monkeypatch.setattr(sys, "argv", ["program", *flags])
    try:
        cli.run(main, config_type, description)
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


@pytest.mark.parametrize(
    "flags", [["--\x1b[31m"], ["--steps", "\x1b[31m"], ["\x1b]0;title\x07\u202e"]]
)
def test_what_was_typed_does_not_reach_the_terminal_as_a_command(
    monkeypatch, capsys, flags
):
    on_a_terminal(monkeypatch)
    assert run(monkeypatch, *flags) == 2
    said = capsys.readouterr().err
    assert said.isascii() or not set("\x1b\x07\u202e") & set(said)
    assert "\\x1b" in said


def on_a_terminal(monkeypatch):
    """Let both streams be terminals that know colours."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_help_has_colours_only_on_a_terminal_that_wants_them(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    run(monkeypatch, "--help")
    coloured = capsys.readouterr().out
    assert "\x1b[" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    run(monkeypatch, "--help")
    plain = capsys.readouterr().out
    assert "\x1b" not in plain and "Steps to take." in plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    run(monkeypatch, "--help")
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_of_every_program(name, monkeypatch, capsys):
    program = cli.load_program(name)
    assert (
        run(
            monkeypatch,
            "--help",
            config_type=program.Config,
            description=program.__doc__,
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out
    assert program.__doc__.partition("\n")[0] in out
    flags, _, examples = out.partition("\nexamples:\n  python -m train.")
    assert examples.startswith(name)
    assert "{None}" not in flags and "(default: None)" not in flags
    _, _, codes = out.partition("\nexit codes:\n")
    codes = [line.split()[0] for line in codes.splitlines()]
    assert codes == ["0", "1", "2", "130", "143", "141"]


@pytest.mark.parametrize(
    ("program", "groups"),
    [
        (names, "model data training output"),
        (charlm, "model data training output"),
        (importlib.import_module("train.sample"), "text drawing printing"),
    ],
)
def test_help_is_in_groups(program, groups, monkeypatch, capsys):
    run(monkeypatch, "--help", config_type=program.Config)
    out = capsys.readouterr().out
    places = [out.index(f" {group} options ") for group in groups.split()]
    assert places == sorted(places)


def test_help_has_each_recipes_own_value(monkeypatch, capsys):
    run(monkeypatch, "--help", config_type=names.Config)
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: practical 10; blog 2; binary 30; best 10)" in said
    assert "(default: practical 16; workshop 1; blog 1; binary 8 or 1; best 64)" in said


def test_every_program_is_known():
    found = {
        path.parent.name if path.stem == "__main__" else path.stem
        for pattern in ("*.py", "*/__main__.py")
        for path in (ROOT / "train").glob(pattern)
        if "\nif __name__ ==" in path.read_text(encoding="utf-8")
    }
    assert found == set(PROGRAMS)


@pytest.mark.parametrize("program", [names, charlm])
def test_misspelt_flag_in_a_group_gets_a_suggestion(program, monkeypatch, capsys):
    assert run(monkeypatch, "--learing-rate", "1", config_type=program.Config) == 2
    said = capsys.readouterr().err
    assert "--learning-rate FLOAT" in said and "Perhaps you meant" in said


@dataclass(frozen=True)
class Trainer(cli.Output):
    pass


def train(config):
    print("progress")
    for _ in tqdm(range(3), disable=None):
        tqdm.write("written")
    with cli.results({"accuracy": 0.5, "name": "é\x1b"}):
        print("accuracy 50 %")
        print(cli.command("train.predict", "--run", "a b"))


LINES = "accuracy 50 %\npython -m train.predict --run 'a b'\n"
NOTES = "progress\nwritten\nwritten\nwritten\n"
SUMMARY = json.dumps({"accuracy": 0.5, "name": "é\x1b"}) + "\n"


@pytest.mark.parametrize(
    ("flags", "out", "err"),
    [
        ([], NOTES + LINES, ""),
        (["--quiet"], LINES, ""),
        (["--json"], SUMMARY, NOTES + LINES),
        (["--json", "--quiet"], SUMMARY, ""),
    ],
    ids=" ".join,
)
def test_quiet_and_json_of_a_training(flags, out, err, monkeypatch, capsys):
    assert run(monkeypatch, *flags, main=train, config_type=Trainer) == 0
    assert capsys.readouterr() == (out, err)
    assert "\x1b" not in out
    # They hold for one run, not for what is called afterwards.
    train(None)
    assert capsys.readouterr() == (NOTES + LINES, "")


@pytest.mark.parametrize(
    ("flags", "has_bar"), [([], True), (["--json"], True), (["--quiet"], False)]
)
def test_a_terminal_gets_a_progress_bar_unless_quiet(
    flags, has_bar, monkeypatch, capsys
):
    on_a_terminal(monkeypatch)
    run(monkeypatch, *flags, main=train, config_type=Trainer)
    assert ("it/s" in capsys.readouterr().err) == has_bar


@pytest.mark.parametrize("flags", [["--quiet"], ["--quiet", "--json"]])
def test_a_quiet_program_says_its_errors(flags, monkeypatch, capsys):
    error = cli.InputError("no such run")
    assert run(monkeypatch, *flags, main=fail_with(error), config_type=Trainer) == 2
    assert capsys.readouterr() == ("", "error: no such run\n")


@dataclass(frozen=True)
class Writer(cli.Quiet):
    pass


def test_a_program_whose_output_is_its_result_keeps_it_when_quiet(monkeypatch, capsys):
    def write(config):
        print("the text")
        cli.note("a remark")

    run(monkeypatch, main=write, config_type=Writer)
    assert capsys.readouterr() == ("the text\n", "a remark\n")
    run(monkeypatch, "--quiet", main=write, config_type=Writer)
    assert capsys.readouterr() == ("the text\n", "")


def test_a_command_can_be_copied_but_commands_no_terminal():
    said = cli.command("train.sample", "--run", Path("it's a\x1b[31mrun"), 3)
    assert said == """python -m train.sample --run 'it'"'"'s a\\x1b[31mrun' 3"""


@pytest.fixture
def sources(tmp_path):
    """A few names and a short text."""
    (tmp_path / "names").mkdir()
    for language, letters in {"Ab": "ab", "Xy": "xy"}.items():
        some = [a + b + c for a in letters for b in letters for c in "klmnop"]
        (tmp_path / "names" / f"{language}.txt").write_text("\n".join(some))
    (tmp_path / "text.txt").write_text("The carry goes on, and on.\n" * 12)
    return tmp_path


COMMON = {"steps": 3, "train_seconds": 1.5, "wall_seconds": 2.5, "train_loss": 2.25}
NAMES = {"test_accuracy": 0.75, "test_loss": 1.25, "test_macro_f1": 0.5}


@pytest.mark.parametrize(
    ("program", "flags", "summary", "follow_up"),
    [
        (
            names,
            "practical --data names",
            COMMON | NAMES | {"test_names": 8},
            "train.predict --run run NAME",
        ),
        (
            charlm,
            "lab --text text.txt --batch-size 2 --window 9 --mlp-size 4",
            COMMON | {"recipe": "lab", "train_loss_without_dropout": 2.0},
            "train.sample --run run",
        ),
    ],
)
def test_a_training_says_its_summary_and_what_to_do_next(
    program, flags, summary, follow_up, sources, monkeypatch, capsys
):
    monkeypatch.chdir(sources)
    monkeypatch.setattr(program, "run_in", lambda *_: summary)
    monkeypatch.setattr(program, "write_report", lambda path: path, raising=False)

    def train(flag):
        given = f"--recipe {flags} --hidden-size 4 --out run {flag}".split()
        code = run(monkeypatch, *given, main=program.main, config_type=program.Config)
        assert code == 0
        return capsys.readouterr()

    out, err = train("--json")
    assert json.loads(out) == summary
    lines = err.splitlines()
    assert lines[0].startswith("device: ")
    assert lines[-1] == f"python -m {follow_up}"
    assert not {"\r", "\x1b"} & set(err)

    # Not another configuration.
    out, err = train("--quiet")
    assert err == ""
    assert out.splitlines()[-1] == f"python -m {follow_up}"
    assert "device" not in out


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
    # A shell lets what it starts in the background ignore Ctrl-C, tests included.
    listen = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    wait = f"import signal; {listen}; print('ready', flush=True); time.sleep(30)"
    with subprocess.Popen(
        program(tmp_path, wait),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


def test_reader_that_has_gone_is_no_error(tmp_path):
    command = program(tmp_path, "print('x' * 1_000_000)")
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=60)
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


# In a process of its own nothing is imported before it runs.
@pytest.mark.filterwarnings("ignore:'train.report.__main__' found:RuntimeWarning")
def test_one_command_runs_every_program(monkeypatch, capsys):
    cli.run_command([])
    assert capsys.readouterr().out.endswith(", ".join(sorted(PROGRAMS)) + "\n")
    with pytest.raises(SystemExit) as ended:
        cli.run_command(["predikt", "--run", "r"])
    assert ended.value.code == 2
    assert "no program 'predikt'; perhaps you meant predict" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["rnnjax"])
    with pytest.raises(SystemExit) as ended:
        cli.run_command(["report", "--run", "nowhere"])
    assert ended.value.code == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_users_own_train_py_is_not_run_in_our_place(tmp_path):
    (tmp_path / "train.py").write_text("print('mine')")
    command = [sys.executable, str(ROOT / "train" / "bin" / "rnnjax"), "report"]
    done = subprocess.run(
        [*command, "--run", "nowhere"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nowhere")
