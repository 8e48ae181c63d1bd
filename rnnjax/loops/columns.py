"""The loop over time with the rows of the batch as columns, for wide layers on CPUs.

XLA's products on a CPU reach the machine's best where a large matrix multiplies a few
columns, ``kernel.T @ h``, and only two thirds of it where a few rows multiply a large
matrix, ``h @ kernel``. So inside this loop the axis of the batch is the last one. The
product with the inputs is made there too: it is as fast as one product for all steps,
whose result would have to be turned.

Outside, all is as in :mod:`rnnjax.loops.scan`, and so is the rule for the derivative.
"""

import functools
import math

import jax
import jax.numpy as jnp

from rnnjax.cells import Carry, hidden, joined
from rnnjax.linear import affine, is_tokens
from rnnjax.loops import scan as time_loop
from rnnjax.loops.scan import Static, Steps, Weights, begin, hold, recur

# Where it was faster, measured on two cores (PERFORMANCE.md): the kernel no longer fits
# the fast caches, the rows are a matrix and not a vector, and the steps are enough to
# pay for turning the kernel.
FEWEST_WEIGHTS = 2**20
FEWEST_ROWS = 4
FEWEST_STEPS = 8


def applies(
    ih: Weights, hh: Weights, xs: jax.Array, carry: Carry, steps: Steps
) -> bool:
    """Whether the layer is of a size to gain by it.

    Args:
        ih: The map of the inputs.
        hh: The recurrent map.
        xs: ``(time, *batch, input)``, or tokens ``(time, *batch)``.
        carry: The initial carry, ``(*batch, ...)``.
        steps: Masks over the steps.
    """
    time, *batch = xs.shape[: hidden(carry).ndim]
    if steps.nudge is not None or is_tokens(xs) and len(ih.kernel) > len(hh.kernel):
        return False
    # An exported program may leave a size open.
    return (
        all(isinstance(size, int) for size in (time, *batch))
        and hh.kernel.size >= FEWEST_WEIGHTS
        and math.prod(batch) >= FEWEST_ROWS
        and time >= FEWEST_STEPS
    )


def run(
    static: Static,
    ih: Weights,
    hh: Weights,
    xs: jax.Array,
    carry: Carry,
    steps: Steps,
) -> tuple[Carry, Carry]:
    """Run ``carry = update(carry, ih(xs[t]), hh(h))`` over time; on a CPU, by columns.

    Args:
        static: As in :func:`rnnjax.loops.scan.recurrence`.
        ih, hh, xs, carry, steps: As in :func:`applies`.

    Returns:
        ``(carry, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """

    def by_rows(ih, hh, xs, carry, steps):
        maps = _affine(static, xs, ih)
        return time_loop.recurrence(static, hh, maps, carry, steps)

    def by_columns(ih, hh, xs, carry, steps):
        time, *batch = xs.shape[: hidden(carry).ndim]
        rows = math.prod(batch)
        xs = xs.reshape(time, rows, *xs.shape[1 + len(batch) :])
        carry = jax.tree.map(lambda x: x.reshape(rows, -1), carry)
        steps = jax.tree.map(lambda x: x.reshape(time, 1, rows), steps)
        results = _recurrence(static, ih, hh, xs, carry, steps)
        return jax.tree.map(lambda x: x.reshape(*x.shape[:-2], *batch, -1), results)

    # The choice is made when the program is compiled, perhaps for another device.
    return jax.lax.platform_dependent(
        ih, hh, xs, carry, steps, cpu=by_columns, default=by_rows
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(static, ih, hh, xs, carry, steps):
    """What ``run`` does, of a batch with one axis, and masks ``(time, 1, batch)``."""
    last, (carries, _, _) = _forward(static, ih, hh, xs, carry, steps)
    return last, carries


def _forward(static, ih, hh, xs, carry, steps):
    """``(carry, (carries, h_before, update_dot))``; the last one stays in columns."""
    update = jax.vmap(static.update, -1, -1)
    # Turned here, once: to multiply by a turned matrix takes three times as long.
    ih, hh = (Weights(map_.kernel.T, map_.bias) for map_ in (ih, hh))

    def step(carry, xs):
        x, (mask, reset, _) = xs
        before = begin(reset, carry)
        x = jax.nn.one_hot(x, ih.kernel.shape[1], axis=0) if is_tokens(x) else x.T
        of_x, of_h = _map(static, ih, x), _map(static, hh, hidden(before))
        maps = joined(static.sums_maps, of_x, of_h)
        new, update_dot = jax.linearize(update, before, *maps)
        carry = hold(mask, new, before)
        return carry, (_turned(carry), hidden(before).T, update_dot)

    first = _turned(carry)
    last, outputs = jax.lax.scan(step, first, (xs, steps), reverse=static.reverse)
    return _turned(last), outputs


@_recurrence.defjvp
def _recurrence_jvp(static, primals, tangents):
    ih, hh, xs, carry, steps = primals
    ih_dot, hh_dot, xs_dot, carry_dot, _ = tangents

    def step_dot(carry_dot, xs):
        update_dot, maps_dot, (mask, reset, _) = xs
        *others_dot, last_dot = _turned(maps_dot)
        before_dot = begin(reset, carry_dot)
        # Stated so that its transpose, of the backward pass, is kernel @ gradient.
        last_dot += _product(static, hh.kernel, hidden(before_dot), contracted=0)
        new_dot = update_dot(before_dot, *others_dot, last_dot)
        carry_dot = hold(mask, new_dot, before_dot)
        return carry_dot, _turned(carry_dot)

    last, (carries, h_before, update_dot) = _forward(static, ih, hh, xs, carry, steps)
    # One axis for all rows of all steps: with two of them XLA would turn the gradients
    # of all gates before it multiplies by them.
    flat, h_before = (x.reshape(-1, *x.shape[2:]) for x in (xs, h_before))
    linear = functools.partial(_affine, static)
    _, inputs_dot = jax.jvp(linear, (flat, ih), (xs_dot.reshape(flat.shape), ih_dot))
    maps_dot = joined(static.sums_maps, inputs_dot, recur(static, hh_dot, h_before))
    maps_dot = tuple(x.reshape(*xs.shape[:2], -1) for x in maps_dot)
    dots = (update_dot, maps_dot, steps)
    last_dot, carries_dot = jax.lax.scan(
        step_dot, _turned(carry_dot), dots, reverse=static.reverse
    )
    return (last, carries), (_turned(last_dot), carries_dot)


def _affine(static, xs, ih):
    return affine(xs, ih.kernel, ih.bias, static.dtype)


def _map(static, turned, columns):
    product = _product(static, turned.kernel, columns, contracted=1)
    return product if turned.bias is None else product + turned.bias[:, None]


def _product(static, matrix, columns, contracted):
    """The matrix by columns, over the first or the second of its axes."""
    if static.dtype is not None:
        matrix, columns = matrix.astype(static.dtype), columns.astype(static.dtype)
    axes = ((contracted,), (0,)), ((), ())
    return jax.lax.dot_general(
        matrix, columns, axes, preferred_element_type=jnp.float32
    )


def _turned(carry):
    """Rows to columns, and back."""
    return jax.tree.map(jnp.transpose, carry)
