"""Weights to and from PyTorch's names, without torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rnnjax import (
    GRU,
    LSTM,
    ElmanCell,
    GRUCell,
    LayerNormGRU,
    LayerNormGRUCell,
    Linear,
    LSTMCell,
    MultiHeadAttention,
    SumCell,
    from_torch,
    to_torch,
    torch_layout,
)
from rnnjax.lessons import CharLM, StackClassifier
from tests.helpers import random_params


def state_dict_of(module, *args):
    params = random_params(module, *args)
    return params, to_torch(module, params)


def test_names_and_order_are_torchs():
    names = [e.name for e in torch_layout(LSTM(5, num_layers=2, bidirectional=True))]
    assert names == [
        f"{part}_l{suffix}"
        for suffix in ("0", "0_reverse", "1", "1_reverse")
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    projected = [e.name for e in torch_layout(LSTM(5, projection=3))]
    assert projected[-1] == "weight_hr_l0"
    assert [e.name for e in torch_layout(LSTMCell(5))] == [
        "weight_ih",
        "weight_hh",
        "bias_ih",
        "bias_hh",
    ]


X = jnp.ones((2, 6))


@pytest.mark.parametrize(
    ("module", "args"),
    [
        (ElmanCell(5), (jnp.ones((2, 5)), X)),
        (ElmanCell(5, hh_bias=False), (jnp.ones((2, 5)), X)),
        (GRUCell(5, use_bias=False), (jnp.ones((2, 5)), X)),
        (LSTMCell(5), (LSTMCell(5).initialize_carry(None, (2, 1)), X)),
        (Linear(5), (X,)),
        (Linear(5, use_bias=False), (X,)),
        (MultiHeadAttention(3), (X, jnp.ones((2, 7, 6)))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_round_trip_of_single_modules(module, args):
    params, state_dict = state_dict_of(module, *args)
    back = from_torch(module, state_dict)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_through_a_file(tmp_path):
    gru = GRU(5, num_layers=2)
    params, state_dict = state_dict_of(gru, jnp.ones((7, 4)))
    save_file(state_dict, tmp_path / "gru.safetensors")
    back = from_torch(gru, load_file(tmp_path / "gru.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_every_wrong_entry_is_listed():
    gru = GRU(5)
    _, state_dict = state_dict_of(gru, jnp.ones((7, 4)))
    state_dict["weight_hh_l0"] = state_dict["weight_hh_l0"].T
    state_dict["bias_ih_l1"] = state_dict["bias_ih_l0"]
    del state_dict["bias_ih_l0"]
    with pytest.raises(ValueError) as error:
        from_torch(gru, state_dict)
    assert str(error.value) == (
        "GRU: missing bias_ih_l0 (15,); extra bias_ih_l1 (15,); "
        "weight_hh_l0 has shape (5, 15), expected (15, 5)"
    )


def test_a_width_that_cannot_be_known_is_not_made_up():
    _, state_dict = state_dict_of(GRU(5), jnp.ones((7, 4)))
    del state_dict["weight_ih_l0"]
    with pytest.raises(ValueError, match=r"^GRU: missing weight_ih_l0$"):
        from_torch(GRU(5), state_dict)


def test_another_module_is_refused():
    _, state_dict = state_dict_of(GRU(5), jnp.ones((7, 4)))
    with pytest.raises(ValueError, match=r"weight_ih_l0 has shape \(15, 4\), expected"):
        from_torch(LSTM(5), state_dict)
    with pytest.raises(ValueError, match="missing weight_ih_l0_reverse"):
        from_torch(GRU(5, bidirectional=True), state_dict)
    with pytest.raises(ValueError, match="extra bias_ih_l0"):
        from_torch(GRU(5, use_bias=False), state_dict)


def test_parameters_that_are_not_the_modules():
    params, _ = state_dict_of(GRU(5), jnp.ones((7, 4)))
    cell = params["layer_0"]["cell"]
    cell["hr"] = {"kernel": jnp.ones((5, 3))}
    cell["hh"] = {"kernel": cell["hh"]["kernel"].T}
    with pytest.raises(ValueError) as error:
        to_torch(GRU(5), params)
    assert str(error.value) == (
        "the parameters of GRU: missing layer_0/cell/hh/bias (15,); "
        "extra layer_0/cell/hr/kernel (5, 3); "
        "layer_0/cell/hh/kernel has shape (15, 5), expected (5, 15)"
    )


@pytest.mark.parametrize("module", [SumCell(5), LayerNormGRU(5), LayerNormGRUCell(5)])
def test_modules_that_torch_does_not_have(module):
    with pytest.raises(TypeError, match=f"known for {type(module).__name__}; expected"):
        from_torch(module, {})


def test_arrays_are_contiguous_and_float32():
    _, state_dict = state_dict_of(GRU(5), jnp.ones((7, 4)))
    for array in state_dict.values():
        assert isinstance(array, np.ndarray) and array.flags.c_contiguous
        assert array.dtype == np.float32


@pytest.mark.parametrize("model", [StackClassifier, CharLM])
def test_a_kind_that_is_not_known(model):
    options = {"num_classes": 3} if model is StackClassifier else {}
    module = model(vocab_size=7, hidden_size=5, kind="GRU", **options)
    with pytest.raises(ValueError, match="kind is 'GRU'; expected one of rnn, gru, ls"):
        module.init(jax.random.key(0), jnp.zeros((2, 4), jnp.int32))
