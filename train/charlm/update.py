"""The updates of a character language model, many in one compiled call."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnjax.truncated import window_losses, zero_carry
from train.runs.devices import Layout, kept
from train.runs.guards import is_finite, repeat_while_finite


class State(NamedTuple):
    """All that training changes.

    Attributes:
        params: The model's parameters.
        opt_state: The optimiser's state.
        carry: What the next window starts from.
        step: Number of updates so far.
    """

    params: Any
    opt_state: Any
    carry: Any
    step: jax.Array


class Metrics(NamedTuple):
    """What one update saw, before it.

    Attributes:
        loss: Mean loss of the window, nats per character.
    """

    loss: jax.Array | np.ndarray


class Trainer(NamedTuple):
    """What stays the same through a training.

    Attributes:
        model: The language model.
        tx: The optimiser, but for the learning rate.
    """

    model: nn.Module
    tx: optax.GradientTransformation

    def init(self, key: jax.Array, num_streams: int, params: Any = None) -> State:
        """A state before the first update, from these parameters or random ones."""
        tokens = jnp.zeros((1, 1), jnp.int32)
        if params is None:
            # In one compiled piece: array by array it takes seconds.
            params = jax.jit(self.model.init)(key, tokens)["params"]
        else:
            params = jax.tree.map(jnp.array, params)
        carry = zero_carry(self.model, (num_streams,))
        return State(params, self.tx.init(params), carry, jnp.array(0))


def update(
    trainer: Trainer,
    state: State,
    tokens: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    masks: Any = None,
) -> tuple[State, Metrics]:
    """One update of the parameters.

    Args:
        trainer: The model and its optimiser.
        state: The state before.
        tokens: ``(streams, window + 1)``.
        rate: The learning rate.
        key: Randomness of dropout.
        masks: The collection ``dropout_masks`` in its place, or None.

    Returns:
        The state after, and what the update saw before.
    """
    dropout_key = jax.random.fold_in(key, state.step)

    def mean_loss(params):
        losses, carry = window_losses(
            trainer.model,
            params,
            state.carry,
            tokens,
            dropout_key=dropout_key,
            dropout_masks=masks,
        )
        return jnp.mean(losses), carry

    gradient = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, carry), grads = gradient(state.params)
    steps, opt_state = trainer.tx.update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, s: p - rate * s, state.params, steps)
    return State(params, opt_state, carry, state.step + 1), Metrics(loss)


@functools.partial(
    jax.jit, static_argnames=("trainer", "layout"), donate_argnames="state"
)
def update_many(
    state: State,
    tokens,
    rates,
    num,
    key,
    masks=None,
    *,
    trainer: Trainer,
    layout: Layout | None = None,
):
    """The first ``num`` updates with ``tokens (calls, streams, window + 1)``.

    They end after one in which the loss or a parameter is not finite.

    Returns:
        The state after, the metrics ``(calls,)``, and whether all is finite.
    """

    def body(index, loop):
        state, metrics = loop
        state, new = update(
            trainer,
            state,
            tokens[index],
            rates[index],
            key,
            jax.tree.map(lambda array: array[index], masks),
        )
        metrics = jax.tree.map(lambda all, one: all.at[index].set(one), metrics, new)
        return (state, metrics), is_finite((state.params, new.loss))

    loop = (state, Metrics(jnp.zeros(len(tokens))))
    (state, metrics), finite = repeat_while_finite(num, body, loop)
    return kept(layout, state, (metrics, finite))
