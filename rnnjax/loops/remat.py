"""A long sequence in the memory of a short one.

The backward pass needs what every step made. Kept for all steps, that grows with the
length. Here the steps run in chunks, about as many as there are steps in each: only the
carry at the head of a chunk is kept, and the steps of one chunk at a time are computed
again. Both grow with the square root of the length, for one more forward pass.

Source: Chen et al., 2016, https://arxiv.org/abs/1604.06174, section 4.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.equations import Carry
from rnnjax.loops.job import Steps


def run_in_chunks(
    run: Callable, module: nn.Module, carry: Carry, xs: jax.Array, steps: Steps
) -> tuple[Carry, Any]:
    """``run(module, carry, xs, steps)``, chunk by chunk, each behind ``nn.remat``.

    Args:
        run: A loop over time, which holds its carry at steps that are masked.
        module: What it runs, in the direction ``module.reverse``.
        carry: The initial carry, ``(*batch, ...)``.
        xs: ``(time, *batch, ...)``.
        steps: Masks over the steps.

    Returns:
        What ``run`` returns: the final carry, and a pytree of ``(time, *batch, ...)``.
    """
    length = len(xs)
    size = max(1, math.isqrt(length))
    num_chunks = math.ceil(length / size)
    padding = num_chunks * size - length
    if padding and steps.mask is None:
        batch = jax.tree.leaves(carry)[0].shape[:-1]
        steps = steps._replace(mask=jnp.ones((length, *batch), bool))

    def split(x):
        x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(num_chunks, size, *x.shape[1:])

    def chunk(module, carry, xs_and_steps):
        return run(module, carry, *xs_and_steps)

    scan = nn.scan(
        nn.remat(chunk, prevent_cse=False),
        variable_broadcast="params",
        split_rngs={"params": False, "dropout": True},
        reverse=module.reverse,
    )
    carry, outputs = scan(module, carry, jax.tree.map(split, (xs, steps)))

    def join(x):
        return x.reshape(num_chunks * size, *x.shape[2:])[:length]

    return carry, jax.tree.map(join, outputs)
