"""Masks of padded batches."""

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import length_mask, masked_mean


def test_length_mask_has_the_batch_axes_of_the_lengths():
    lengths = np.array([[0, 1], [3, 9]])
    expected = [[[0, 0, 0], [1, 0, 0]], [[1, 1, 1], [1, 1, 1]]]
    np.testing.assert_array_equal(length_mask(lengths, 3), np.array(expected, bool))
    assert length_mask(jnp.array(2), 3).tolist() == [True, True, False]


def test_masked_mean_is_the_mean_of_the_selected(rng):
    values, mask = rng.standard_normal((4, 7)), rng.random((4, 7)) > 0.5
    np.testing.assert_allclose(
        masked_mean(jnp.array(values), jnp.array(mask)), values[mask].mean(), rtol=1e-6
    )


def test_masked_mean_of_nothing_is_0_with_finite_gradients():
    values, mask = jnp.array([jnp.nan, 1.0]), jnp.array([False, False])
    value, grad = jax.value_and_grad(masked_mean)(values, mask)
    assert value == 0
    assert not grad.any()


def test_garbage_has_no_gradient():
    values, mask = jnp.array([jnp.nan, 1.0, 3.0]), jnp.array([0, 1, 1])
    assert jax.grad(masked_mean)(values, mask).tolist() == [0.0, 0.5, 0.5]
