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


def result_type(*arrays: jax.Array) -> jnp.dtype:
    """The type to compute in: float64 where all numbers are of it, else float32.

    Args:
        *arrays: Inputs and parameters; tokens have no say.

    Example:
        >>> result_type(jnp.ones(3, jnp.bfloat16), jnp.ones((3, 2))).name
        'float32'
    """
    floats = [x.dtype for x in arrays if not is_tokens(x)]
    double = bool(floats) and all(each == jnp.float64 for each in floats)
    return jnp.dtype(jnp.float64 if double else jnp.float32)


def matmul(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """``x @ kernel`` with operands in ``dtype``, accumulated in :func:`result_type`."""
    if dtype is not None:
        x, kernel = x.astype(dtype), kernel.astype(dtype)
    return jnp.matmul(x, kernel, preferred_element_type=result_type(x, kernel))


def affine(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype: jnp.dtype | None
) -> jax.Array:
    """``x @ kernel + bias``, of vectors or of tokens; see :class:`rnnjax.Linear`."""
    product = rows(kernel, x) if is_tokens(x) else matmul(x, kernel, dtype)
    return product if bias is None else add_bias(product, bias)


def add_bias(product: jax.Array, bias: jax.Array) -> jax.Array:
    """The sum of ``(..., features)`` and ``(features,)``, of the product's type."""
    # By an axis for each, for whoever forbids JAX to add any (jax_numpy_rank_promotion).
    bias = jnp.expand_dims(bias, range(product.ndim - bias.ndim))
    return product + bias.astype(product.dtype)
