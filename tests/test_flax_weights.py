"""Parameters of Flax's own cells in and out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import ElmanCell, GRUCell, LSTMCell, Recurrent, SumCell, from_flax, to_flax
from tests.helpers import GRADIENTS, assert_close, random_params

PAIRS = {
    "simple": (nn.SimpleCell(5), ElmanCell(5)),
    "simple_one_bias": (nn.SimpleCell(5), ElmanCell(5, hh_bias=False)),
    "gru": (nn.GRUCell(5), GRUCell(5)),
    "lstm": (nn.LSTMCell(5), LSTMCell(5)),
    "optimised_one_bias": (nn.OptimizedLSTMCell(5), LSTMCell(5, hh_bias=False)),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


def make(name, rng):
    """Flax's parameters, biases that are not zero included, and one step's input."""
    theirs, ours = PAIRS[name]
    x = rng.standard_normal((3, 4)).astype(np.float32)
    carry = theirs.initialize_carry(jax.random.key(0), x.shape)
    return theirs, ours, random_params(theirs, carry, x), x


@every_pair
def test_the_same_function(name, rng):
    theirs, ours, params, x = make(name, rng)
    h, c = rng.standard_normal((2, 3, 5)).astype(np.float32)
    lstm = isinstance(ours, LSTMCell)
    _, expected = theirs.apply({"params": params}, (c, h) if lstm else h, x)
    carry = ours.initialize_carry(None, x.shape)
    carry = type(carry)(h, c) if lstm else h
    _, y = ours.apply({"params": from_flax(ours, params)}, carry, x)
    assert_close(y, expected)


@every_pair
def test_there_and_back_bit_for_bit(name, rng):
    _, ours, params, _ = make(name, rng)
    back = to_flax(ours, from_flax(ours, params))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


@every_pair
def test_from_ours_to_flax(name, rng):
    """Two biases become their sum: the same function again."""
    theirs, ours, _, x = make(name, rng)
    carry = ours.initialize_carry(None, x.shape)
    params = random_params(ours, carry, x)
    expected = ours.apply({"params": params}, carry, x)[1]
    carry = (carry.c, carry.h) if isinstance(ours, LSTMCell) else carry
    actual = theirs.apply({"params": to_flax(ours, params)}, carry, x)[1]
    assert_close(actual, expected)


def test_with_one_bias_training_is_flaxs_too(rng):
    """The gradients are those of Flax's parameters; with two biases they are not."""
    inputs = rng.standard_normal((3, 7, 4)).astype(np.float32)
    rnn, ours = nn.RNN(nn.SimpleCell(5)), Recurrent(ElmanCell(5, hh_bias=False))
    params = random_params(rnn, inputs)

    def loss(ys):
        return jnp.sum(jnp.sin(ys))

    grads = jax.jit(jax.grad(lambda p: loss(rnn.apply({"params": p}, inputs))))(params)
    ours_grads = jax.jit(
        jax.grad(lambda p: loss(ours.apply({"params": p}, inputs)[1]))
    )(from_flax(ours, params))
    assert_close(to_flax(ours, ours_grads), grads, GRADIENTS)


def test_wrong_entries_are_listed(rng):
    _, ours, params, _ = make("gru", rng)
    params["hn"] = {"kernel": params["hn"]["kernel"]}
    params["hr"]["bias"] = jnp.ones(5)
    params["ir"]["bias"] = jnp.ones(4)
    with pytest.raises(ValueError) as error:
        from_flax(ours, params)
    assert str(error.value) == (
        "Flax's cell for GRUCell: missing hn/bias (5,); extra hr/bias (5,); "
        "ir/bias has shape (4,), expected (5,)"
    )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (SumCell(5), "Flax has no cell like SumCell"),
        (LSTMCell(5, projection=3), "Flax has no cell like LSTMCell.*projection"),
    ],
    ids=["sum", "projection"],
)
def test_cells_that_flax_does_not_have(module, message):
    with pytest.raises(TypeError, match=message):
        from_flax(module, {})


def test_no_place_for_the_biases(rng):
    _, _, params, _ = make("gru", rng)
    for options in ({"hh_bias": False}, {"use_bias": False}):
        with pytest.raises(
            ValueError, match="biases that GRUCell with .* no place for"
        ):
            from_flax(GRUCell(5, **options), params)


def test_not_an_rnn(rng):
    _, ours, params, _ = make("gru", rng)
    with pytest.raises(ValueError, match="nn.RNN has the entry cell; got"):
        from_flax(Recurrent(ours), params)
