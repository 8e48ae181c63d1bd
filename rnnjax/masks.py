"""Which steps of a padded batch are real."""

import jax
import jax.numpy as jnp


def length_mask(seq_lengths: jax.Array, max_length: int) -> jax.Array:
    """True at the real steps of a padded batch.

    Args:
        seq_lengths: ``(*batch,)`` number of real steps of each row.
        max_length: Number of steps of the padded batch.

    Returns:
        ``(*batch, max_length)`` booleans.

    Example:
        >>> length_mask(jnp.array([2, 0]), 3).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    return jnp.arange(max_length) < jnp.expand_dims(seq_lengths, -1)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values where the mask is True; 0 where it is True nowhere.

    Args:
        values: Numbers of any shape; NaN where the mask is False does no harm.
        mask: Booleans (or weights 0 and 1) of the same shape.

    Returns:
        A scalar.

    Example:
        >>> float(masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1, 1, 0])))
        2.0
    """
    mask = mask.astype(bool)
    count = jnp.sum(mask, dtype=values.dtype)
    total = jnp.sum(jnp.where(mask, values, 0))
    return total / jnp.maximum(count, 1)
