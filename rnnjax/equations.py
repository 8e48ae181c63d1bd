"""The updates of the cells, without their weights, and the derivative of each.

Each takes the carry and the pre-activations, of the input and of the hidden vector: their
sum where only that counts, else both.

The derivatives are stated, not left to JAX, as a sum of tangents times numbers that the
forward pass knows. Those numbers are what is kept of every step for the backward pass:
one for a unit of an Elman cell, five of a GRU, six of an LSTM, where JAX alone keeps two,
nine and eleven.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

Activation = (
    Literal["tanh", "relu", "sigmoid", "identity"] | Callable[[jax.Array], jax.Array]
)
"""One of four names, or a function of an array, element by element."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": sigmoid,
    "identity": lambda x: x,
}


class LSTMCarry(NamedTuple):
    """What an LSTM hands to its next step, in PyTorch's order.

    Attributes:
        h: ``(*batch, features)``, or ``(*batch, projection)`` with a projection.
        c: ``(*batch, features)``.
    """

    h: jax.Array
    c: jax.Array


Carry = Any
"""What a cell hands to its next step: the hidden vector, or an :class:`LSTMCarry`."""


def hidden(carry: Carry) -> jax.Array:
    """The vector that the next step sees, which is also the output of the step."""
    return carry.h if isinstance(carry, LSTMCarry) else carry


def preactivations(sums: bool, ih: jax.Array, hh: jax.Array) -> tuple[jax.Array, ...]:
    """What an update takes of the two pre-activations: their sum, or both."""
    return (ih + hh,) if sums else (ih, hh)


class GRUGates(NamedTuple):
    """What the gates of a GRU let through, in PyTorch's order.

    Attributes:
        r: ``(*batch, features)`` reset gate: the share of the old state's part that the
            candidate sees, from 0 to 1.
        z: ``(*batch, features)`` update gate: the share of the old state that stays,
            from 0 to 1.
        n: ``(*batch, features)`` candidate for the new state, from -1 to 1.
    """

    r: jax.Array
    z: jax.Array
    n: jax.Array


class LSTMGates(NamedTuple):
    """What the gates of an LSTM let through, in PyTorch's order.

    Attributes:
        i: ``(*batch, features)`` input gate: the share of the candidate that is added,
            from 0 to 1.
        f: ``(*batch, features)`` forget gate: the share of the old cell that stays,
            from 0 to 1.
        g: ``(*batch, features)`` candidate for the new cell, from -1 to 1.
        o: ``(*batch, features)`` output gate: the share of the cell that is shown, from
            0 to 1.
    """

    i: jax.Array
    f: jax.Array
    g: jax.Array
    o: jax.Array


def activation_function(activation: Activation) -> Callable[[jax.Array], jax.Array]:
    """The function of this name, or the function itself.

    Raises:
        ValueError: If it is neither one of the four names nor a hashable callable.

    Example:
        >>> activation_function("relu")(-1.0).item(), activation_function(abs)(-1.0)
        (0.0, 1.0)
    """
    if callable(activation) and isinstance(activation, Hashable):
        return activation
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    raise ValueError(
        f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}, "
        "or a hashable function of an array"
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def elman(activation: Activation, h: jax.Array, gates: jax.Array) -> jax.Array:
    """The update of an Elman cell: the activation of the sum of its pre-activations.

    Args:
        activation: A name or a function, see :func:`activation_function`.
        h: ``(*batch, features)``, which counts only through ``gates``.
        gates: ``(*batch, features)``, the sum of the two pre-activations.

    Returns:
        :math:`h'`, ``(*batch, features)``.
    """
    return activation_function(activation)(gates)


@elman.defjvp
def _elman_jvp(activation, primals, tangents):
    (_, gates), (_, gates_dot) = primals, tangents
    ones = jnp.ones_like(gates)
    new, slope = jax.jvp(activation_function(activation), (gates,), (ones,))
    return new, slope * gates_dot


