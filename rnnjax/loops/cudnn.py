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
from rnnjax.affine import is_tokens
from rnnjax.equations import LSTMCarry
from rnnjax.loops import scan
from rnnjax.loops.job import Job, Steps


def obstacle(job: Job) -> str | None:
    """Why cuDNN cannot do it, on the device at hand; None if it can."""
    static, xs, steps = job.static, job.xs, job.steps
    # To trace the call takes JAX's CUDA libraries, to export it a size for each axis.
    if jax.default_backend() != "gpu":
        return f"it needs an NVIDIA GPU, and the device is {jax.default_backend()}"
    if static.update is not equations.lstm:
        return "it has LSTM layers alone, without projection"
    if not (job.is_packed and steps.reset is None and steps.perturbation is None):
        return "it takes seq_lengths, but no mask, no reset and no perturbations"
    if job.wants_carries:
        return "it does not show the carry after every step"
    of_float32 = all(x.dtype == jnp.float32 for x in job.carry)
    if static.dtype is not None or not of_float32:
        return "it is for float32"
    if not is_tokens(xs) and xs.dtype != jnp.float32:
        return f"it is for float32, and the inputs are {xs.dtype}"
    if not all(isinstance(size, int) and size > 0 for size in xs.shape):
        return f"it needs sizes of at least 1, and the inputs are {xs.shape}"
    return None


def applies(job: Job) -> bool:
    """Whether cuDNN has what is asked for, on the device at hand."""
    return obstacle(job) is None


def run(job: Job) -> tuple[LSTMCarry, LSTMCarry]:
    """Run a job by cuDNN; compiled for something else than CUDA, by the scan.

    Args:
        job: An LSTM's.

    Returns:
        ``(last, carries)``: the carry after the last real step, and the hidden vector
        after every step, ``(time, *batch, features)``, with anything at padding; cuDNN
        does not say :math:`c`, which is None.
    """
    static = job.static

    def by_scan(ih, hh, xs, carry, mask):
        last, carries = scan.run(Job(static, ih, hh, xs, carry, Steps(mask)))
        return last, carries.h

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
            xs = _flip_sequences(xs, lengths)
        # An empty row makes a step that nobody sees.
        seq_lengths = jnp.maximum(lengths, 1).astype(jnp.int32)
        ys, *last = _lstm(xs.swapaxes(0, 1), h, c, _packed(ih, hh), seq_lengths)
        ys = ys.swapaxes(0, 1)
        if static.reverse:
            ys = _flip_sequences(ys, lengths)
        real = (lengths > 0)[:, None]
        h, c = (
            jnp.where(real, new[0], old[0]).reshape(*batch, -1)
            for new, old in zip(last, (h, c), strict=True)
        )
        return LSTMCarry(h, c), ys.reshape(time, *batch, -1)

    args = (job.ih, job.hh, job.xs, job.carry, job.steps.mask)
    last, ys = jax.lax.platform_dependent(*args, cuda=by_cudnn, default=by_scan)
    return last, LSTMCarry(h=ys, c=None)  # type: ignore[arg-type]


def _flip_sequences(xs, lengths):
    """Every row from its own last step to its first; padding stays where it is."""
    step = jnp.arange(len(xs))[:, None]
    there = jnp.where(step < lengths, lengths - 1 - step, step)
    return jnp.take_along_axis(xs, there[..., None], axis=0)


def _packed(ih, hh):
    """All weights in one row, gates in the same order: cuDNN's is PyTorch's."""
    none = jnp.zeros(hh.kernel.shape[-1])
    biases = (none if each.bias is None else each.bias for each in (ih, hh))
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
