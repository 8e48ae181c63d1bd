"""`train.sample`: drawing, stopping, scoring, and every bad input in one line."""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.truncated import window_losses
from tests import untrained
from train import sample, trained
from train.charlm import __main__ as charlm
from train.charlm import settings as charlm_config
from train.cli import InputError
from train.runs.directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
TEXT = "The carry goes on.\nThe gradient does not: café.\n" * 12


def program(name: str, *flags, **options) -> subprocess.CompletedProcess:
    """Run a program as a person does."""
    return subprocess.run(
        [sys.executable, "-m", f"train.{name}", *map(str, flags)],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        env=os.environ | {"RNNJAX_OFFLINE": "1", "PYTHONWARNINGS": "error"},
        timeout=300,
        **options,
    )


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Runs of both recipes before their first update: what they write is noise."""
    directory = tmp_path_factory.mktemp("runs")
    source = directory / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    sizes = {"hidden_size": 8, "batch_size": 3, "window": 5}
    flags = {
        "shakespeare": {},
        "bytes": {"tokens": "bytes"},
        "lab": {"recipe": "lab", "mlp_size": 8},
    }

    @functools.cache
    def run(name: str) -> Path:
        return untrained.charlm_run(directory / name, source, **sizes, **flags[name])

    return run


@pytest.fixture
def draw(capsys):
    """Run the program here: ``(stdout, stderr)``."""

    def run(directory: Path, **flags) -> tuple[str, str]:
        capsys.readouterr()
        sample.main(sample.Config(directory, **flags))
        return capsys.readouterr()

    return run


def test_a_text_can_be_drawn_again(run_of, draw):
    ours = run_of("shakespeare")
    text, notes = draw(ours, prompt="The ", length=30)
    assert text.startswith("The ") and len(text) == 4 + 30 + 1
    assert "device: " in notes and "first 30 characters after" in notes
    assert draw(ours, prompt="The ", length=30)[0] == text
    assert draw(ours, prompt="The ", length=30, seed=1)[0] != text
    both, _ = draw(ours, prompt="The ", length=30, samples=2)
    first, second = both.split("\n" + "-" * 30 + "\n")
    assert first + "\n" == text and second != text


def test_greedy_and_top_1_are_the_same(run_of, draw):
    ours = run_of("shakespeare")
    greedy, _ = draw(ours, prompt="T", length=30, temperature=0.0)
    assert draw(ours, prompt="T", length=30, top_k=1, seed=5)[0] == greedy
    assert draw(ours, prompt="T", length=30, top_p=1e-9, seed=6)[0] == greedy


def test_prompt_from_a_file_with_unknown_characters(run_of, draw, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("thé 日 caf")
    text, notes = draw(run_of("shakespeare"), prompt=f"@{path}", length=5)
    assert text.startswith("thé 日 caf")
    assert "the prompt has 1 character that the model does not know (日)" in notes


def test_stop(run_of, draw):
    ours = run_of("shakespeare")
    text, _ = draw(ours, prompt="T", length=30, temperature=0.0)
    stop = text[12:15]
    stopped, _ = draw(ours, prompt="T", length=30, temperature=0.0, stop=stop)
    assert stopped == "T" + text[1 : text.index(stop, 1)] + "\n"


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize("stop", [None, "b", "ab", "aab", "abab", "zz", "bcx"])
def test_cut_by_brute_force(size, stop):
    text = "aababcabaabc"
    cut = sample.Cut(stop)
    pieces = [cut.add(text[i : i + size]) for i in range(0, len(text), size)]
    expected = text if stop is None else text.partition(stop)[0]
    assert "".join(pieces) + cut.rest() == expected
    assert cut.is_over == (stop is not None and stop in text)


def test_on_a_terminal_text_comes_in_pieces(run_of, draw, monkeypatch):
    ours = run_of("shakespeare")
    whole, _ = draw(ours, prompt="The ", length=40)
    shown = []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    config = sample.Config(ours, prompt="The ", length=40)
    writer = trained.load_writer(RunDirectory(ours))
    sample.write(writer, config, shown.append)
    assert len(shown) == 1 + math.ceil(40 / sample.TOKENS_AT_ONCE) + 1
    assert "".join(shown) == whole


def test_bytes_are_decoded_in_pieces(run_of, draw):
    text, _ = draw(run_of("bytes"), prompt="日 é", length=20)
    assert text.startswith("日 é")


def test_lab_writes_lines(run_of, draw):
    lab = run_of("lab")
    assert RunDirectory(lab).config["line_end"] == "$"
    text, notes = draw(lab, length=20)
    assert text.startswith("\n") and "know" not in notes


def test_score_by_hand(run_of, draw, tmp_path):
    ours = run_of("shakespeare")
    path = tmp_path / "scored.txt"
    path.write_text("The gradient")
    writer = trained.load_writer(RunDirectory(ours))
    tokens = jnp.asarray(writer.codec.encode("The gradient"))
    losses, _ = window_losses(writer.model, writer.params, None, tokens)
    expected = np.asarray(losses, np.float64)

    text, _ = draw(ours, score=path)
    nats, num, per, bits = (line.split() for line in text.splitlines())
    assert float(nats[1]) == pytest.approx(-expected.sum(), rel=1e-5)
    assert num == ["11", "characters"]
    assert float(per[0]) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(bits[0]) == pytest.approx(expected.mean() / math.log(2), rel=1e-5)

    path.write_text("gradient")
    text, _ = draw(ours, score=path, prompt="The ")
    assert float(text.split()[1]) == pytest.approx(-expected[3:].sum(), rel=1e-5)
    path.write_text("T")
    with pytest.raises(InputError, match="has one character; the first is only read"):
        draw(ours, score=path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"length": 0}, "--length is 0; expected at least 1"),
        ({"samples": 0}, "--samples is 0; expected at least 1"),
        ({"top_k": 0}, "--top-k is 0; expected at least 1"),
        ({"top_p": 0.0}, "--top-p is 0.0; expected more than 0, at most 1"),
        ({"top_p": 1.5}, "--top-p is 1.5; expected more than 0, at most 1"),
        ({"temperature": -1.0}, "--temperature is -1.0; expected at least 0"),
        ({"temperature": math.nan}, "--temperature is nan; expected at least 0"),
        ({"seed": -1}, "--seed is -1; expected 0 to 2,147,483,647"),
        ({"seed": 2**31}, "--seed is 2147483648; expected 0 to 2,147,483,647"),
        ({"stop": ""}, "--stop is empty; expected at least one character"),
    ],
    ids=str,
)
def test_wrong_flags(flags, message):
    with pytest.raises(InputError, match=message):
        sample.Config(Path("run"), **flags)


def test_wrong_prompts(run_of, draw, tmp_path):
    ours = run_of("shakespeare")
    with pytest.raises(InputError, match="prompt is empty"):
        draw(ours, prompt="")
    with pytest.raises(InputError, match="no character that the model knows"):
        draw(ours, prompt="日本")
    with pytest.raises(InputError, match="nowhere.txt does not exist"):
        draw(ours, prompt="@nowhere.txt")
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        draw(ours, prompt=f"@{path}")


def test_wrong_runs(run_of, draw, tmp_path):
    with pytest.raises(InputError, match="no run directory"):
        draw(tmp_path / "nowhere")
    config = RunDirectory(run_of("shakespeare")).config
    (tmp_path / "config.json").write_text(json.dumps(config | {"program": "names"}))
    with pytest.raises(InputError, match="is a run of names; expected one of charlm"):
        draw(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no trained model .* writes it anew"):
        draw(tmp_path)


def test_as_a_person_runs_them(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    out = tmp_path / "run"
    sizes = ["--hidden-size", 8, "--batch-size", 4, "--window", 20]
    trained = program("charlm", "--epochs", 1, "--out", out, *sizes)
    assert trained.returncode == 0, trained.stderr
    assert "device: " in trained.stdout.splitlines()[0]
    drawn = program("sample", "--run", out, "--prompt", "The ", "--length", 9)
    assert (drawn.returncode, len(drawn.stdout)) == (0, 14), drawn.stderr
    assert drawn.stdout.startswith("The ")


def test_lab_shows_what_it_writes(tmp_path, capsys, monkeypatch, no_pictures):
    monkeypatch.setenv("RNNJAX_OFFLINE", "1")
    often = dataclasses.replace(charlm_config.SETTINGS["lab"], sample_every=2)
    monkeypatch.setitem(charlm_config.SETTINGS, "lab", often)
    out = tmp_path / "run"
    charlm.main(charlm.Config("lab", epochs=2, out=out, hidden_size=8, mlp_size=8))
    printed = capsys.readouterr().out
    assert "They " in printed and "Professor " in printed
    samples = (out / "samples.txt").read_text()
    assert samples.startswith("epoch 2, loss ")


@pytest.mark.skipif(
    "RNNJAX_DATA" not in os.environ, reason="RNNJAX_DATA names the real texts' folder"
)
def test_real_texts(tmp_path):
    data = Path(os.environ["RNNJAX_DATA"])
    for recipe, name in [
        ("lab", "episode1_english"),
        ("shakespeare", "tinyshakespeare"),
    ]:
        config = charlm.Config(recipe, text=data / f"{name}.txt", hidden_size=16)
        text = charlm.read_text(config.text, "friends", joined=recipe == "lab")
        codec = charlm.survey(text, "chars").codec
        assert codec.vocab_size == {"lab": 67, "shakespeare": 65}[recipe]
