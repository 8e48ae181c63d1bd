"""The affine map, and rows of its kernel for tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import Linear
from rnnjax.affine import rows
from tests.helpers import assert_close


def test_an_affine_map(rng):
    linear, x = Linear(3), rng.standard_normal((2, 5, 4)).astype(np.float32)
    params = linear.init(jax.random.key(0), x)["params"]
    expected = x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])
    assert_close(linear.apply({"params": params}, x), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32])
def test_tokens_of_any_integer_type(dtype):
    """Also where the number of tokens is larger than the type can say."""
    kernel = jnp.arange(600.0).reshape(300, 2)
    assert rows(kernel, jnp.array([0, 7], dtype)).tolist() == [[0, 1], [14, 15]]


@pytest.mark.parametrize("tokens", [[0, 2, 2], [-1, 3, 99]])
def test_rows_have_the_gradients_of_one_hot_vectors(tokens, rng):
    kernel = jnp.array(rng.standard_normal((3, 2)), jnp.float32)
    tokens = jnp.array(tokens)

    def product(kernel, tokens):
        return jax.nn.one_hot(tokens, 3) @ kernel

    def results(f):
        loss = lambda kernel: jnp.sum(jnp.sin(f(kernel, tokens)))
        each = jax.vmap(jax.grad(lambda k, t: jnp.sum(jnp.sin(f(k, t)))), (None, 0))
        return (
            f(kernel, tokens),
            jax.grad(loss)(kernel),
            jax.hessian(loss)(kernel),
            each(kernel, tokens),
            jax.jvp(lambda k: f(k, tokens), (kernel,), (kernel,))[1],
        )

    assert_close(results(rows), results(product))


def test_bfloat16_products_end_in_float32(rng):
    x = rng.standard_normal((2, 4)).astype(np.float32)
    linear = Linear(3, dtype=jnp.bfloat16)
    params = linear.init(jax.random.key(0), x)
    y = linear.apply(params, x)
    assert y.dtype == jnp.float32
    assert_close(y, Linear(3).apply(params, x), 0.02)


def test_initialisation_is_torchs():
    params = Linear(300).init(jax.random.key(0), jnp.ones(16))["params"]
    for leaf in (params["kernel"], params["bias"]):
        assert 0.24 < jnp.abs(leaf).max() <= 0.25


def test_initialising_from_tokens():
    params = Linear(3, vocab_size=9).init(jax.random.key(0), jnp.array([1]))["params"]
    assert params["kernel"].shape == (9, 3)
    with pytest.raises(ValueError, match=r"tokens of shape \(1,\).*set vocab_size"):
        Linear(3).init(jax.random.key(0), jnp.array([1]))
