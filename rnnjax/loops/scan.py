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

from rnnjax.cells import Carry, hidden, joined
from rnnjax.linear import matmul


class Weights(NamedTuple):
    """The recurrent map: ``kernel (hidden, gates)`` and ``bias (gates,)`` or None."""

    kernel: jax.Array
    bias: jax.Array | None


class Steps(NamedTuple):
    """What is special about the steps: ``(time, *batch)`` booleans each, or None.

    Attributes:
        mask: False holds the carry.
        reset: True puts the carry back to zeros before the step.
        nudge: ``(time, *batch, ...)``, what is added to the carry after the step (not
            where it is held), or None.
    """

    mask: jax.Array | None = None
    reset: jax.Array | None = None
    nudge: Carry | None = None


class Static(NamedTuple):
    """What is known when the loop is compiled, see :class:`rnnjax.cells.Cell`."""

    update: Callable
    sums_maps: bool
    reverse: bool
    dtype: jnp.dtype | None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(
    static: Static, weights: Weights, ih: jax.Array, carry: Carry, steps: Steps
) -> tuple[Carry, Carry]:
    """Run ``carry = update(carry, ih[t], h @ kernel + bias)`` over time.

    Args:
        static: The update and whether it takes the sum of the two maps, the direction,
            and the type of the product's operands.
        weights: The recurrent map.
        ih: ``(time, *batch, gates)`` the input's part of every step.
        carry: The initial carry, ``(*batch, ...)``.
        steps: Masks over the steps.

    Returns:
        ``(carry, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """

    def step(carry, xs):
        ih, (mask, reset, nudge) = xs
        before = begin(reset, carry)
        hh = recur(static, weights, hidden(before))
        new = static.update(before, *joined(static.sums_maps, ih, hh))
        carry = hold(mask, nudged(new, nudge), before)
        return carry, carry

    return jax.lax.scan(step, carry, (ih, steps), reverse=static.reverse)


@recurrence.defjvp
def _recurrence_jvp(static, primals, tangents):
    weights, ih, carry, steps = primals
    weights_dot, ih_dot, carry_dot, (_, _, nudge_dot) = tangents
    scan = functools.partial(jax.lax.scan, reverse=static.reverse)

    def step(carry, xs):
        ih, (mask, reset, nudge) = xs
        before = begin(reset, carry)
        hh = recur(static, weights, hidden(before))
        # What is returned for `update_dot` is an array for each number that it needs.
        new, update_dot = jax.linearize(
            static.update, before, *joined(static.sums_maps, ih, hh)
        )
        carry = hold(mask, nudged(new, nudge), before)
        return carry, (carry, hidden(before), update_dot)

    def step_dot(carry_dot, xs):
        update_dot, (*others_dot, last_dot), (mask, reset, nudge_dot) = xs
        before_dot = begin(reset, carry_dot)
        last_dot += matmul(hidden(before_dot), weights.kernel, static.dtype)
        new_dot = update_dot(before_dot, *others_dot, last_dot)
        carry_dot = hold(mask, nudged(new_dot, nudge_dot), before_dot)
        return carry_dot, carry_dot

    last, (carries, h_before, update_dot) = scan(step, carry, (ih, steps))
    maps_dot = joined(static.sums_maps, ih_dot, recur(static, weights_dot, h_before))
    steps_dot = steps._replace(nudge=nudge_dot)
    dots = scan(step_dot, carry_dot, (update_dot, maps_dot, steps_dot))
    return (last, carries), dots


def recur(static: Static, weights: Weights, h: jax.Array) -> jax.Array:
    """The recurrent map of the hidden vector, ``h @ kernel + bias``."""
    product = matmul(h, weights.kernel, static.dtype)
    return product if weights.bias is None else product + weights.bias


def begin(reset: jax.Array | None, carry: Carry) -> Carry:
    """The carry that a step begins with: zeros in the rows that are reset."""
    if reset is None:
        return carry
    return select(reset, jax.tree.map(jnp.zeros_like, carry), carry)


def nudged(carry: Carry, nudge: Carry | None) -> Carry:
    """The carry and what is added to it."""
    return carry if nudge is None else jax.tree.map(jnp.add, carry, nudge)


def hold(mask: jax.Array | None, new: Carry, old: Carry) -> Carry:
    """The carry after a step: the old one in the rows that the mask leaves out."""
    return new if mask is None else select(mask, new, old)


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
