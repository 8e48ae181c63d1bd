"""The loop over time with the rows of the batch as columns, for wide layers on CPUs.

XLA's products on a CPU reach the machine's best where a large matrix multiplies a few
columns, ``kernel.T @ h``, and only two thirds of it where a few rows multiply a large
matrix, ``h @ kernel``. So inside this loop the axis of the batch is the last one. The
product with the inputs is made there too: it is as fast as one product for all steps,
whose result would have to be transposed.

Outside, all is as in :mod:`rnnjax.loops.scan`, and so is the rule for the derivative.
"""

import functools
import math

import jax
import jax.numpy as jnp

from rnnjax.affine import Affine, affine, is_tokens, result_type
from rnnjax.equations import Carry, hidden, preactivations
from rnnjax.loops import scan
from rnnjax.loops.job import Job, hold_carry, reset_carry

# Where it was faster, measured on two cores (PERFORMANCE.md): the kernel no longer fits
# the fast caches, the rows are a matrix and not a vector, and the steps are enough to
# pay for transposing the kernel.
FEWEST_WEIGHTS = 2**20
FEWEST_ROWS = 4
FEWEST_STEPS = 8


def applies(job: Job) -> bool:
    """Whether the layer is of a size to gain by it."""
    time, *batch = job.xs.shape[: hidden(job.carry).ndim]
    ih, hh = job.ih.kernel, job.hh.kernel
    if job.steps.perturbation is not None or is_tokens(job.xs) and len(ih) > len(hh):
        return False
    # An exported program may leave a size open; without jit nothing is gained.
    return (
        not jax.config.jax_disable_jit  # type: ignore[attr-defined]
        and all(isinstance(size, int) for size in (time, *batch))
        and hh.size >= FEWEST_WEIGHTS
        and math.prod(batch) >= FEWEST_ROWS
        and time >= FEWEST_STEPS
    )


def run(job: Job) -> tuple[Carry, Carry]:
    """Run a job; on a CPU with the rows of the batch as columns, elsewhere by a scan.

    Args:
        job: What to run.

    Returns:
        ``(last, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """
    static = job.static

    def by_rows(ih, hh, xs, carry, steps):
        return scan.run(Job(static, ih, hh, xs, carry, steps))

    def by_columns(ih, hh, xs, carry, steps):
        time, *batch = xs.shape[: hidden(carry).ndim]
        rows = math.prod(batch)
        xs = xs.reshape(time, rows, *xs.shape[1 + len(batch) :])
        carry = jax.tree.map(lambda x: x.reshape(rows, -1), carry)
        steps = jax.tree.map(lambda x: x.reshape(time, 1, rows), steps)
        results = _recurrence(static, ih, hh, xs, carry, steps)
        return jax.tree.map(lambda x: x.reshape(*x.shape[:-2], *batch, -1), results)

    # The choice is made when the program is compiled, perhaps for another device.
    args = (job.ih, job.hh, job.xs, job.carry, job.steps)
    return jax.lax.platform_dependent(*args, cpu=by_columns, default=by_rows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(static, ih, hh, xs, carry, steps):
    """What ``run`` does, of a batch with one axis, and masks ``(time, 1, batch)``."""
    last, (carries, _, _) = _forward(static, ih, hh, xs, carry, steps)
    return last, carries


def _forward(static, ih, hh, xs, carry, steps):
    """``(carry, (carries, h_before, update_dot))``; the last one stays in columns."""
    update = jax.vmap(static.update, -1, -1)
    # Transposed here, once: to multiply by a transposed matrix takes three times as long.
    ih, hh = (Affine(each.kernel.T, each.bias) for each in (ih, hh))

    def step(carry, xs):
        x, (mask, reset, _) = xs
        before = reset_carry(reset, carry)
        x = jax.nn.one_hot(x, ih.kernel.shape[1], axis=0) if is_tokens(x) else x.T
        of_x, of_h = (
            _affine_by_columns(static, ih, x),
            _affine_by_columns(static, hh, hidden(before)),
        )
        both = preactivations(static.sums_preactivations, of_x, of_h)
        new, update_dot = jax.linearize(update, before, *both)
        carry = hold_carry(mask, new, before)
        return carry, (_transposed(carry), hidden(before).T, update_dot)

    first = _transposed(carry)
    last, outputs = jax.lax.scan(step, first, (xs, steps), reverse=static.reverse)
    return _transposed(last), outputs


@_recurrence.defjvp
def _recurrence_jvp(static, primals, tangents):
    ih, hh, xs, carry, steps = primals
    ih_dot, hh_dot, xs_dot, carry_dot, _ = tangents

    def step_dot(carry_dot, xs):
        update_dot, preactivations_dot, (mask, reset, _) = xs
        *others_dot, last_dot = _transposed(preactivations_dot)
        before_dot = reset_carry(reset, carry_dot)
        # Stated so that its transpose, of the backward pass, is kernel @ gradient.
        last_dot += _product(static, hh.kernel, hidden(before_dot), contracted=0)
        new_dot = update_dot(before_dot, *others_dot, last_dot)
        carry_dot = hold_carry(mask, new_dot, before_dot)
        return carry_dot, _transposed(carry_dot)

    last, (carries, h_before, update_dot) = _forward(static, ih, hh, xs, carry, steps)
    # One axis for all rows of all steps: with two of them XLA would transpose the gradients
    # of all gates before it multiplies by them.
    flat, h_before = (x.reshape(-1, *x.shape[2:]) for x in (xs, h_before))
    linear = functools.partial(_affine, static)
    _, inputs_dot = jax.jvp(linear, (flat, ih), (xs_dot.reshape(flat.shape), ih_dot))
    preactivations_dot = preactivations(
        static.sums_preactivations,
        inputs_dot,
        affine(h_before, hh_dot.kernel, hh_dot.bias, static.dtype),
    )
    preactivations_dot = tuple(x.reshape(*xs.shape[:2], -1) for x in preactivations_dot)
    dots = (update_dot, preactivations_dot, steps)
    last_dot, carries_dot = jax.lax.scan(
        step_dot, _transposed(carry_dot), dots, reverse=static.reverse
    )
    return (last, carries), (_transposed(last_dot), carries_dot)


def _affine(static, xs, ih):
    return affine(xs, ih.kernel, ih.bias, static.dtype)


def _affine_by_columns(static, transposed, columns):
    product = _product(static, transposed.kernel, columns, contracted=1)
    return product if transposed.bias is None else product + transposed.bias[:, None]


def _product(static, matrix, columns, contracted):
    """The matrix by columns, over the first or the second of its axes."""
    if static.dtype is not None:
        matrix, columns = matrix.astype(static.dtype), columns.astype(static.dtype)
    axes = ((contracted,), (0,)), ((), ())
    return jax.lax.dot_general(
        matrix, columns, axes, preferred_element_type=result_type(matrix, columns)
    )


def _transposed(carry):
    """Rows to columns, and back."""
    return jax.tree.map(jnp.transpose, carry)
