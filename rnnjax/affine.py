"""The affine map as pure functions, for vectors and for tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Affine(NamedTuple):
    """The parameters of an affine map.

    Attributes:
        kernel: ``(inputs, features)``.
        bias: ``(features,)``, or None.
    """

    kernel: jax.Array
    bias: jax.Array | None


def is_tokens(inputs: jax.Array) -> bool:
    """True for an integer array: it stands for one-hot vectors."""
    return jnp.issubdtype(inputs.dtype, jnp.integer)


@jax.custom_jvp
def rows(kernel: jax.Array, tokens: jax.Array) -> jax.Array:
    """``one_hot(tokens) @ kernel``, read as rows of the kernel.

    Args:
        kernel: ``(vocab, features)``.
        tokens: ``(...)`` integers; one outside ``0 .. vocab - 1`` (say -1) is the zero
            vector, as in ``jax.nn.one_hot``.

    Returns:
        ``(..., features)``.

    Example:
        >>> rows(jnp.array([[1.0], [2.0]]), jnp.array([1, -1]))[:, 0].tolist()
        [2.0, 0.0]
    """
    # A negative index would count from the end.
    tokens = jnp.where(tokens < 0, kernel.shape[0], tokens)
    return jnp.take(kernel, tokens, axis=0, mode="fill", fill_value=0)


@rows.defjvp
def _rows_jvp(primals, tangents):
    kernel, tokens = primals
    kernel_dot, _ = tangents
    # The transpose of this product is one matrix product; that of a row look-up would
    # be a scatter, which is slow on every device.
    one_hot = jax.nn.one_hot(tokens, kernel.shape[0], dtype=kernel_dot.dtype)
    return rows(kernel, tokens), one_hot @ kernel_dot


def matmul(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """``x @ kernel`` with operands in ``dtype``, accumulated and returned in float32."""
    if dtype is not None:
        x, kernel = x.astype(dtype), kernel.astype(dtype)
    return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)


def affine(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype: jnp.dtype | None
) -> jax.Array:
    """``x @ kernel + bias``, of vectors or of tokens; see :class:`rnnjax.Linear`."""
    product = rows(kernel, x) if is_tokens(x) else matmul(x, kernel, dtype)
    return product if bias is None else product + bias
