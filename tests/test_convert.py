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
from train.convert import Config, convert, main, read

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
    what, ours, _ = convert(state_dict)
    assert what.startswith(expected)
    assert all(name.startswith("layer_") for name in ours)
    what, back, _ = convert(ours)
    assert what.startswith(expected)
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
        ({"weight_ih_l0": None}, r"no recurrent layer .*build_model\(recipe, model\)"),
    ],
)
def test_what_cannot_be_converted(change, message):
    arrays = {**state_dict_of(GRU(5)), **change}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(InputError, match=message):
        convert(arrays)


def test_not_a_safetensors_file(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"neither safetensors nor torch")
    result = subprocess.run(
        [sys.executable, "-m", "train.convert", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {path} is no safetensors file")


@pytest.mark.parametrize("begins", [b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc"])
def test_a_file_of_torch_save_says_how_to_save_it(begins, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(begins + b" and so on, longer than a header's length")
    with pytest.raises(InputError, match=r"torch.save.*save_file\(torch.load"):
        read(path)


def test_what_is_left_out_is_said(tmp_path, capsys):
    state_dict = state_dict_of(LSTM(5))
    model = {f"rnn.{name}": array for name, array in state_dict.items()}
    model |= {"encoder.weight": np.ones((7, 4)), "decoder.bias": np.ones(3)}
    save_file(model, tmp_path / "model.safetensors")
    main(Config(tmp_path / "model.safetensors"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "left out: decoder.bias (3,), encoder.weight (7, 4)"


def test_what_the_file_does_not_say_is_said():
    what = convert(state_dict_of(Elman(5))).what
    assert what.endswith(
        "activation is tanh, unless it was relu: the file does not say"
    )


@pytest.mark.parametrize(
    "name", ["weight_hh_l0_raw", "weight_hh_l0_g", "weight_hh_l0_orig"]
)
def test_a_weight_that_is_computed_from_others_is_refused(name):
    arrays = {f"module.{key}": x for key, x in state_dict_of(LSTM(5)).items()}
    with pytest.raises(
        InputError, match=f"{name}: this weight is computed from others"
    ):
        convert(arrays | {name: np.ones((20, 5))})


def test_cells_go_another_way():
    cell = {"weight_ih": np.ones((20, 3)), "weight_hh": np.ones((20, 5))}
    with pytest.raises(InputError, match=r"there is a cell .*rnnjax.from_torch"):
        convert(cell)
