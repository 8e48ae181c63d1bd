"""The affine map with PyTorch's initialisation, for vectors and for tokens."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.affine import affine, is_tokens
from rnnjax.arguments import Features, check_flag

Initializer = Callable[..., jax.Array]


def torch_uniform(fan: int) -> Initializer:
    r"""Initialiser :math:`U(-1/\sqrt{fan}, 1/\sqrt{fan})`, torch's for every RNN weight.

    Args:
        fan: What the bound is taken from: the hidden size in ``torch.nn.RNN``, ``GRU``
            and ``LSTM``, the number of inputs in ``torch.nn.Linear``.

    Returns:
        A function ``(key, shape, dtype) -> array``.

    Example:
        >>> weights = torch_uniform(4)(jax.random.key(0), (100,), jnp.float32)
        >>> bool(jnp.all(jnp.abs(weights) <= 0.5))
        True

    Source:
        ``torch.nn.RNNBase.reset_parameters``, ``torch.nn.Linear.reset_parameters``.
    """
    bound = fan**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(Features, kw_only=True):
    r"""An affine map, ``torch.nn.Linear``.

    .. math:: y = x K + b

    Attributes:
        features: Number of outputs.
        use_bias: Whether there is a :math:`b`.
        kernel_init: Initialiser of the kernel; None is torch's, ``torch_uniform(inputs)``.
        bias_init: Initialiser of the bias; None is torch's, ``torch_uniform(inputs)``.
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

    use_bias: bool = True
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    vocab_size: int | None = None
    dtype: jnp.dtype | None = None

    def __post_init__(self) -> None:
        check_flag("use_bias", self.use_bias)
        super().__post_init__()

    def __call__(self, x: jax.Array) -> jax.Array:
        return affine(x, *self.weights(self.num_inputs(x)), self.dtype)

    @nn.compact
    def weights(self, num_inputs: int) -> tuple[jax.Array, jax.Array | None]:
        """The kernel and the bias (None without one), for a loop that needs them bare."""
        kernel = self.param(
            "kernel",
            self.kernel_init or torch_uniform(num_inputs),
            (num_inputs, self.features),
        )
        if not self.use_bias:
            return kernel, None
        bias_init = self.bias_init or torch_uniform(num_inputs)
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
