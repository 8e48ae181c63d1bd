"""`train.export`: what is written runs without rnnjax and gives the same numbers."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rnnjax.truncated import zero_carry
from tests import untrained
from train import export, trained
from train.cli import InputError
from train.forward import forward
from train.runs.directory import RunDirectory

# What somebody does who has JAX and the two files.
WITHOUT_RNNJAX = """
import json, sys
import jax, numpy as np
for folder in sys.argv[1:]:
    about = json.load(open(f"{folder}/model.json"))
    data = open(f"{folder}/{about['file']}", "rb").read()
    program = jax.export.deserialize(bytearray(data))
    given = np.load(f"{folder}/given.npz")
    found = program.call(*(given[array["name"]] for array in about["inputs"]))
    named = zip((array["name"] for array in about["outputs"]), found, strict=True)
    np.savez(f"{folder}/found.npz", **dict(named))
assert not {"rnnjax", "flax", "train"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """``make_run(recipe)`` for a language model, ``make_run(recipe, model)`` for names."""

    def make(recipe: str, *model: str, **flags) -> Path:
        out = tmp_path_factory.mktemp(recipe)
        if model:
            return untrained.names_run(out, recipe, *model, hidden_size=7, **flags)
        text = untrained.SAMPLE / "script.txt"
        return untrained.charlm_run(out, text, recipe=recipe, hidden_size=7, **flags)

    return make


def of_names(run: Path, rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the library makes of the same rows."""
    known = trained.load_classifier(RunDirectory(run))
    found = forward(known.model, known.params, **rows, carry=known.carry)
    return [array for array in found if array is not None]


def of_text(run: Path, rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the library makes of the same rows."""
    writer = trained.load_writer(RunDirectory(run))
    structure = jax.tree.structure(zero_carry(writer.model, (1,)))
    before = jax.tree.unflatten(structure, list(rows.values())[1:])
    after, logits = writer.model.apply(
        {"params": writer.params}, rows["tokens"], before
    )
    return [logits, *jax.tree.leaves(after)]


RUNS = {
    # A random state to begin with, attention, a fixed number of steps, text.
    ("blog", "rnn"): of_names,
    ("workshop", "attention"): of_names,
    ("binary", "rnn"): of_names,
    ("shakespeare",): of_text,
}


def test_another_process_without_rnnjax_gets_the_same_numbers(make_run, rng):
    runs = {make_run(*run): expected for run, expected in RUNS.items()}
    given, folders = {}, {}
    for run in runs:
        export.main(export.Config(run))
        folder = folders[run] = run / "export"
        about = json.loads((folder / "model.json").read_text())
        sizes, rows = {"batch": 3, "time": 11}, {}
        for array in about["inputs"]:
            shape = [sizes.get(size, size) for size in array["shape"]]
            drawn = rng.uniform(-1, 1, shape)
            if array["name"] == "tokens":
                drawn = rng.integers(0, len(about["alphabet"]), shape)
            if array["name"] == "seq_lengths":
                drawn = np.array([4, 11, 0])
            rows[array["name"]] = drawn.astype(array["dtype"])
        np.savez(folder / "given.npz", **rows)
        given[run] = rows
    subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_RNNJAX, *map(str, folders.values())],
        check=True,
        cwd="/",
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    for run, expected in runs.items():
        about = json.loads((folders[run] / "model.json").read_text())
        with np.load(folders[run] / "found.npz") as file:
            found = dict(file)
        export_of = export.EXPORTS[RunDirectory(run).config["program"]]
        compiled = jax.jit(export_of(RunDirectory(run)).function)
        same = compiled(*given[run].values())
        near = expected(run, given[run])
        assert len(same) == len(near) == len(about["outputs"])
        sizes = {"batch": 3, "time": 11}
        for exact, close, array in zip(same, near, about["outputs"], strict=True):
            np.testing.assert_array_equal(found[array["name"]], exact)
            # XLA computes with weights that it knows in another order.
            np.testing.assert_allclose(exact, close, rtol=1e-5, atol=1e-6)
            shape = [sizes.get(size, size) for size in array["shape"]]
            assert [*exact.shape, str(exact.dtype)] == [*shape, array["dtype"]]


def test_the_description_is_right(make_run, tmp_path, capsys):
    run = make_run("shakespeare", tokens="bytes", num_layers=2)
    export.main(export.Config(run, out=tmp_path / "served", platforms=("tpu",)))
    assert "served/model.stablehlo" in capsys.readouterr().out
    about = json.loads((tmp_path / "served" / "model.json").read_text())
    data = (tmp_path / "served" / about["file"]).read_bytes()
    assert about["sha256"] == hashlib.sha256(data).hexdigest()
    program = jax.export.deserialize(bytearray(data))
    assert list(program.platforms) == about["platforms"] == ["tpu"]
    assert [str(aval.dtype) for aval in program.in_avals] == [
        array["dtype"] for array in about["inputs"]
    ]
    carries = ["carry_0_h", "carry_0_c", "carry_1_h", "carry_1_c"]
    assert [array["name"] for array in about["inputs"]] == ["tokens", *carries]
    assert [array["name"] for array in about["outputs"]] == ["logits", *carries]
    assert about["alphabet"] is None


@pytest.mark.parametrize("recipe", RUNS)
def test_an_onnx_file_gives_the_same_numbers(recipe, make_run, rng, capsys):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    run = make_run(*recipe)
    path = run / "served" / "text.onnx"
    export.main(export.Config(run, "onnx", path))
    assert "text.onnx.json describes it" in capsys.readouterr().out
    about = json.loads((run / "served" / "text.onnx.json").read_text())
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    session = onnxruntime.InferenceSession(path)
    for described, found in (
        (about["inputs"], session.get_inputs()),
        (about["outputs"], session.get_outputs()),
    ):
        assert [put["name"] for put in described] == [put.name for put in found]
        assert [put["shape"] for put in described] == [put.shape for put in found]
        types = {"float32": "float", "int64": "int64", "int32": "int32"}
        expected = [f"tensor({types[put['dtype']]})" for put in described]
        assert expected == [put.type for put in found]
    given = {
        array["name"]: rng.uniform(-1, 1, (3, 7)).astype(np.float32)
        for array in about["inputs"]
    }
    given["tokens"] = rng.integers(0, len(about["alphabet"]), (3, 11))
    if "seq_lengths" in given:
        given["seq_lengths"] = np.array([4, 11, 0], np.int32)
    for found, near in zip(session.run(None, given), RUNS[recipe](run, given)):
        np.testing.assert_allclose(found, near, rtol=0, atol=2e-6)


def test_numbers_that_differ_are_not_written(make_run, monkeypatch):
    run = make_run("practical", "linear")
    read = jax.export.deserialize

    class Wrong:
        def __init__(self, data):
            self.program = read(data)

        def call(self, *inputs):
            return [array + 1 for array in self.program.call(*inputs)]

    monkeypatch.setattr(export.export, "deserialize", Wrong)
    with pytest.raises(InputError, match="computes other numbers than the model"):
        export.main(export.Config(run))
    assert not (run / "export").exists()


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"is no run directory .* train\.charlm made"):
        export.main(export.Config(tmp_path))
    with pytest.raises(InputError, match="--platforms is empty"):
        export.main(export.Config(tmp_path, platforms=()))
    with pytest.raises(InputError, match=r"names\.onnx is the name of an ONNX file"):
        export.main(export.Config(tmp_path, out=tmp_path / "names.onnx"))
    with pytest.raises(InputError, match="is a directory; expected a file, such as"):
        export.main(export.Config(tmp_path, "onnx", tmp_path))
    with pytest.raises(InputError, match="runs anywhere; leave out --platforms"):
        export.main(export.Config(tmp_path, "onnx", platforms=("tpu",)))


def test_without_the_package_onnx(make_run, monkeypatch):
    run = make_run("practical", "linear")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r'^ONNX files need .* "rnnjax\[convert\]"$'):
        export.main(export.Config(run, "onnx"))
    assert not (run / "export").exists()
