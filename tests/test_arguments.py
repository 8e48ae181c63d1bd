"""Arguments that cannot be meant, and types that went wrong in silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import (
    GRU,
    LSTM,
    Elman,
    ElmanCell,
    GRUCell,
    LayerNormLSTM,
    Linear,
    LSTMCell,
    Recurrent,
    from_torch,
    masked_mean,
)
from rnnjax.dropout import Dropout
from rnnjax.lessons import PreviousStateClassifier
from rnnjax.masks import length_mask
from rnnjax.text import pad
from tests.helpers import normal, random_params


@pytest.mark.parametrize("kind", [Elman, GRU, LSTM, LayerNormLSTM, GRUCell, Linear])
def test_torchs_order_of_arguments_is_answered(kind):
    assert kind(7).features == kind(features=7).features == 7
    with pytest.raises(TypeError, match=r"got 32, 64.*called features here: \w+\(64\)"):
        kind(32, 64)


@pytest.mark.parametrize("kind", [Elman, GRU, LSTM, ElmanCell, LSTMCell, Linear])
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("hidden_size", "it is `features` here"),
        ("input_size", "known from the input"),
        ("bias", "it is `use_bias` here"),
        ("batch_first", "always"),
        ("nonlinearity", "it is `activation` here"),
    ],
)
def test_torchs_keywords_are_answered(kind, name, answer):
    with pytest.raises(TypeError, match=f"{kind.__name__} has no {name}: .*{answer}"):
        kind(**{name: 3})


def test_an_unknown_keyword_is_pythons_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'feature'"):
        GRU(feature=3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GRU(0), "features is 0; expected a whole number of at least 1"),
        (lambda: GRU(2.5), "features is 2.5"),
        (lambda: GRU(True), "features is True"),
        (lambda: GRU(4, num_layers=0), "num_layers is 0"),
        (lambda: GRU(4, num_layers=-1), "num_layers is -1"),
        (lambda: GRU(4, dropout=1.5), "dropout is 1.5; expected a probability"),
        (lambda: GRU(4, dropout=-0.1), "dropout is -0.1"),
        (lambda: GRU(4, dropout=float("nan")), "dropout is nan"),
        (lambda: LSTM(4, projection=4), "projection is 4, and features 4"),
        (lambda: LSTM(4, projection=0), "projection is 0"),
        (lambda: LSTMCell(4, projection=9), "projection is 9, and features 4"),
        (lambda: ElmanCell(-3), "features is -3"),
        (lambda: Linear(0), "features is 0"),
        (lambda: Dropout(-0.1), "rate is -0.1; expected a probability, from 0 to 1"),
        (lambda: Dropout(1.5), "rate is 1.5"),
        (lambda: Dropout(True), "rate is True"),
    ],
)
def test_values_out_of_range(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_flags_are_flags():
    with pytest.raises(TypeError, match="bidirectional is 2; expected True or False"):
        GRU(4, bidirectional=2)
    with pytest.raises(TypeError, match="use_bias is None"):
        LSTMCell(4, use_bias=None)


def test_modules_are_copied_as_before():
    gru = GRU(features=4, num_layers=2)
    assert gru.clone(dropout=0.5).num_layers == 2
    assert gru == GRU(4, num_layers=2)


LENGTHS = [([9, 7, 1], "seq_lengths has 9, and the inputs have 7 steps")]
LENGTHS += [([7, -1, 0], "seq_lengths has -1")]


@pytest.mark.parametrize(("lengths", "said"), LENGTHS)
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_lengths_that_the_inputs_cannot_have(lengths, said, kind):
    inputs = normal(0, 3, 7, 5)
    gru = GRU(4)
    params = {"params": random_params(gru, inputs)}
    for lengths_ in (kind(lengths), lengths):
        with pytest.raises(ValueError, match=said):
            gru.apply(params, inputs, lengths_)
    # Under jit nobody knows them: they are cut to what there is.
    carry, _ = jax.jit(gru.apply)(params, inputs, kind(lengths))
    cut, _ = gru.apply(params, inputs, np.clip(lengths, 0, 7))
    np.testing.assert_allclose(carry[0], cut[0], rtol=1e-5, atol=1e-6)


def test_lengths_are_whole_numbers():
    inputs = normal(0, 2, 7, 5)
    gru = GRU(4)
    params = {"params": random_params(gru, inputs)}
    for lengths in ([3.9, 2.0], [True, False]):
        with pytest.raises(TypeError, match="expected whole numbers"):
            gru.apply(params, inputs, np.array(lengths))
    with pytest.raises(TypeError, match="expected whole numbers"):
        length_mask(jnp.array([1.5]), 3)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.int8])
def test_whole_numbers_that_look_like_vectors(dtype):
    gru = GRU(4)
    params = {"params": random_params(gru, normal(0, 3, 7, 5))}
    one_hot = jax.nn.one_hot(jnp.zeros((3, 7), int), 5, dtype=dtype)
    with pytest.raises(ValueError, match=r"\(3, 7, 5\).*for vectors give floats"):
        gru.apply(params, one_hot)
    _, ys = gru.apply(params, one_hot.astype(jnp.float32))
    _, expected = gru.apply(params, jnp.zeros((3, 7), dtype))
    np.testing.assert_allclose(ys, expected, rtol=1e-5, atol=1e-6)


def test_a_backend_or_activation_that_is_not_there():
    with pytest.raises(ValueError, match="backend is 'gpu'; expected one of"):
        Recurrent(GRUCell(4), backend="gpu").init(jax.random.key(0), jnp.ones((2, 3)))


def test_tokens_are_whole_numbers_of_32_bits():
    with pytest.raises(TypeError, match=r"rows\[1\] is of type float64"):
        pad([np.array([1]), np.array([0.5, -1.7])])
    with pytest.raises(ValueError, match=r"rows\[0\] has a token .* 32 bits"):
        pad([np.array([2**32 + 5])])
    assert pad([np.array([]), [3, 1]]).tokens.tolist() == [[0, 0], [3, 1]]


def mean_by_hand(values, mask):
    kept = np.asarray(values, np.float64)[np.asarray(mask, bool)]
    return kept.mean() if kept.size else 0.0


TYPES = [bool, np.int8, np.uint8, np.int32, np.float16, np.float32, jnp.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
def test_a_mean_is_a_mean_in_every_type(dtype, rng):
    for shape in [(2,), (4,), (3, 5), (2, 3, 4), (600,)]:
        values = jnp.asarray(rng.integers(0, 2, shape) * 1).astype(dtype)
        for mask in (rng.integers(0, 2, shape), np.ones(shape), np.zeros(shape)):
            found = masked_mean(values, jnp.asarray(mask, bool))
            assert found.dtype in (jnp.float32, values.dtype)
            assert found.dtype != bool
            expected = mean_by_hand(np.asarray(values).astype(np.float64), mask)
            np.testing.assert_allclose(float(found), expected, rtol=4e-3, atol=1e-6)


def test_a_mask_of_another_shape():
    with pytest.raises(ValueError, match=r"shape \(3,\), and the mask \(2,\)"):
        masked_mean(jnp.ones(3), jnp.ones(2))


def state_dict(**changes):
    rng = np.random.default_rng(0)
    state = {
        "weight_ih_l0": rng.normal(size=(12, 3)),
        "weight_hh_l0": rng.normal(size=(12, 4)),
        "bias_ih_l0": rng.normal(size=12),
        "bias_hh_l0": rng.normal(size=12),
    }
    return state | changes


def test_what_is_no_state_dict():
    for given in (object(), [1], "model.pt"):
        with pytest.raises(TypeError, match=r"module.state_dict\(\)"):
            from_torch(GRU(4), given)


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8, bool, np.complex64])
def test_weights_are_floating_point_numbers(dtype):
    wrong = state_dict(bias_hh_l0=np.ones(12, dtype))
    with pytest.raises(TypeError, match="bias_hh_l0 is of type .*floating-point"):
        from_torch(GRU(4), wrong)


def test_weights_that_float32_cannot_hold():
    large = state_dict(weight_hh_l0=np.full((12, 4), 1e300))
    with pytest.raises(ValueError, match=r"weight_hh_l0 has 1e\+300.*float32"):
        from_torch(GRU(4), large)
    for dtype in (np.float16, np.float64, jnp.bfloat16):
        params = from_torch(
            GRU(4), {k: v.astype(dtype) for k, v in state_dict().items()}
        )
        assert params["layer_0"]["cell"]["ih"]["bias"].dtype == jnp.float32


def test_a_prefix_is_named():
    inside = {f"encoder.gru.{name}": x for name, x in state_dict().items()}
    inside |= {"fc.weight": np.ones((2, 4)), "fc.bias": np.ones(2)}
    with pytest.raises(ValueError, match="the names have the prefix 'encoder.gru.'"):
        from_torch(GRU(4), inside)


def test_the_tutorials_names_checkpoint(rng):
    """The equations of PyTorch's tutorial: no activation, i2h and i2o."""
    vocab, hidden, classes = 7, 5, 3
    model = PreviousStateClassifier(vocab, hidden, classes, activation="identity")
    state = {
        "i2h.weight": rng.normal(size=(hidden, vocab + hidden)) / 3,
        "i2h.bias": rng.normal(size=hidden),
        "i2o.weight": rng.normal(size=(classes, vocab + hidden)),
        "i2o.bias": rng.normal(size=classes),
    }
    tokens = rng.integers(0, vocab, 6)
    h = np.zeros(hidden)
    for token in tokens:
        joined = np.concatenate([np.eye(vocab)[token], h])
        h, expected = (
            state["i2h.weight"] @ joined + state["i2h.bias"],
            state["i2o.weight"] @ joined + state["i2o.bias"],
        )
    logits = model.apply({"params": from_torch(model, state)}, jnp.asarray(tokens))
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-6)
