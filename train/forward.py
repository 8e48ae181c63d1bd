"""A classifier's answer to names: logits, and where its attention lay."""

import functools
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.text import pad

CarryKind = Literal["zeros", "random", "kept"]
"""What a recurrence starts from: zeros, random, or what the batch before left."""


class Attention(NamedTuple):
    """How attention weighed the characters of a name.

    Attributes:
        text: The characters.
        weights: ``(len(text),)``, which sum to 1.
    """

    text: str
    weights: np.ndarray

    def shown(self) -> str:
        """Every character with its share in percent, in a line."""
        shares = (
            f"{c} {100 * w:.0f}" for c, w in zip(self.text, self.weights, strict=True)
        )
        return " · ".join(shares)


def random_carry(key: jax.Array, batch_size: int, features: int) -> jax.Array:
    """Lesson 003's initial state: ``kaiming_uniform_`` of a ``(1, features)`` tensor."""
    bound = (6 / features) ** 0.5
    return jax.random.uniform(key, (batch_size, features), minval=-bound, maxval=bound)


def start_of(model: nn.Module, carry: CarryKind) -> jax.Array | None:
    """The state that a name starts from when somebody asks about it.

    Args:
        model: The classifier.
        carry: What the recipe's recurrence starts from; a random state is always the
            same one here, so that a name has one answer.

    Returns:
        ``(features,)``; None is zeros.
    """
    if carry != "random":
        return None
    return random_carry(jax.random.key(0), 1, model.hidden_size)[0]


@functools.partial(jax.jit, static_argnames=("model", "carry"))
def forward(
    model: nn.Module, params, tokens, seq_lengths, carry: CarryKind = "zeros"
) -> tuple[jax.Array, jax.Array | None]:
    """Logits of a padded batch, and where attention looked.

    Args:
        model: The classifier.
        params: Its parameters.
        tokens: ``(batch, time)``.
        seq_lengths: ``(batch,)``.
        carry: What the recipe's recurrence starts from, see :func:`start_of`.

    Returns:
        ``(batch, classes)`` logits, and ``(batch, time)`` weights or None.
    """
    start = start_of(model, carry)
    if start is not None:
        start = jnp.broadcast_to(start, (tokens.shape[0], *start.shape))
    logits, sown = model.apply(
        {"params": params}, tokens, seq_lengths, start, mutable=["intermediates"]
    )
    (weights,) = sown.get("intermediates", {}).get("attention", (None,))
    return logits, weights


def logits_and_attention(
    model: nn.Module, params, tokens: np.ndarray, carry: CarryKind
) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits of one name, and where attention looked in it.

    Args:
        model: The classifier.
        params: Its parameters.
        tokens: ``(time,)``.
        carry: What the recipe's recurrence starts from, see :func:`start_of`.

    Returns:
        ``(classes,)`` logits, and ``(time,)`` weights or None.
    """
    # One of a few lengths, so that many names need few compilations.
    width = max(8, 2 ** int(np.ceil(np.log2(len(tokens)))))
    width = min(width, getattr(model, "max_length", width))
    logits, weights = forward(model, params, *pad([tokens], width), carry)
    if weights is not None:
        weights = np.asarray(weights[0, : len(tokens)])
    return np.asarray(logits[0]), weights
