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

    Raises:
        TypeError: If the lengths are no whole numbers.

    Example:
        >>> length_mask(jnp.array([2, 0]), 3).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    seq_lengths = jnp.asarray(seq_lengths)
    if not jnp.issubdtype(seq_lengths.dtype, jnp.integer):
        raise TypeError(
            f"seq_lengths are of type {seq_lengths.dtype}; expected whole numbers"
        )
    # One axis each, for whoever forbids JAX to add any (jax_numpy_rank_promotion).
    steps = jnp.expand_dims(jnp.arange(max_length), range(seq_lengths.ndim))
    return steps < jnp.expand_dims(seq_lengths, -1)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values where the mask is True; 0 where it is True nowhere.

    Args:
        values: Numbers of any shape; NaN where the mask is False does no harm.
        mask: Booleans (or weights 0 and 1) of the same shape.

    Returns:
        A scalar, of the values' type; float32 for booleans and integers.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> float(masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1, 1, 0])))
        2.0
    """
    values, mask = jnp.asarray(values), jnp.asarray(mask)
    if values.shape != mask.shape:
        raise ValueError(f"values have shape {values.shape}, and the mask {mask.shape}")
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        # Booleans and integers are counted as numbers, not in their own type.
        values = values.astype(jnp.float32)
    mask = mask.astype(bool)
    # In float32, whatever the values are: bfloat16 cannot count beyond 256.
    wide = jnp.promote_types(values.dtype, jnp.float32)
    total = jnp.sum(jnp.where(mask, values, 0), dtype=wide)
    return (total / jnp.maximum(jnp.sum(mask, dtype=wide), 1)).astype(values.dtype)
