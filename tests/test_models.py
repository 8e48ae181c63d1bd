"""What all classifiers share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.recipes import build_model

EACH_KIND = [
    ("practical", "linear"),
    ("workshop", "lstm"),
    ("workshop", "attention"),
    ("blog", "rnn"),
    ("binary", "mlp"),
    ("binary", "linear"),
    ("binary", "rnn"),
    ("best", "gru"),
]


@pytest.mark.parametrize(("recipe", "name"), EACH_KIND)
def test_bfloat16(recipe, name, rng):
    """The products are in bfloat16, everything that is handed on in float32."""
    sizes = {"vocab_size": 9, "hidden_size": 16, "num_classes": 3}
    tokens = rng.integers(9, size=(4, 7))
    seq_lengths = np.array([7, 1, 4, 5])
    model = build_model(recipe, name, **sizes)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    # Large enough for rounding to show.
    params = jax.tree.map(lambda leaf: 4 * leaf, params)
    exact = model.apply({"params": params}, tokens, seq_lengths)
    rounded = build_model(recipe, name, **sizes, dtype=jnp.bfloat16).apply(
        {"params": params}, tokens, seq_lengths
    )
    assert rounded.dtype == jnp.float32
    scale = np.abs(exact).max()
    assert 1e-5 * scale < np.abs(exact - rounded).max() < 0.1 * scale
