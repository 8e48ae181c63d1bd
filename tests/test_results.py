"""The program that makes README's table of results."""

import json
from pathlib import Path

import pytest
import tyro

from train import cli, results
from train.cli import InputError, Stopped

SUMMARY = {"num_params": 1234, "device": "CPU"}


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """Stands for processes: each leaves a summary, or ends with a code."""
    started = []

    def run_program(words):
        started.append(words)
        seed = int(words[words.index("--seed") + 1])
        out = Path(words[words.index("--out") + 1])
        if seed == 9:
            return -9
        out.mkdir(parents=True)
        summary = SUMMARY | {
            "test_accuracy": 0.80 + seed / 100,
            "leak_free_test_accuracy": 0.7,
            "val_nats_per_char": 1.5 + seed / 100,
            "wall_seconds": 10.2 + seed,
        }
        (out / "summary.json").write_text(json.dumps(summary))
        return 0

    monkeypatch.setattr(results, "run_program", run_program)
    return started


def test_the_table(processes, tmp_path, capsys):
    config = results.Config(
        only="best,shakespeare",
        seeds=3,
        out=tmp_path,
        data=Path("names"),
        text=Path("t"),
    )
    results.main(config)
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "Seeds 0 to 2; CPU"
    best, text = "| `python -m train.names`", "| `python -m train.charlm"
    apart = "no test name is in training"
    assert table[4:] == [
        f"{best} | 1,234 | 80.00, 81.00, 82.00 | 81.0 ± 1.0 % | 10–12 |",
        f"{best}, {apart} | 1,234 | 70.00, 70.00, 70.00 | 70.0 ± 0.0 % | 10–12 |",
        f"{text} --minutes 3` | 1,234 | 1.500, 1.510, 1.520 | 1.51 ± 0.01 nats | 10–12 |",
    ]
    assert len(processes) == 6
    assert processes[0][0] == "train.names"
    assert processes[0][-2:] == ["--data", "names"]
    assert processes[-1][-2:] == ["--text", "t"]


def test_one_seed_has_no_deviation(processes, tmp_path, capsys):
    results.main(results.Config(only="binary", seeds=1, out=tmp_path))
    assert "| 80.00 | 80.0 % | 10 |" in capsys.readouterr().out


def test_what_a_program_prints_is_not_the_table(capfd):
    assert results.run_program(["train.results", "--help"]) == 0
    assert results.run_program(["train.results", "--seeds", "0"]) == 2
    printed = capfd.readouterr()
    assert not printed.out
    assert "usage: python -m train.results" in printed.err


def test_a_run_that_fails_ends_it(processes, tmp_path):
    config = results.Config(only="best", out=tmp_path)
    with pytest.raises(Stopped, match="best ended with -9") as stopped:
        results.train("best", 9, config)
    assert stopped.value.code == 9


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"only": "blogs"}, "expected some of best,"), ({"seeds": 0}, "at least 1")],
)
def test_wrong_flags(flags, message):
    with pytest.raises(InputError, match=message):
        results.Config(**flags)


@pytest.mark.parametrize("name", list(results.ROWS))
def test_every_command_is_one(name):
    """Its flags are those of its program."""
    program, *flags = results.ROWS[name].command.split()
    tyro.cli(cli.load_program(program.removeprefix("train.")).Config, args=flags)
