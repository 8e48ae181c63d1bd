"""Damaged files, killed processes, hostile input: the campaign in small.

``python -m tests.campaign`` tries much more of the same and writes RELIABILITY.md.
"""

import ast
import json
import math
import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.campaign import (
    disk,
    faults,
    flips,
    mismatch,
    numbers,
    programs,
    saved,
    truncation,
)
from tests.campaign.fuzz import obeyed
from tests.campaign.results import Plan
from train import convert, predict, trained
from train.names import __main__ as names
from train.runs import loop
from train.runs.checkpoint import Checkpoints
from train.runs.directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
MODEL = "linear"
"""Of the recipe practical: it compiles soonest."""

# What runs what a file says.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {("os", "system"), ("os", "popen"), ("torch", "load")}
KEYWORDS = {"allow_pickle", "shell"}


def dangers(source: str) -> list[str]:
    """What could run what a file says, in a Python program."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names_):
                found += [each.name for each in names_]
            case ast.ImportFrom(module=str(module), names=names_):
                found += [module, *(f"{module}.{each.name}" for each in names_)]
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                found.append(f"{name}()")
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                found.append(f"{module}.{name}")
            case ast.keyword(arg=str(name)) if name in KEYWORDS:
                found.append(f"{name}=")
    bad = {*(f"{name}()" for name in CALLS), *(f"{name}=" for name in KEYWORDS)}
    bad |= {".".join(method) for method in METHODS}
    return [each for each in found if each in bad or each.split(".")[0] in MODULES]


@pytest.mark.parametrize("package", ["rnnjax", "train"])
def test_no_file_can_run_anything(package):
    paths = list((ROOT / package).rglob("*.py"))
    assert len(paths) > 10
    found = {path: dangers(path.read_text(encoding="utf-8")) for path in paths}
    assert {path: each for path, each in found.items() if each} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import marshal as m",
        "from os import system",
        "eval('1')",
        "exec(open('config.py').read())",
        "__import__('os')",
        "os.system('ls')",
        "torch.load(path)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_the_search_finds(source):
    assert dangers(source)
    assert not dangers("import re, json; re.compile('a'); jax.jit(f).lower().compile()")


# Damaged runs.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small run; without pictures, which take half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.names.finish.draw", lambda *args: None)
        return saved.train(tmp_path_factory.mktemp("hostile") / "run", MODEL)


@pytest.fixture
def plan(tmp_path):
    return Plan(tmp_path, quick=True)


def files_of(step: Path) -> list[Path]:
    return [path for path in sorted(step.rglob("*")) if path.is_file()]


def test_flipped_bits_are_named_and_fallen_back_from(whole, plan):
    rng = plan.random("test")
    for path in files_of(whole.newest)[::2]:
        if path.stat().st_size:
            with saved.copied(whole.path / "checkpoints", plan.scratch) as copy:
                flips.flip(copy / path.relative_to(whole.path / "checkpoints"), rng)
                assert saved.problem_of(saved.read(copy, whole), whole) == ""


@pytest.mark.parametrize("damage", truncation.DAMAGES, ids=lambda d: d.__name__)
def test_damaged_files_are_named_and_fallen_back_from(whole, plan, damage):
    for path in [whole.newest / "MANIFEST.sha256", whole.newest / "run.json"]:
        with saved.copied(whole.path / "checkpoints", plan.scratch) as copy:
            damage(copy / path.relative_to(whole.path / "checkpoints"))
            assert saved.problem_of(saved.read(copy, whole), whole) == ""


def test_no_other_is_left(whole, plan):
    row = truncation.in_all(whole, plan)
    assert row.passed == row.tried, row.worst


@pytest.mark.parametrize("change", mismatch.CHANGES, ids=lambda c: c.__name__)
def test_another_model_is_refused_with_both_values(whole, change):
    assert mismatch.problem_of(change, whole) == ""


@pytest.mark.parametrize("name", ["params.safetensors", "config.json"])
def test_flipped_bits_are_not_used(whole, plan, name):
    row = flips.in_file(whole, plan, name, 5)
    assert row.passed == row.tried, row.worst


def test_many_saves_leave_nothing_open(whole, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", whole.config)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    for step in range(5):
        checkpoints.save(step, whole.like)
    before = descriptors()
    for step in range(5, 15):
        checkpoints.save(step, whole.like)
    assert descriptors() <= before
    assert checkpoints.steps() == [13, 14]


# Killed, stopped, without space.


PROGRAM = programs.names(3, model=MODEL)


def run_again(out: Path) -> programs.Done:
    return programs.call(names, *PROGRAM.flags, "--out", str(out))


def test_killed_in_the_middle_of_a_save(whole, tmp_path, no_pictures):
    out = tmp_path / "run"
    done = programs.run(PROGRAM.command(out, "kill", "90"))
    assert done.code == -signal.SIGKILL, done.err
    assert run_again(out).code == 0
    assert programs.differences(out, whole.path) == []


def test_stopped_by_a_signal(tmp_path, no_pictures, monkeypatch):
    real, calls = loop.advance, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(loop, "advance", interrupted)
    done = run_again(tmp_path / "run")
    assert done.code == 143, done
    (step,) = programs.steps(tmp_path / "run")
    assert f"after update {step:,}; saved" in done.err


def test_full_disk(tmp_path):
    out = tmp_path / "run"
    done = programs.run(PROGRAM.command(out, "full", "60"), disk.SECONDS)
    assert disk.problem_of(done, out) == "", done


def test_bad_number(tmp_path, no_pictures):
    out, at = tmp_path / "run", 247
    with numbers.poisoned("gradient", at, math.nan, 1):
        done = run_again(out)
    assert numbers.problem_of(done, out, tmp_path / "none", at) == "", done


# Hostile files.


def weights(header: object, payload: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + payload


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LAYER = {
    "weight_ih_l0": np.ones((9, 2), np.float32),
    "weight_hh_l0": np.ones((9, 3), np.float32),
    "bias_ih_l0": np.ones(9, np.float32),
    "bias_hh_l0": np.ones(9, np.float32),
}
OURS = "layer_0/cell/ih/kernel"
WEIGHTS = {
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "header that is not there": struct.pack("<Q", 99_999_999) + b"{}",
    "deep header": weights(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "huge shape": weights({"weight_ih_l0": entry([2**40, 2**40], 0, 0)}),
    "negative shape": weights({"weight_ih_l0": entry([-1, -4], 0, 16)}, bytes(16)),
    "empty shape": weights(
        {"weight_ih_l0": entry([0, 2**40], 0, 0), "weight_hh_l0": entry([0, 0], 0, 0)}
    ),
    "overlap": weights(
        {"weight_ih_l0": entry([1], 0, 4), "weight_hh_l0": entry([1], 0, 4)}, bytes(4)
    ),
    "many tensors": weights(
        {f"{i}.weight_ih_l0": entry([1], 4 * i, 4 * i + 4) for i in range(20_000)},
        bytes(80_000),
    ),
    "1,000 layers": weights(
        {
            f"weight_{part}_l{i}": entry([1, 1], 8 * i + at, 8 * i + at + 4)
            for i in range(1000)
            for part, at in (("ih", 0), ("hh", 4))
        },
        bytes(8000),
    ),
    **{
        dtype: weights(
            {
                "weight_ih_l0": entry([3, 1], 0, 3 * size, dtype),
                "weight_hh_l0": entry([3, 1], 3 * size, 6 * size, dtype),
            },
            bytes(6 * size),
        )
        for dtype, size in {"I64": 8, "BOOL": 1, "F8_E4M3": 1, "C64": 8}.items()
    },
    "not finite": save(LAYER | {"bias_hh_l0": np.full(9, np.nan, np.float32)}),
    "too large": save({name: np.full(a.shape, 1e300) for name, a in LAYER.items()}),
    "escapes": save({"\x1b[31m.weight_ih_l0": np.ones(1), "weight_ih_l0": np.ones(1)}),
    "clash": save({OURS: np.ones((2, 9)), "layer_0/cell/ih": np.ones((3, 9))}),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_hostile_weights_are_not_converted(tmp_path, what):
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    source.write_bytes(WEIGHTS[what])
    done = programs.call(convert, str(source), str(target))
    assert done.code == 2 and len(done.errors) == 1, done
    assert len(done.err) < 2000 and not obeyed(done)
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


@pytest.mark.parametrize("what", WEIGHTS)
def test_hostile_weights_are_not_used(whole, plan, what):
    with saved.copied(whole.path, plan.scratch) as copy:
        (copy / "params.safetensors").write_bytes(WEIGHTS[what])
        done = programs.call(predict, "--run", str(copy), "Anna")
    assert done.code == 2 and len(done.errors) == 1, done
    assert len(done.err) < 2000 and not obeyed(done)


def test_weights_that_are_not_finite_are_not_used(whole, plan):
    """Even where all hashes are right."""
    with saved.copied(whole.path, plan.scratch) as copy:
        run = RunDirectory(copy)
        classifier = trained.load_classifier(run)
        classifier.params["h2o"]["bias"] *= np.nan
        run.write_params(classifier.model, classifier.params)
        done = programs.call(predict, "--run", str(copy), "Anna")
    assert done.code == 2 and len(done.errors) == 1, done


def test_target_that_is_no_file(tmp_path):
    source = tmp_path / "in.safetensors"
    source.write_bytes(save(LAYER))
    for target in (tmp_path, Path("/dev/full")):
        done = programs.call(convert, str(source), str(target))
        assert done.code == 2 and "is no file; expected one to write" in done.err
    assert Path("/dev/full").is_char_device()


CONFIGS = {
    "null": b"null",
    "list": b"[]",
    "text": b'"names"',
    "number": b"1e999",
    "not UTF-8": b'{"program": "\xff"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "empty": b"",
    "other program": b'{"program": "\x1b[31m"}',
    "nothing in it": b'{"program": "names"}',
    "wrong types": b'{"program": "names", "config": 1, "sizes": [], "alphabet": {}}',
}


@pytest.mark.parametrize("what", CONFIGS)
def test_hostile_configurations(whole, plan, what):
    with saved.copied(whole.path, plan.scratch) as copy:
        (copy / "config.json").write_bytes(CONFIGS[what])
        for done in (programs.call(predict, "--run", str(copy), "A"), run_again(copy)):
            assert done.code == 2 and len(done.errors) == 1, done
            assert len(done.err) < 4000 and not obeyed(done)


def test_folders_where_files_belong(whole, plan, no_pictures):
    for name in ("config.json", "params.safetensors", "checkpoints"):
        with saved.copied(whole.path, plan.scratch) as copy:
            (copy / "summary.json").unlink()
            disk.swap(copy / name)
            done = programs.call(predict, "--run", str(copy), "Anna")
            assert done.is_plain, done
            done = run_again(copy)
            assert done.is_plain and done.code == 1, done


# Hostile folders of names.


def train_in(folder: Path, data: Path) -> programs.Done:
    return programs.call(names, "--data", str(data), "--out", str(folder / "run"))


@pytest.fixture
def languages(tmp_path):
    """A folder of three small files."""
    folder = tmp_path / "languages"
    folder.mkdir()
    for language in ("German", "Italian", "Greek"):
        (folder / f"{language}.txt").write_text("Abt\nBahr\nCalo\nDorn\n")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is no file"),
        (lambda path: path.symlink_to(path.name), "does not exist"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file"),
        (Path.mkdir, "is a directory"),
    ],
    ids=["pipe", "loop", "device", "folder"],
)
def test_language_that_is_no_file(languages, tmp_path, make, message):
    make(languages / "Irish.txt")
    done = train_in(tmp_path, languages)
    assert done.code == 2 and len(done.errors) == 1, done
    assert message in done.err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["\u202eIrish", "Ir\x1b[31mish", "Ir\udce9sh", "\ufeffA"]
)
def test_language_whose_name_a_terminal_would_obey(languages, tmp_path, name):
    (languages / f"{name}.txt").write_text("Byrne\n")
    done = train_in(tmp_path, languages)
    assert done.code == 2 and "rename it" in done.err and not obeyed(done)


def test_changes_are_told_from_looks(tmp_path):
    """What the campaign kills at."""
    inside, below = str(tmp_path / "a"), f"{tmp_path}{os.sep}"
    assert faults.is_change("open", (inside, "w", os.O_WRONLY), below)
    assert faults.is_change("os.rename", (inside, "/tmp/b", -1, -1), below)
    assert faults.is_change("os.remove", ("a", 5), below)
    assert not faults.is_change("open", (inside, "r", os.O_RDONLY), below)
    assert not faults.is_change("os.rename", ("/tmp/b", inside, -1, -1), f"{inside}/")
