"""Truncated backpropagation through time: windows, carries and losses.

A long text is cut into streams, which are read side by side, window after window. The
carry at the end of a window is where the next one starts; its gradient is not followed
further back.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.dropout import MASKS
from rnnjax.equations import Carry


class Windows(NamedTuple):
    """Where the windows of a text lie; tokens may be a file mapped into memory.

    Attributes:
        stream_starts: ``(streams,)`` place of each stream's first token in the text.
        window_starts: ``(windows,)`` place of each window in its stream.
        length: Number of steps of a window; it has one token more, the last target.

    Example:
        >>> windows = even_windows(num_tokens=14, num_streams=2, length=3)
        >>> windows.cut(np.arange(14), first=1, count=1).tolist()
        [[[3, 4, 5, 6], [9, 10, 11, 12]]]
    """

    stream_starts: np.ndarray
    window_starts: np.ndarray
    length: int

    def cut(self, tokens: np.ndarray, first: int, count: int) -> np.ndarray:
        """Some windows of every stream; after the last window comes the first again.

        Args:
            tokens: ``(num_tokens,)`` the text.
            first: Number of the first window.
            count: How many.

        Returns:
            ``(count, streams, length + 1)``.
        """
        which = np.arange(first, first + count) % len(self.window_starts)
        starts = self.window_starts[which, None] + self.stream_starts
        return tokens[starts[..., None] + np.arange(self.length + 1)]


def even_windows(num_tokens: int, num_streams: int, length: int) -> Windows:
    """Streams of equal length, in windows that share one token with the next.

    So each token of a stream but the first is the target of exactly one window. What
    does not fill a window of every stream, at the end of the text, is left out.

    Args:
        num_tokens: Length of the text.
        num_streams: Number of streams.
        length: Steps of a window.

    Returns:
        The windows; none if the text is too short.
    """
    num_windows = (num_tokens - 1) // (num_streams * length)
    return Windows(
        np.arange(num_streams) * num_windows * length,
        np.arange(num_windows) * length,
        length,
    )


def zero_carry(model: nn.Module, batch: tuple[int, ...]) -> Carry:
    """Zeros of the shape of the model's carry.

    Args:
        model: Is called as ``model.apply(variables, tokens) -> (carry, logits)``.
        batch: Sizes of the batch axes.

    Returns:
        What the first window starts from.

    Example:
        >>> from rnnjax.lessons import CharLM
        >>> (carry,) = zero_carry(CharLM(vocab_size=5, hidden_size=4), (2,))
        >>> carry.h.shape
        (2, 4)
    """
    tokens = jax.ShapeDtypeStruct((*batch, 1), jnp.int32)
    (carry, _), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)


def window_losses(
    model: nn.Module,
    params: Any,
    carry: Carry | None,
    tokens: jax.Array,
    *,
    reset: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    dropout_masks: Mapping[str, Any] | None = None,
) -> tuple[jax.Array, Carry]:
    """Read one window; each token predicts the next.

    Args:
        model: A language model, such as :class:`rnnjax.lessons.CharLM`.
        params: Its parameters.
        carry: What the window before left; no gradient goes into it. None is zeros.
        tokens: ``(*batch, length + 1)``.
        reset: ``(*batch, length)``, True at inputs that begin a new document: the carry
            goes back to zeros before them.
        dropout_key: Switches dropout on.
        dropout_masks: Switches dropout on, with masks from outside, see
            :func:`rnnjax.random.dropout_masks`.

    Returns:
        ``(losses, carry)``: negative log-likelihoods ``(*batch, length)`` in nats, and
        what the next window starts from.

    Example:
        >>> from rnnjax.lessons import CharLM
        >>> model = CharLM(vocab_size=5, hidden_size=4, mlp_size=6)
        >>> tokens = jnp.array([[0, 1, 2, 3, 4, 0, 1]])
        >>> params = model.init(jax.random.key(0), tokens)["params"]
        >>> carry = None
        >>> for window in (tokens[:, :4], tokens[:, 3:]):
        ...     losses, carry = window_losses(model, params, carry, window)
        >>> losses.shape
        (1, 3)
    """
    tokens = tokens.astype(jnp.int32)
    variables = {"params": params}
    if dropout_masks is not None:
        variables |= {MASKS: dropout_masks}
    logits: Any  # Flax declares what apply returns with ``mutable``, too
    carry, logits = model.apply(
        variables,
        tokens[..., :-1],
        jax.lax.stop_gradient(carry),
        deterministic=dropout_key is None and dropout_masks is None,
        reset=reset,
        rngs=None if dropout_key is None else {"dropout": dropout_key},
    )
    log_probs = jax.nn.log_softmax(logits)
    targets = tokens[..., 1:, None]
    return -jnp.take_along_axis(log_probs, targets, axis=-1)[..., 0], carry