def sum_of_two(h: jax.Array, ih: jax.Array, hh: jax.Array) -> jax.Array:
    """The update of lesson 004's cell: each pre-activation through a tanh of its own.

    Args:
        h: ``(*batch, features)``, which counts only through ``hh``.
        ih: ``(*batch, features)``, the pre-activation of the input.
        hh: ``(*batch, features)``, that of the hidden vector.

    Returns:
        :math:`h'`, ``(*batch, features)``.
    """
    return jnp.tanh(ih) + jnp.tanh(hh)


@jax.custom_jvp
def gru(h: jax.Array, ih: jax.Array, hh: jax.Array) -> jax.Array:
    """The update of a GRU, with the reset after the product, as in PyTorch.

    Args:
        h: ``(*batch, features)``.
        ih: ``(*batch, 3 * features)``, the pre-activations of the input, in the order r,
            z, n.
        hh: ``(*batch, 3 * features)``, those of the hidden vector.

    Returns:
        :math:`h'`, ``(*batch, features)``.
    """
    _, z, n = gru_gates(ih, hh)
    return (1 - z) * n + z * h


def gru_gates(ih: jax.Array, hh: jax.Array) -> GRUGates:
    """The gates of a GRU's step.

    Args:
        ih: ``(*batch, 3 * features)``, the pre-activations of the input.
        hh: ``(*batch, 3 * features)``, those of the hidden vector.

    Returns:
        ``(*batch, features)`` each.
    """
    ir, iz, in_ = jnp.split(ih, 3, axis=-1)
    hr, hz, hn = jnp.split(hh, 3, axis=-1)
    r = sigmoid(ir + hr)
    return GRUGates(r=r, z=sigmoid(iz + hz), n=jnp.tanh(in_ + r * hn))


@gru.defjvp
def _gru_jvp(primals, tangents):
    h, ih, hh = primals
    h_dot, ih_dot, hh_dot = tangents
    r, z, n = gru_gates(ih, hh)
    hn = jnp.split(hh, 3, axis=-1)[2]
    ir_dot, iz_dot, in_dot = jnp.split(ih_dot, 3, axis=-1)
    hr_dot, hz_dot, hn_dot = jnp.split(hh_dot, 3, axis=-1)
    by_n = (1 - z) * (1 - n * n)
    by_r = by_n * hn * r * (1 - r)
    by_z = (h - n) * z * (1 - z)
    return (1 - z) * n + z * h, (
        by_r * (ir_dot + hr_dot)
        + by_z * (iz_dot + hz_dot)
        + by_n * in_dot
        + by_n * r * hn_dot
        + z * h_dot
    )


@jax.custom_jvp
def lstm(carry: LSTMCarry, gates: jax.Array) -> LSTMCarry:
    """The update of an LSTM.

    Args:
        carry: ``(*batch, features)`` each; its ``h`` counts only through ``gates``.
        gates: ``(*batch, 4 * features)``, the sum of the two pre-activations, in the
            order i, f, g, o.

    Returns:
        The carry after the step.
    """
    i, f, g, o = lstm_gates(gates)
    c = f * carry.c + i * g
    return LSTMCarry(h=o * jnp.tanh(c), c=c)


def lstm_gates(gates: jax.Array) -> LSTMGates:
    """The gates of an LSTM's step.

    Args:
        gates: ``(*batch, 4 * features)``, the sum of the two pre-activations.

    Returns:
        ``(*batch, features)`` each.
    """
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return LSTMGates(i=sigmoid(i), f=sigmoid(f), g=jnp.tanh(g), o=sigmoid(o))


@lstm.defjvp
def _lstm_jvp(primals, tangents):
    (carry, gates), (carry_dot, gates_dot) = primals, tangents
    i, f, g, o = lstm_gates(gates)
    c = f * carry.c + i * g
    squashed = jnp.tanh(c)
    i_dot, f_dot, g_dot, o_dot = jnp.split(gates_dot, 4, axis=-1)
    by_i = g * i * (1 - i)
    by_f = carry.c * f * (1 - f)
    by_g = i * (1 - g * g)
    by_o = squashed * o * (1 - o)
    by_c = o * (1 - squashed * squashed)
    c_dot = by_i * i_dot + by_f * f_dot + by_g * g_dot + f * carry_dot.c
    new = LSTMCarry(h=o * squashed, c=c)
    return new, LSTMCarry(h=by_o * o_dot + by_c * c_dot, c=c_dot)
