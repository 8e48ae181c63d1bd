"""One step of every cell."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import (
    ElmanCell,
    GRUCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    SumCell,
)
from tests.helpers import assert_close, random_params

CELLS = {
    "elman": ElmanCell(5, vocab_size=4),
    "gru": GRUCell(5, vocab_size=4),
    "lstm": LSTMCell(5, vocab_size=4),
    "projection": LSTMCell(5, projection=3, vocab_size=4),
    "sum": SumCell(5, vocab_size=4),
    "norm_gru": LayerNormGRUCell(5, vocab_size=4),
    "norm_lstm": LayerNormLSTMCell(5, vocab_size=4),
}
every_cell = pytest.mark.parametrize("name", CELLS)


def make(name, rng, batch=()):
    cell = CELLS[name]
    x = rng.standard_normal((*batch, 4)).astype(np.float32)
    zeros = cell.initialize_carry(None, x.shape)
    carry = jax.tree.map(
        lambda z: rng.standard_normal(z.shape).astype(np.float32), zeros
    )
    return cell, {"params": random_params(cell, carry, x)}, carry, x


@every_cell
def test_the_carry_keeps_its_form(name, rng):
    cell, params, carry, x = make(name, rng, (3,))
    new, y = cell.apply(params, carry, x)
    assert jax.tree.structure(new) == jax.tree.structure(carry)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, carry)
    assert y.shape == (3, 3 if name == "projection" else 5)


@every_cell
def test_one_example_a_batch_and_vmap(name, rng):
    cell, params, carry, x = make(name, rng, (3,))
    batch = cell.apply(params, carry, x)
    first = jax.tree.map(lambda leaf: leaf[0], (carry, x))
    one = cell.apply(params, *first)
    assert_close(one, jax.tree.map(lambda leaf: leaf[0], batch))
    assert_close(jax.vmap(cell.apply, (None, 0, 0))(params, carry, x), batch)


@every_cell
def test_a_token_is_a_one_hot_vector(name, rng):
    cell, params, carry, _ = make(name, rng)
    one_hot = jax.nn.one_hot(2, 4)
    by_token = cell.apply(params, carry, jnp.array(2))
    assert_close(by_token, cell.apply(params, carry, one_hot))
    init = jax.jit(cell.init)
    params = [init(jax.random.key(0), carry, v) for v in (one_hot, jnp.array(2))]
    assert_close(*params, 0.0)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity"])
def test_activations(activation, rng):
    cell = ElmanCell(5, activation=activation)
    h, x = rng.standard_normal((2, 5)).astype(np.float32)
    params = random_params(cell, h, x)
    ih, hh = params["ih"], params["hh"]
    total = x @ ih["kernel"] + ih["bias"] + h @ hh["kernel"] + hh["bias"]
    expected = {
        "tanh": np.tanh,
        "relu": lambda v: np.maximum(v, 0),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "identity": lambda v: v,
    }[activation](np.asarray(total))
    assert_close(cell.apply({"params": params}, h, x), (expected, expected))


def test_the_sum_cell_squashes_before_it_adds(rng):
    cell, params, h, x = make("sum", rng)
    ih, hh = params["params"]["ih"], params["params"]["hh"]
    expected = jnp.tanh(x @ ih["kernel"] + ih["bias"])
    expected += jnp.tanh(h @ hh["kernel"] + hh["bias"])
    assert_close(cell.apply(params, h, x)[1], expected)


@pytest.mark.parametrize(
    ("options", "biases"),
    [
        ({}, {"ih", "hh"}),
        ({"hh_bias": False}, {"ih"}),
        ({"use_bias": False}, set()),
    ],
)
def test_which_biases_there_are(options, biases):
    params = GRUCell(5, **options).init(jax.random.key(0), jnp.ones(5), jnp.ones(4))
    maps = params["params"]
    assert {name for name in maps if "bias" in maps[name]} == biases


@pytest.mark.parametrize("cell", [LayerNormGRUCell(5), LayerNormLSTMCell(5)], ids=type)
def test_use_bias_of_a_norm_cell_is_of_its_norms(cell):
    carry = cell.initialize_carry(None, (4,))
    params = cell.clone(use_bias=False).init(jax.random.key(0), carry, jnp.ones(4))
    paths = [str(path) for path, _ in jax.tree.leaves_with_path(params)]
    assert not [path for path in paths if "bias" in path]
    assert [path for path in paths if "scale" in path]


@pytest.mark.parametrize(
    ("name", "function"),
    [("tanh", nn.tanh), ("relu", nn.relu), ("sigmoid", nn.sigmoid)],
)
def test_a_function_as_activation_is_the_name(name, function, rng):
    """Values and gradients, of one step with random parameters."""
    x = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
    h, weights = (jnp.asarray(rng.normal(size=(2, 5)), jnp.float32) for _ in range(2))
    params = ElmanCell(5).init(jax.random.key(0), h, x)

    def loss(params, activation):
        y = ElmanCell(5, activation=activation).apply(params, h, x)[1]
        return (weights * y).sum()

    expected = jax.value_and_grad(loss)(params, name)
    actual = jax.value_and_grad(loss)(params, function)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), actual, expected
    )


def test_one_update_for_one_function():
    """JAX compiles anew for a function it has not seen."""
    first, second = (ElmanCell(5, activation=nn.elu, parent=None) for _ in range(2))
    assert first.update is second.update
