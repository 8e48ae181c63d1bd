r"""The loop over time as one TPU kernel, in which the recurrent weight stays.

A scan may fetch the recurrent weight from the chip's main memory at every step, which
takes longer than multiplying by it. Here one kernel runs all steps, and the weight is
fetched once, see :mod:`rnnjax.loops.pallas_kernels`. What ``ih`` makes of the inputs is
computed before, for all steps at once.

The backward pass is one more kernel. With :math:`s_t` the tangent of the carry after
step :math:`t`, :math:`J_t` the derivative of the step by the carry before it, and
:math:`p_t` what the tangents of the inputs and the weights add,

.. math:: s_t - J_t s_{t-1} = p_t

for all steps: a system of linear equations. The gradients :math:`\lambda_t` with respect
to the carries solve the transposed system,

.. math:: \lambda_t - J_{t+1}^T \lambda_{t+1} = y_t,

where :math:`y_t` arrives from above. :func:`jax.lax.custom_linear_solve` is told how to
solve the two, the second by the kernel, so that every transform of JAX holds: ``grad``,
``vmap``, forward mode, higher derivatives. As in :mod:`rnnjax.loops.scan` the gradient of
the recurrent weight is one product after the loop. Of every step the carry is kept, and
what ``ih`` made; the rest is computed again.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from rnnjax import equations
from rnnjax.affine import affine, matmul
from rnnjax.equations import Carry, hidden, preactivations
from rnnjax.loops import pallas_kernels, scan
from rnnjax.loops.job import Job, Steps


def obstacle(job: Job) -> str | None:
    """Why the kernels cannot do it; None if they can, on a TPU."""
    static, steps, hh = job.static, job.steps, job.hh.kernel
    if static.update not in (equations.gru, equations.lstm):
        return "it has LSTM and GRU layers alone, without projection"
    if steps.reset is not None or steps.perturbation is not None:
        return "it takes seq_lengths and mask, but no reset and no perturbations"
    # An exported program may leave a size open.
    sizes = (*job.xs.shape, *hidden(job.carry).shape)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return f"it needs sizes of at least 1, and the inputs are {job.xs.shape}"
    arrays = jax.tree.leaves((job.ih, job.hh, job.carry))
    if any(x.dtype != jnp.float32 for x in arrays):
        return "its parameters and carry have to be float32"
    if pallas_kernels.rows_that_fit(static, len(hh)) == 0:
        return f"a recurrent kernel {hh.shape} does not fit into VMEM"
    return None


def applies(job: Job) -> bool:
    """Whether the kernels can do it, on a TPU."""
    return obstacle(job) is None


def run(job: Job) -> tuple[Carry, Carry]:
    """Run a job by the kernels; compiled for something else than a TPU, by the scan.

    JAX does not divide a kernel among devices: in a program for several TPUs this has to
    be called inside ``jax.shard_map`` with ``check_vma=False``. And it exports a program
    with one for a single platform at a time.

    Args:
        job: A GRU's or an LSTM's.

    Returns:
        ``(last, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """
    static = job.static

    def by_scan(weights, ih, carry, mask):
        return scan.recurrence(static, weights, ih, carry, Steps(mask))

    def by_kernels(weights, ih, carry, mask):
        time, *batch, _ = ih.shape
        rows = math.prod(batch)
        mask = None if mask is None else mask.reshape(time, rows)
        carries = _carries(
            static,
            weights,
            ih.reshape(time, rows, -1),
            jax.tree.map(lambda x: x.reshape(1, rows, -1), carry),
            mask,
        )
        carries = jax.tree.map(lambda x: x.reshape(time, *batch, -1), carries)
        return jax.tree.map(lambda x: x[0 if static.reverse else -1], carries), carries

    ih = affine(job.xs, *job.ih, static.dtype)
    args = (job.hh, ih, job.carry, job.steps.mask)
    if pallas_kernels.INTERPRET:
        return by_kernels(*args)
    # The choice is made when the program is compiled, perhaps on another machine.
    return jax.lax.platform_dependent(*args, tpu=by_kernels, default=by_scan)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _carries(static, weights, ih, carry, mask):
    """The carry after every step; shapes as in :mod:`rnnjax.loops.pallas_kernels`."""
    return _folding(pallas_kernels.forward, static)(weights, ih, carry, mask)


@_carries.defjvp
def _carries_jvp(static, primals, tangents):
    carries = _carries(static, *primals)
    # The backward pass computes again what this needs besides its arguments.
    tangent = jax.checkpoint(functools.partial(_tangent, static))
    return carries, tangent(primals, carries, tangents[:3])


def _tangent(static, primals, carries, tangents):
    weights, ih, carry, mask = primals
    weights_dot, ih_dot, carry_dot = tangents
    before = _shifted(static, carry, carries)
    both = preactivations(
        static.sums_preactivations,
        ih,
        affine(hidden(before), weights.kernel, weights.bias, static.dtype),
    )
    steps = (mask, before, both)

    # The derivative of a step, or of many side by side.
    def pushed(before_dot, preactivations_dot, mask, before, both):
        step = functools.partial(pallas_kernels.step, static, mask)
        return jax.jvp(step, (before, *both), (before_dot, *preactivations_dot))[1]

    # J times the tangent of the carry before.
    def propagated(before_dot, mask, before, both):
        hh_dot = matmul(hidden(before_dot), weights.kernel, static.dtype)
        preactivations_dot = preactivations(
            static.sums_preactivations, jnp.zeros_like(hh_dot), hh_dot
        )
        return pushed(before_dot, preactivations_dot, mask, before, both)

    def matvec(dots):
        zero = jax.tree.map(jnp.zeros_like, carry)
        through = propagated(_shifted(static, zero, dots), *steps)
        return jax.tree.map(jnp.subtract, dots, through)

    def solve(_, pushes):
        def one(dot, xs):
            push, step = xs
            dot = jax.tree.map(jnp.add, push, propagated(dot, *step))
            return dot, dot

        zero = jax.tree.map(lambda x: jnp.zeros_like(x[0]), carry)
        return jax.lax.scan(one, zero, (pushes, steps), reverse=static.reverse)[1]

    def transpose_solve(_, grads):
        backward = _folding(pallas_kernels.backward, static)
        return backward(weights, both, before, grads, mask)

    hh_dot = affine(hidden(before), weights_dot.kernel, weights_dot.bias, static.dtype)
    preactivations_dot = preactivations(static.sums_preactivations, ih_dot, hh_dot)
    pushes = pushed(jax.tree.map(jnp.zeros_like, before), preactivations_dot, *steps)
    # What comes before the first step is not among the unknowns.
    first = -1 if static.reverse else 0
    step = jax.tree.map(lambda x: x[first], steps)
    begun = propagated(jax.tree.map(lambda x: x[0], carry_dot), *step)
    pushes = jax.tree.map(lambda p, b: p.at[first].add(b), pushes, begun)
    return jax.lax.custom_linear_solve(matvec, pushes, solve, transpose_solve)


def _shifted(static, first, rest):
    """What each step begins with, of what the first does and what each one makes."""

    def shift(first, rest):
        if static.reverse:
            return jnp.concatenate([rest[1:], first])
        return jnp.concatenate([first, rest[:-1]])

    return jax.tree.map(shift, first, rest)


def _folding(kernel, static):
    """The kernel, which under ``vmap`` has the rows of all in one batch."""
    kernel = functools.partial(kernel, static)
    call = custom_vmap(kernel)

    @call.def_vmap
    def _(size, is_mapped, weights, *arrays):
        if any(jax.tree.leaves(is_mapped[0])):
            # Each has weights of its own, and gets an axis of the grid.
            axes = jax.tree.map(lambda mapped: 0 if mapped else None, is_mapped)
            out = jax.vmap(kernel, tuple(axes))(weights, *arrays)
            return out, jax.tree.map(lambda _: True, out)

        def fold(x, mapped):
            x = x if mapped else jnp.broadcast_to(x, (size, *x.shape))
            return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])

        def unfold(x):
            return jnp.moveaxis(x.reshape(len(x), size, -1, *x.shape[2:]), 1, 0)

        out = call(weights, *jax.tree.map(fold, tuple(arrays), tuple(is_mapped[1:])))
        out = jax.tree.map(unfold, out)
        return out, jax.tree.map(lambda _: True, out)

    return call
