"""cuDNN's LSTM in place of the loop over time, for NVIDIA's GPUs.

:mod:`jax.experimental.rnn` calls it: float32 alone (its products in TF32, unless
``jax_default_matmul_precision`` asks for more), rows with a length of at least 1, and of
the carries only the last. Under ``vmap`` the calls are made one after another. There is
no forward mode, and so no ``jax.hessian``.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from rnnjax import equations
from rnnjax.cells import Carry
from rnnjax.equations import LSTMCarry
from rnnjax.linear import affine, is_tokens
from rnnjax.loops.scan import Static, Steps, Weights, recurrence


def applies(static: Static, xs: jax.Array, carry: Carry) -> bool:
    """Whether cuDNN has what is asked for, on the device at hand.

    Args:
        static: The update.
        xs: ``(time, *batch, input)``, or tokens ``(time, *batch)``.
        carry: The initial carry.
    """
    return (
        # To trace the call takes JAX's CUDA libraries, to export it a size for each axis.
        jax.default_backend() == "gpu"
        and all(isinstance(size, int) and size > 0 for size in xs.shape)
        and static.update is equations.lstm
        and static.dtype is None
        and (is_tokens(xs) or xs.dtype == jnp.float32)
        and all(x.dtype == jnp.float32 for x in carry)
    )


def run(
    static: Static,
    ih: Weights,
    hh: Weights,
    xs: jax.Array,
    carry: LSTMCarry,
    mask: jax.Array | None,
) -> tuple[LSTMCarry, jax.Array]:
    """An LSTM over time; compiled for something else than CUDA, by the scan.

    Args:
        static: Has the direction.
        ih: The map of the inputs.
        hh: The recurrent map.
        xs: ``(time, *batch, input)``, or tokens ``(time, *batch)``.
        carry: The initial carry, ``(*batch, features)``.
        mask: ``(time, *batch)``, True at the first steps of each row; None is all.

    Returns:
        ``(carry, ys)``: the carry after the last real step, and outputs ``(time, *batch,
        features)``, with anything at padding.
    """

    def by_scan(ih, hh, xs, carry, mask):
        maps = affine(xs, ih.kernel, ih.bias, static.dtype)
        carry, carries = recurrence(static, hh, maps, carry, Steps(mask))
        return carry, carries.h

    def by_cudnn(ih, hh, xs, carry, mask):
        if is_tokens(xs):
            xs = jax.nn.one_hot(xs, len(ih.kernel))
        time, *batch, _ = xs.shape
        rows = math.prod(batch)
        h, c = (x.reshape(1, rows, -1) for x in carry)
        xs = xs.reshape(time, rows, -1)
        lengths = jnp.full(rows, time)
        if mask is not None:
            lengths = mask.reshape(time, rows).sum(0)
        if static.reverse:
            xs = _turned(xs, lengths)
        # An empty row makes a step that nobody sees.
        seq_lengths = jnp.maximum(lengths, 1).astype(jnp.int32)
        ys, *last = _lstm(xs.swapaxes(0, 1), h, c, _packed(ih, hh), seq_lengths)
        ys = ys.swapaxes(0, 1)
        if static.reverse:
            ys = _turned(ys, lengths)
        real = (lengths > 0)[:, None]
        h, c = (
            jnp.where(real, new[0], old[0]).reshape(*batch, -1)
            for new, old in zip(last, (h, c), strict=True)
        )
        return LSTMCarry(h, c), ys.reshape(time, *batch, -1)

    return jax.lax.platform_dependent(
        ih, hh, xs, carry, mask, cuda=by_cudnn, default=by_scan
    )


def _turned(xs, lengths):
    """Every row from its own last step to its first; padding stays where it is."""
    step = jnp.arange(len(xs))[:, None]
    there = jnp.where(step < lengths, lengths - 1 - step, step)
    return jnp.take_along_axis(xs, there[..., None], axis=0)


def _packed(ih, hh):
    """All weights in one row, gates in the same order: cuDNN's is PyTorch's."""
    none = jnp.zeros(hh.kernel.shape[-1])
    biases = (none if map_.bias is None else map_.bias for map_ in (ih, hh))
    return jnp.concatenate([ih.kernel.T.ravel(), hh.kernel.T.ravel(), *biases])


@jax.custom_vjp
def _lstm(xs, h, c, weights, seq_lengths):
    return _lstm_fwd(xs, h, c, weights, seq_lengths)[0]


def _lstm_fwd(xs, h, c, weights, seq_lengths):
    from jax.experimental import rnn

    options = _options(xs, h)
    call = sequential_vmap(lambda *args: rnn.lstm_fwd(*args, *options))
    return call(xs, h, c, weights, seq_lengths)


def _lstm_bwd(residuals, grads):
    from jax.experimental import rnn

    options = _options(*residuals[:2])
    call = sequential_vmap(lambda *args: rnn.lstm_bwd(*options, *args)[:4])
    return *call(residuals, grads), None


_lstm.defvjp(_lstm_fwd, _lstm_bwd)


def _options(xs, h):
    """Input and hidden size, layers, dropout, both directions, precision."""
    asked: Any = jax.config
    exact = asked.jax_default_matmul_precision in ("highest", "float32")
    precision = jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.HIGH
    return xs.shape[-1], h.shape[-1], 1, 0.0, False, precision
