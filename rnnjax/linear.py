"""The affine map with PyTorch's initialisation, for vectors and for tokens."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


def uniform(fan: int) -> Initializer:
    r"""Initialiser :math:`U(-1/\sqrt{fan}, 1/\sqrt{fan})`, torch's for every RNN weight.

    Args:
        fan: What the bound is taken from: the hidden size in ``torch.nn.RNN``, ``GRU``
            and ``LSTM``, the number of inputs in ``torch.nn.Linear``.

    Returns:
        A function ``(key, shape, dtype) -> array``.

    Example:
        >>> weights = uniform(4)(jax.random.key(0), (100,), jnp.float32)
        >>> bool(jnp.all(jnp.abs(weights) <= 0.5))
        True

    Source:
        ``torch.nn.RNNBase.reset_parameters``, ``torch.nn.Linear.reset_parameters``.
    """
    bound = fan**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


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
    """``x @ kernel + bias``, of vectors or of tokens; see :class:`Linear`."""
    product = rows(kernel, x) if is_tokens(x) else matmul(x, kernel, dtype)
    return product if bias is None else product + bias


class Linear(nn.Module):
    r"""An affine map, ``torch.nn.Linear``.

    .. math:: y = x K + b

    Attributes:
        features: Number of outputs.
        use_bias: Whether there is a :math:`b`.
        kernel_init: Initialiser of the kernel; None is torch's, ``uniform(inputs)``.
        bias_init: Initialiser of the bias; None is torch's, ``uniform(inputs)``.
        vocab_size: Number of different tokens; needed only to initialise the module
            from tokens.
        dtype: Type of the operands of the product (say bfloat16); parameters and
            results stay float32.

    Parameters:
        ``kernel (inputs, features)`` and ``bias (features,)``.

    Args:
        x: ``(..., inputs)``, or tokens ``(...)``, which stand for one-hot vectors.

    Returns:
        ``(..., features)`` in float32.

    Raises:
        ValueError: On initialisation from tokens without ``vocab_size``.

    Example:
        >>> linear = Linear(3)
        >>> params = linear.init(jax.random.key(0), jnp.ones(2))
        >>> linear.apply(params, jnp.ones((5, 2))).shape
        (5, 3)

    Source:
        ``torch.nn.Linear``; its weight is ``kernel.T``.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    vocab_size: int | None = None
    dtype: jnp.dtype | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        return affine(x, *self.weights(self.num_inputs(x)), self.dtype)

    @nn.compact
    def weights(self, num_inputs: int) -> tuple[jax.Array, jax.Array | None]:
        """The kernel and the bias (None without one), for a loop that needs them bare."""
        kernel = self.param(
            "kernel",
            self.kernel_init or uniform(num_inputs),
            (num_inputs, self.features),
        )
        if not self.use_bias:
            return kernel, None
        bias_init = self.bias_init or uniform(num_inputs)
        return kernel, self.param("bias", bias_init, (self.features,))

    def num_inputs(self, x: jax.Array) -> int:
        """Width of the vectors, or of those that the tokens stand for."""
        if not is_tokens(x):
            return x.shape[-1]
        if self.has_variable("params", "kernel"):
            return self.get_variable("params", "kernel").shape[0]
        if self.vocab_size is None:
            raise ValueError(
                f"cannot initialise {self.name or 'Linear'} from tokens of shape "
                f"{x.shape}: the number of different tokens is not known; "
                "set vocab_size"
            )
        return self.vocab_size
