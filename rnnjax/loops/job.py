"""What a loop over time is asked to do, and what every loop does to a carry."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.affine import Affine
from rnnjax.equations import Carry


class Static(NamedTuple):
    """What is known when a loop is compiled, see :class:`rnnjax.cells.Cell`.

    Attributes:
        update: ``(carry, ih, hh) -> carry``, or of the sum of the two pre-activations.
        sums_preactivations: Whether ``update`` takes their sum.
        reverse: Whether the loop runs from the last step to the first.
        dtype: Type of the products' operands; None leaves them as they are.
    """

    update: Callable
    sums_preactivations: bool
    reverse: bool
    dtype: jnp.dtype | None


class Steps(NamedTuple):
    """What is special about the steps, ``(time, *batch)`` each, or None.

    Attributes:
        mask: False holds the carry.
        reset: True puts the carry back to zeros before the step.
        perturbation: ``(time, *batch, ...)``, what is added to the carry after the step
            (not where it is held).
    """

    mask: jax.Array | None = None
    reset: jax.Array | None = None
    perturbation: Carry | None = None


class Job(NamedTuple):
    """``carry = update(carry, ih(xs[t]), hh(hidden(carry)))`` over time.

    Every loop has ``applies(job)`` and ``run(job) -> (last, carries)``: the final carry,
    and the carry after every step, ``(time, *batch, ...)``.

    Attributes:
        static: The update, the direction, the type of the products.
        ih: The map of the inputs.
        hh: The recurrent map.
        xs: ``(time, *batch, input)``, or tokens ``(time, *batch)``.
        carry: The initial carry, ``(*batch, ...)``.
        steps: Masks over the steps.
        is_packed: Whether the mask, if there is one, is True at the first steps of each
            row and False behind them.
        wants_carries: Whether all of ``carries`` is needed, and not the hidden vectors
            alone.
    """

    static: Static
    ih: Affine
    hh: Affine
    xs: jax.Array
    carry: Carry
    steps: Steps
    is_packed: bool = True
    wants_carries: bool = False


def reset_carry(reset: jax.Array | None, carry: Carry) -> Carry:
    """The carry that a step begins with: zeros in the rows that are reset."""
    if reset is None:
        return carry
    return select(reset, jax.tree.map(jnp.zeros_like, carry), carry)


def perturbed(carry: Carry, perturbation: Carry | None) -> Carry:
    """The carry with what is added to it."""
    if perturbation is None:
        return carry
    return jax.tree.map(jnp.add, carry, perturbation)


def hold_carry(mask: jax.Array | None, new: Carry, old: Carry) -> Carry:
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

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        missing = a.ndim - condition.ndim
        return jnp.where(jnp.expand_dims(condition, range(-missing, 0)), a, b)

    return jax.tree.map(choose, when_true, when_false)
