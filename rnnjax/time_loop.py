"""The loop over time of a parameter-free update, with its weight's gradient outside.

Differentiating a plain scan adds up the recurrent weight's gradient step by step, in the
carry of the backward loop. Here the derivative is stated once, for all steps: the
weight's part of the tangent, ``h @ dW``, needs nothing that the tangent loop computes,
so it is one product before that loop; transposed, it is one product after the backward
loop. As it is a rule for tangents, it holds under ``vmap``, forward mode and higher
derivatives alike.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.cells import Carry, hidden
from rnnjax.linear import matmul


class Weights(NamedTuple):
    """The recurrent map: ``kernel (hidden, gates)`` and ``bias (gates,)`` or None."""

    kernel: jax.Array
    bias: jax.Array | None


class Steps(NamedTuple):
    """Which steps count, ``(time, *batch)`` booleans each, or None.

    Attributes:
        mask: False holds the carry.
        reset: True puts the carry back to zeros before the step.
    """

    mask: jax.Array | None = None
    reset: jax.Array | None = None


class Static(NamedTuple):
    """What is known when the loop is compiled."""

    update: Callable
    reverse: bool
    dtype: jnp.dtype | None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(
    static: Static, weights: Weights, ih: jax.Array, carry: Carry, steps: Steps
) -> tuple[Carry, jax.Array]:
    """Run ``carry = update(carry, ih[t], h @ kernel + bias)`` over time.

    Args:
        static: The update, the direction and the type of the product's operands.
        weights: The recurrent map.
        ih: ``(time, *batch, gates)`` the input's part of every step.
        carry: The initial carry, ``(*batch, ...)``.
        steps: Masks over the steps.

    Returns:
        ``(carry, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """
    return _loop(static, weights, ih, carry, steps, None)


@recurrence.defjvp
def _recurrence_jvp(static, primals, tangents):
    weights, ih, carry, steps = primals
    weights_dot, ih_dot, carry_dot, _ = tangents

    def loop(ih, carry, hh):
        return _loop(static, weights, ih, carry, steps, hh)

    no_change = jnp.zeros((*ih.shape[:-1], weights.kernel.shape[-1]))
    (last, carries), tangent_loop = jax.linearize(loop, ih, carry, no_change)
    h_before = _hidden_before(static, hidden(carries), carry, steps)
    hh_dot = matmul(h_before, weights_dot.kernel, static.dtype)
    if weights.bias is not None:
        hh_dot = hh_dot + weights_dot.bias
    return (last, carries), tangent_loop(ih_dot, carry_dot, hh_dot)


def _loop(static, weights, ih, carry, steps, hh_change):
    def step(carry, xs):
        ih, (mask, reset), hh_change = xs
        if reset is not None:
            carry = select(reset, jax.tree.map(jnp.zeros_like, carry), carry)
        hh = matmul(hidden(carry), weights.kernel, static.dtype)
        if weights.bias is not None:
            hh = hh + weights.bias
        if hh_change is not None:
            hh = hh + hh_change
        new = static.update(carry, ih, hh)
        carry = new if mask is None else select(mask, new, carry)
        return carry, carry

    return jax.lax.scan(step, carry, (ih, steps, hh_change), reverse=static.reverse)


def _hidden_before(static, hs, carry, steps):
    """What each step saw: the hidden vector after the step before it."""
    first = hidden(carry)[None]
    if static.reverse:
        before = jnp.concatenate([hs, first])[1:]
    else:
        before = jnp.concatenate([first, hs])[:-1]
    if steps.reset is not None:
        before = jnp.where(steps.reset[..., None], 0, before)
    return before


def select(condition: jax.Array, when_true: Carry, when_false: Carry) -> Carry:
    """Choose between two carries, row by row.

    Args:
        condition: ``(*batch,)`` booleans.
        when_true: A pytree of ``(*batch, features)``.
        when_false: A pytree of the same structure.

    Returns:
        The chosen carry.
    """

    def choose(a, b):
        missing = a.ndim - condition.ndim
        return jnp.where(jnp.expand_dims(condition, range(-missing, 0)), a, b)

    return jax.tree.map(choose, when_true, when_false)
