"""How well a language model predicts a text, in nats per token."""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.truncated import window_losses, zero_carry

WARM_UP = 512
"""Tokens that a stream reads before those that count."""

MAX_STREAMS = 32
LEAST_STREAM = 4096
"""A text shorter than twice this is read in one pass."""

WINDOW = 128


class Likelihood(NamedTuple):
    """What a text cost.

    Attributes:
        nats: Negative log-likelihood of all tokens that were predicted.
        num_tokens: How many they are.
    """

    nats: float
    num_tokens: int

    @property
    def per_token(self) -> float:
        """Nats per token."""
        return self.nats / self.num_tokens

    @property
    def bits(self) -> float:
        """Bits per token."""
        return self.per_token / math.log(2)


@functools.partial(jax.jit, static_argnames="model")
def summed_losses(model: nn.Module, params, carry, tokens, reset, weights):
    """The weighted losses of a window, ``(streams,)`` nats, and the carry after it."""
    losses, carry = window_losses(model, params, carry, tokens, reset=reset)
    # Summed along a stream only: the host adds up in double precision.
    return jnp.sum(losses * weights, axis=-1), carry


def num_streams_for(num_tokens: int) -> int:
    """Into how many streams a text is cut."""
    return int(np.clip(num_tokens // LEAST_STREAM, 1, MAX_STREAMS))


def likelihood(
    model: nn.Module, params: Any, tokens: np.ndarray, first: int = 1
) -> Likelihood:
    """Predict every token from all that stand before it, the carry never reset.

    A long text is read in up to `MAX_STREAMS` streams side by side. Each token is still
    predicted exactly once: a stream begins `WARM_UP` tokens before the first one that
    counts (or where the text begins), to have its carry.

    Args:
        model: The model.
        params: Its parameters.
        tokens: ``(num_tokens,)`` the text.
        first: The first token that is predicted; those before it are only read. At
            least 1, for the first token of a text has nothing before it.

    Returns:
        The likelihood of ``tokens[first:]``.
    """
    num_targets = len(tokens) - first
    num_streams = num_streams_for(num_targets)
    size = math.ceil(num_targets / num_streams)
    begins = first + size * np.arange(num_streams)[:, None]
    ends = np.minimum(begins + size, len(tokens))
    # Of several streams the first may begin before the text; `reset` sees to that.
    warm_up = WARM_UP if num_streams > 1 else min(WARM_UP, first - 1)
    num_steps = math.ceil((warm_up + size) / WINDOW) * WINDOW
    carry, nats = zero_carry(model, (num_streams,)), 0.0
    for step in range(0, num_steps, WINDOW):
        # A window's inputs, and its last target.
        places = begins - warm_up - 1 + step + np.arange(WINDOW + 1)
        inputs, targets = places[:, :-1], places[:, 1:]
        sums, carry = summed_losses(
            model,
            params,
            carry,
            tokens[np.clip(places, 0, len(tokens) - 1)],
            inputs == 0,
            ((targets >= begins) & (targets < ends)).astype(np.float32),
        )
        nats += float(np.asarray(sums, np.float64).sum())
    return Likelihood(nats, num_targets)


def crop_loss(
    model: nn.Module,
    params: Any,
    tokens: np.ndarray,
    seed: int,
    num_batches: int = 16,
    length: int = 256,
) -> float | None:
    """nanoGPT's estimate: the mean over random crops, each read from a carry of zeros.

    Args:
        model: The model.
        params: Its parameters.
        tokens: ``(num_tokens,)`` the text.
        seed: Chooses the crops.
        num_batches: How many batches of 64 crops; nanoGPT's default is 200.
        length: Characters that each predicts; nanoGPT's default is 256.

    Returns:
        Nats per token; None if the text is shorter than a crop.

    Source:
        ``estimate_loss`` and ``get_batch`` of https://github.com/karpathy/nanoGPT.
    """
    if len(tokens) <= length:
        return None
    rng = np.random.default_rng([seed, 1])
    total, batch = 0.0, 64
    weights = np.ones((batch, length), np.float32)
    reset = np.zeros((batch, length), bool)
    zeros = zero_carry(model, (batch,))
    for _ in range(num_batches):
        starts = rng.integers(len(tokens) - length, size=(batch, 1))
        places = starts + np.arange(length + 1)
        sums, _ = summed_losses(model, params, zeros, tokens[places], reset, weights)
        total += float(np.asarray(sums, np.float64).sum())
    return total / (num_batches * batch * length)
