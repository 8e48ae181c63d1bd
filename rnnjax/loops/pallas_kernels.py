"""The two TPU kernels of :mod:`rnnjax.loops.pallas`: all steps forward, and all back.

A grid of (blocks of rows) x (steps): the steps of a block follow one another. Of the
arrays over time a step sees its own slice, which arrives while the step before is
computed. The recurrent weight is one block for all of the grid, so that it is fetched
once; the carry, on the way back its gradient, stays in VMEM from step to step.

Every array but the weights has the rows of the batch on axis 1: ``(time, rows, ...)``,
and ``(1, rows, features)`` for what there is once. Widths and numbers of rows that the
tiles of VMEM do not divide are padded: units of zeros stay zeros, and rows are
independent.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rnnjax import equations
from rnnjax.affine import Affine, affine
from rnnjax.equations import Carry, LSTMCarry, hidden, preactivations
from rnnjax.loops.job import Static, hold_carry

LANES, ROWS = 128, 16
"""What widths and numbers of rows are padded to: a tile of bfloat16 in VMEM."""

VMEM = 48 * 2**20
"""Bytes that a kernel may take; every TPU from v5e on has 64 MiB or more of VMEM."""

INTERPRET = False
"""For tests: run the kernels on any platform, interpreted."""


def rows_that_fit(static: Static, features: int) -> int:
    """How many rows of a batch the kernels can have in VMEM at a time.

    With :math:`H` features, padded to a multiple of 128, :math:`G` gates, :math:`M` operands
    that the update is given (1 for an LSTM, 2 for a GRU), :math:`C` arrays of a carry (2
    and 1), and :math:`w` bytes for a weight (2 in bfloat16), the larger of the two
    kernels, the backward one, takes for :math:`B` rows

    .. math:: w G H^2 + 4 B H (2 M G + 9 C + 3 G) + 1024 B

    bytes: the weight; the operands of a step, its carry and two gradients, each twice, for
    one is computed while the next arrives; the gradient that is carried; three times
    the gates for what is computed in between; and the mask.

    Args:
        static: The update.
        features: :math:`H`.

    Returns:
        The largest multiple of 16 for which that is at most 48 MiB; 0 if there is none.

    Example:
        >>> lstm = Static(equations.lstm, True, False, None)
        >>> [rows_that_fit(lstm, features) for features in (1024, 2048)]
        [208, 0]
    """
    gates, operands, arrays = (
        (4, 1, 2) if static.update is equations.lstm else (3, 2, 1)
    )
    width = _up(features, LANES)
    weight = jnp.dtype(static.dtype or jnp.float32).itemsize * gates * width**2
    row = 4 * width * (2 * operands * gates + 9 * arrays + 3 * gates) + 1024
    return max(0, VMEM - weight) // row // ROWS * ROWS


def step(
    static: Static, mask: jax.Array | None, before: Carry, *operands: jax.Array
) -> Carry:
    """What the update makes of the carry and the operands, held where the mask is False."""
    return hold_carry(mask, static.update(before, *operands), before)


def forward(
    static: Static,
    weights: Affine,
    ih: jax.Array,
    carry: Carry,
    mask: jax.Array | None,
) -> Carry:
    """The carry after every step.

    Args:
        static: The update.
        weights: The recurrent map.
        ih: ``(time, rows, gates)``, the input's part of every step.
        carry: ``(1, rows, features)``, what the first step begins with.
        mask: ``(time, rows)``, False holds the carry; or None.

    Returns:
        ``(time, rows, features)``.
    """

    def body(weights, ih, mask, before):
        hh = affine(hidden(before), weights.kernel, weights.bias, static.dtype)
        after = step(
            static, mask, before, *preactivations(static.sums_preactivations, ih, hh)
        )
        return after, after

    return _run(body, static, static.reverse, weights, ih, mask, carry)


def backward(
    static: Static,
    weights: Affine,
    operands: tuple[jax.Array, ...],
    befores: Carry,
    grads: Carry,
    mask: jax.Array | None,
) -> Carry:
    """The gradient with respect to the carry after every step.

    Args:
        static: The update.
        weights: The recurrent map.
        operands: ``(time, rows, gates)`` each, what the update of every step was given.
        befores: ``(time, rows, features)``, the carry before every step.
        grads: ``(time, rows, features)``, the part of the gradient that does not come
            through the step after.
        mask: ``(time, rows)``, False holds the carry; or None.

    Returns:
        ``(time, rows, features)``.
    """

    def body(weights, each, mask, arrived):
        operands, before, grad = each
        grad = jax.tree.map(jnp.add, grad, arrived)
        _, pull = jax.vjp(functools.partial(step, static, mask), before, *operands)
        through, *through_operands = pull(grad)
        through_product = jax.lax.dot_general(
            through_operands[-1].astype(weights.kernel.dtype),
            weights.kernel,
            (((1,), (1,)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        return grad, add_to_hidden(through, through_product)

    zeros = jax.tree.map(lambda x: jnp.zeros_like(x[:1]), befores)
    each = (operands, befores, grads)
    return _run(body, static, not static.reverse, weights, each, mask, zeros)


def add_to_hidden(carry: Carry, h: jax.Array) -> Carry:
    """The carry, and something added to what the next step sees of it."""
    if isinstance(carry, LSTMCarry):
        return carry._replace(h=carry.h + h)
    return carry + h


def _run(
    body: Callable[[Affine, Any, jax.Array | None, Carry], tuple[Carry, Carry]],
    static: Static,
    from_the_end: bool,
    weights: Affine,
    each: Any,
    mask: jax.Array | None,
    initial: Carry,
) -> Carry:
    """Run ``out[t], carry = body(weights, each[t], mask[t], carry)`` over time.

    Args:
        body: Sees ``(rows, ...)``: some rows, at one step.
        static: The update.
        from_the_end: Whether the last step is the first to be run.
        weights: The recurrent map.
        each: Arrays ``(time, rows, ...)``.
        mask: ``(time, rows)`` or None.
        initial: ``(1, rows, features)``, the carry at the beginning.

    Returns:
        ``out``, ``(time, rows, features)``.
    """
    time, rows = jax.tree.leaves(each)[0].shape[:2]
    features = len(weights.kernel)
    width = _up(features, LANES)
    num_blocks = -(-rows // rows_that_fit(static, features))
    block = _up(-(-rows // num_blocks), ROWS)

    def widen(x):
        split = x.reshape(*x.shape[:-1], -1, features)
        split = jnp.pad(split, [(0, 0)] * x.ndim + [(0, width - features)])
        return split.reshape(*x.shape[:-1], -1)

    def more_rows(x):
        return jnp.pad(x, [(0, 0), (0, num_blocks * block - rows), (0, 0)])

    kernel = widen(weights.kernel).astype(static.dtype or jnp.float32)
    weights = Affine(
        jnp.pad(kernel, [(0, width - features), (0, 0)]),
        None if weights.bias is None else widen(weights.bias[None]),
    )
    each, initial = jax.tree.map(lambda x: more_rows(widen(x)), (each, initial))
    if mask is not None:
        mask = more_rows(mask[..., None].astype(jnp.float32))

    def whole(x):
        once = pl.Buffered(1)
        return pl.BlockSpec(x.shape, lambda i, t: (0, 0), pipeline_mode=once)

    def per_step(x):
        def at(i, t):
            return time - 1 - t if from_the_end else t, i, 0

        return pl.BlockSpec((None, block, x.shape[-1]), at)

    def per_block(x):
        return pl.BlockSpec((None, block, x.shape[-1]), lambda i, t: (0, i, 0))

    def run_step(weights, each, mask, initial, out, carry):
        @pl.when(pl.program_id(1) == 0)
        def _():
            _write(carry, _read(initial))

        mask = None if mask is None else mask[...] > 0
        now, after = body(_read(weights), _read(each), mask, _read(carry))
        _write(out, now)
        _write(carry, after)

    out = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((time, *x.shape[1:]), x.dtype), initial
    )
    (out,) = pl.pallas_call(
        run_step,
        grid=(num_blocks, time),
        in_specs=(
            jax.tree.map(whole, weights),
            *jax.tree.map(per_step, (each, mask)),
            jax.tree.map(per_block, initial),
        ),
        out_specs=[jax.tree.map(per_step, out)],
        out_shape=[out],
        scratch_shapes=[
            jax.tree.map(lambda x: pltpu.VMEM((block, width), x.dtype), initial)
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=VMEM
        ),
        interpret=INTERPRET,
    )(weights, each, mask, initial)
    return jax.tree.map(lambda x: x[:, :rows, :features], out)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _read(refs):
    return jax.tree.map(lambda ref: ref[...], refs)


def _write(refs, values):
    for ref, value in zip(jax.tree.leaves(refs), jax.tree.leaves(values), strict=True):
        ref[...] = value
