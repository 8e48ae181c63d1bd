"""Initialisers for kernels and biases that hold several gates side by side."""

import jax
import jax.numpy as jnp

from rnnjax.linear import Initializer


def per_gate(*inits: Initializer) -> Initializer:
    """Initialise the share of every gate with its own initialiser.

    Args:
        inits: One for each gate, in the order of the cell: r, z, n in a GRU; i, f, g, o
            in an LSTM.

    Returns:
        An initialiser of ``(..., gates * features)``.

    Raises:
        ValueError: On a last axis that cannot be shared among them.

    Example:
        Square orthogonal recurrent kernels, as in Saxe et al., 2014,
        https://arxiv.org/abs/1312.6120:

        >>> import flax.linen as nn
        >>> from rnnjax import LSTM
        >>> orthogonal = nn.initializers.orthogonal()
        >>> lstm = LSTM(5, hh_init=per_gate(*[orthogonal] * 4))

        A forget gate that begins open, as in Jozefowicz et al., 2015,
        https://proceedings.mlr.press/v37/jozefowicz15.html. An LSTM has two biases,
        which add up, so that each begins with half of it:

        >>> zeros, half = nn.initializers.zeros, nn.initializers.constant(0.5)
        >>> lstm = LSTM(5, bias_init=per_gate(zeros, half, zeros, zeros))
        >>> params = lstm.init(jax.random.key(0), jnp.ones((7, 3)))["params"]
        >>> params["layer_0"]["cell"]["hh"]["bias"].reshape(4, 5)[:, 0].tolist()
        [0.0, 0.5, 0.0, 0.0]
    """

    def init(key, shape, dtype=jnp.float32):
        *rest, width = shape
        if width % len(inits):
            raise ValueError(
                f"a last axis of {width} cannot be shared among {len(inits)} gates"
            )
        share = (*rest, width // len(inits))
        keys = jax.random.split(key, len(inits))
        parts = [init(key, share, dtype) for init, key in zip(inits, keys, strict=True)]
        return jnp.concatenate(parts, axis=-1)

    return init
