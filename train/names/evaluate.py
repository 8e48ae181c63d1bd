"""A classifier's logits for many names, and what its attention looked at."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.text import pad
from train.names.batches import Encoded, bucket_of, in_order
from train.names.update import CarryKind, Trainer, random_carry

BATCH_SIZE = 256


def logits_of(
    trainer: Trainer, params, encoded: Encoded, batch_size: int, key: jax.Array
) -> np.ndarray:
    """Logits of every example.

    Args:
        trainer: The model and what its recurrence starts from.
        params: Parameters.
        encoded: The examples.
        batch_size: Rows of a batch where the carry is kept from batch to batch: there,
            as in lesson 004, the batches come in order and a last short one is left out.
        key: Of the random initial states, where the recipe has them.

    Returns:
        ``(examples, classes)``; fewer rows where a short batch is left out.
    """
    if trainer.carry == "kept":
        return _with_kept_carry(trainer, params, encoded, batch_size)
    carries = None
    if trainer.carry == "random":
        features = trainer.model.hidden_size
        carries = np.asarray(random_carry(key, len(encoded.labels), features))
    order = np.argsort(encoded.seq_lengths, kind="stable")
    logits = []
    for start in range(0, len(order), BATCH_SIZE):
        # Filled up with repeated rows, so that every batch has the same shape.
        rows = np.resize(order[start : start + BATCH_SIZE], BATCH_SIZE)
        widest = encoded.seq_lengths[rows].max()
        width = trainer.widths[bucket_of(widest, trainer.widths)]
        logits.append(
            batch_logits(
                trainer,
                params,
                encoded.tokens[rows, :width],
                encoded.seq_lengths[rows],
                None if carries is None else carries[rows],
            )
        )
    flat = np.concatenate(logits)[: len(order)]
    result = np.empty_like(flat)
    result[order] = flat
    return result


@functools.partial(jax.jit, static_argnums=0)
def batch_logits(trainer: Trainer, params, tokens, seq_lengths, carry) -> jax.Array:
    """Logits of one batch, ``(batch, classes)``."""
    return trainer.apply(params, tokens, seq_lengths, carry, {})[0]


def _with_kept_carry(trainer, params, encoded, batch_size):
    order = np.arange(len(encoded.labels))
    batches = in_order(encoded, order, batch_size, trainer.widths, drop_last=True)
    logits = _carried_logits(trainer, params, batches.tokens, batches.seq_lengths)
    return np.asarray(logits).reshape(-1, logits.shape[-1])


@functools.partial(jax.jit, static_argnums=0)
def _carried_logits(trainer, params, tokens, seq_lengths):
    def step(carry, batch):
        logits, carry = trainer.apply(params, *batch, carry, {})
        return carry, logits

    carry = trainer.zero_carry(params, tokens.shape[1])
    return jax.lax.scan(step, carry, (tokens, seq_lengths))[1]


class Look(NamedTuple):
    """Where attention looked in one name.

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


def attention_of(trainer: Trainer, params, texts: list[str], vocabulary) -> list[Look]:
    """Where attention looks in texts; nothing for a model without attention.

    Args:
        trainer: Has the model.
        params: Parameters.
        texts: Texts in the vocabulary's characters.
        vocabulary: Encodes them.

    Returns:
        One look for each text, or an empty list.
    """
    padded = pad([vocabulary.encode(text) for text in texts])

    def attend(params):
        return forward(trainer.model, params, *padded)[1]

    if jax.eval_shape(attend, params) is None:
        return []
    # To NumPy first: JAX would compile a slice for each length.
    weights = np.asarray(attend(params))
    return [
        Look(text, row[: len(text)]) for text, row in zip(texts, weights, strict=True)
    ]


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
