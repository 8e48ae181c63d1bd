"""The program that converts files of weights."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rnnjax import GRU, LSTM, Elman, to_torch, torch_file
from tests.helpers import random_params
from train.cli import InputError
from train.convert import Config, convert, main

STACKS = {
    "Elman(5, num_layers=1) of 4 inputs": Elman(5),
    "GRU(5, num_layers=2, bidirectional=True) of 4 inputs": GRU(
        5, num_layers=2, bidirectional=True
    ),
    "LSTM(5, num_layers=2, use_bias=False, projection=3) of 4 inputs": LSTM(
        5, num_layers=2, use_bias=False, projection=3
    ),
}


@functools.cache
def state_dict_of(stack):
    return to_torch(stack, random_params(stack, np.ones((7, 4))))


@pytest.mark.parametrize("expected", STACKS)
def test_there_and_back(expected):
    state_dict = state_dict_of(STACKS[expected])
    what, ours = convert(state_dict)
    assert what == expected
    assert all(name.startswith("layer_") for name in ours)
    what, back = convert(ours)
    assert what == expected
    assert list(back) == list(state_dict)
    for name in back:
        np.testing.assert_array_equal(back[name], state_dict[name], strict=True)


def test_files(tmp_path, capsys):
    """A layer inside a model, and the other parts of it left alone."""
    state_dict = state_dict_of(GRU(5))
    model = {f"rnn.{name}": array for name, array in state_dict.items()}
    source, target = tmp_path / "model.safetensors", tmp_path / "ours.safetensors"
    save_file(model | {"head.weight": np.ones((2, 5))}, source)
    main(Config(source, target))
    assert capsys.readouterr().out.startswith("GRU(5, num_layers=1) of 4 inputs\n")
    kernel = load_file(target)["layer_0/cell/ih/kernel"]
    np.testing.assert_array_equal(kernel, state_dict["weight_ih_l0"].T)


def test_a_file_for_torch_load(tmp_path):
    state_dict = state_dict_of(GRU(5))
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file(state_dict, theirs)
    main(Config(theirs, ours))
    main(Config(ours, tmp_path / "back.pt"))
    assert (tmp_path / "back.pt").read_bytes() == torch_file(state_dict)
    with pytest.raises(InputError, match=r"wrong\.pt would hold rnnjax's names"):
        main(Config(theirs, tmp_path / "wrong.pt"))
    assert not (tmp_path / "wrong.pt").exists()


def test_several_layers_need_a_prefix():
    gru = state_dict_of(GRU(5))
    model = {f"{part}.{name}": gru[name] for part in ("enc", "dec") for name in gru}
    with pytest.raises(InputError, match="'enc.', 'dec.'; choose one with --prefix"):
        convert(model)
    assert convert(model, "dec.")[0] == "GRU(5, num_layers=1) of 4 inputs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_hh_l0": None}, "no matrix weight_hh_l0: this is no layer of torch"),
        ({"weight_hh_l0": np.ones((10, 5))}, r"has shape \(10, 5\); expected 1, 3 or"),
        ({"bias_hh_l0": None}, r"GRU: missing bias_hh_l0 \(15,\)"),
        ({"weight_ih_l0": None}, "found prefixes: none"),
    ],
)
def test_what_cannot_be_converted(change, message):
    arrays = {**state_dict_of(GRU(5)), **change}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(InputError, match=message):
        convert(arrays)


def test_not_a_safetensors_file(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04 a pickle in a zip file")
    result = subprocess.run(
        [sys.executable, "-m", "train.convert", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {path} is no safetensors file")
