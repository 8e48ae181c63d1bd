"""Many updates in one compiled call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnjax.dropout import MASKS
from train.forward import CarryKind, random_carry
from train.names.batches import ABSENT, Batches
from train.runs.devices import Layout, kept
from train.runs.guards import is_finite, repeat_while_finite


class State(NamedTuple):
    """All that training changes, and the key of its randomness.

    Attributes:
        params: The model's parameters.
        opt_state: The optimiser's state.
        carry: What the next batch starts from if the recipe keeps it, else None.
        step: Number of updates so far.
        key: The step's randomness is ``fold_in(key, step)``.
    """

    params: Any
    opt_state: Any
    carry: Any
    step: jax.Array
    key: jax.Array


class Metrics(NamedTuple):
    """What one batch did, before its update.

    Attributes:
        loss: Mean loss of the real rows, nats.
        correct: Number of rows whose largest logit is that of the label.
        count: Number of real rows.
        answer: What the first row was taken for.
    """

    loss: jax.Array | np.ndarray
    correct: jax.Array | np.ndarray
    count: jax.Array | np.ndarray  # type: ignore[assignment]  # hides tuple's count
    answer: jax.Array | np.ndarray


class Given(NamedTuple):
    """Random numbers that were drawn ahead, in place of those from the key.

    Attributes:
        carries: ``(batches, batch, features)`` what recurrences start from; None is what
            they start from otherwise.
        masks: The collection ``dropout_masks``, an axis of batches in front of every
            mask; None is those of the key.
    """

    carries: np.ndarray | None = None
    masks: Any = None


NOTHING_GIVEN = Given()


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Negative log-likelihood of the labels, ``(...,)`` nats.

    Args:
        logits: ``(..., classes)``.
        labels: ``(...,)``.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy to labels that leave a tenth to all classes alike."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), 0.1)
    return optax.softmax_cross_entropy(logits, targets)


def double_softmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy of lesson 004, whose model ends in a softmax already.

    Its loss takes those probabilities for logits, so that it can never fall below
    log(1 + 1/e) = 0.313 nats for two classes.
    """
    return cross_entropy(jax.nn.softmax(logits), labels)


class Trainer(NamedTuple):
    """What stays the same through a training.

    Attributes:
        model: The classifier.
        tx: The optimiser.
        loss: ``(logits, labels) -> (...,)``.
        carry: What a batch's recurrence starts from.
        widths: Lengths that batches are padded to.
    """

    model: nn.Module
    tx: optax.GradientTransformation
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    carry: CarryKind
    widths: tuple[int, ...]

    def init(self, key: jax.Array, batch_size: int, params: Any = None) -> State:
        """A state before the first update, from these parameters or random ones."""
        # In one compiled piece: array by array it takes seconds.
        return jax.jit(self._init, static_argnums=1)(key, batch_size, params)

    def _init(self, key, batch_size, params):
        init_key, step_key = jax.random.split(key)
        tokens = jnp.zeros((batch_size, self.widths[-1]), jnp.int32)
        if params is None:
            params = self.model.init(init_key, tokens)["params"]
        state = State(params, self.tx.init(params), None, jnp.array(0), step_key)
        return self.fresh_carry(state, batch_size)

    def fresh_carry(self, state: State, batch_size: int) -> State:
        """The state with a carry of zeros, if the recipe keeps one."""
        if self.carry != "kept":
            return state
        return state._replace(carry=self.zero_carry(state.params, batch_size))

    def zero_carry(self, params: Any, batch_size: int) -> Any:
        """Zeros of the shape of the model's carry."""
        tokens = jnp.zeros((batch_size, self.widths[-1]), jnp.int32)
        _, carry = jax.eval_shape(
            lambda params: self.apply(params, tokens, None, None, {}), params
        )
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), carry)

    def update(
        self,
        state: State,
        batch: Batches,
        bucket: jax.Array,
        given: Given = NOTHING_GIVEN,
    ) -> tuple[State, Metrics]:
        """One update of the parameters.

        Args:
            state: The state before.
            batch: One batch: ``tokens (batch, time)`` and so on.
            bucket: Index of its width.
            given: Random numbers for it, without the axis of batches.

        Returns:
            The state after, and what the batch did before.
        """
        key = jax.random.fold_in(state.key, state.step)

        def gradient(width):
            def loss(params, carry):
                return self._loss(params, carry, batch, width, key, given)

            return jax.grad(loss, has_aux=True)

        # Only the gradient is inside the switch: all that changes stays in place.
        grads, (metrics, carry) = jax.lax.switch(
            bucket, [gradient(w) for w in self.widths], state.params, state.carry
        )
        updates, opt_state = self.tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state, carry, state.step + 1, state.key), metrics

    def _loss(self, params, carry, batch, width, key, given):
        carry_key, dropout_key = jax.random.split(key)
        if given.carries is not None:
            start = given.carries
        elif self.carry == "random":
            features = self.model.hidden_size
            start = random_carry(carry_key, len(batch.labels), features)
        else:
            start = carry
        logits, last = self.apply(
            params,
            batch.tokens[:, :width],
            batch.seq_lengths,
            start,
            {"dropout": dropout_key},
            given.masks,
        )
        real = batch.labels != ABSENT
        labels = jnp.where(real, batch.labels, 0)
        count = jnp.sum(real)
        losses = jnp.where(real, self.loss(logits, labels), 0)
        loss = jnp.sum(losses) / jnp.maximum(count, 1)
        answers = jnp.argmax(logits, axis=-1)
        correct = jnp.sum((answers == labels) & real)
        new_carry = last if self.carry == "kept" else carry
        return loss, (Metrics(loss, correct, count, answers[0]), new_carry)

    def apply(self, params, tokens, seq_lengths, carry, rngs, masks=None):
        """Logits of a batch, and the final carry if the next batch starts from it."""
        logits, sown = self.model.apply(
            {"params": params} if masks is None else {"params": params, MASKS: masks},
            tokens,
            seq_lengths,
            carry,
            deterministic=not rngs,
            rngs=rngs,
            mutable=["intermediates"] if self.carry == "kept" else [],
        )
        (last,) = sown.get("intermediates", {}).get("carry", (None,))
        return logits, last

    def run(
        self,
        state: State,
        batches: Batches,
        count: jax.Array,
        replicas: bool,
        given: Given = NOTHING_GIVEN,
    ) -> tuple[State, Metrics, jax.Array]:
        """The first ``count`` updates of the batches, in one loop.

        It ends after an update in which a loss or a parameter is not finite.

        Args:
            state: The state before; with replicas, a leading axis on every leaf.
            batches: The batches; with replicas, a second axis on all but the buckets.
            count: How many to use; it may change without a new compilation.
            replicas: Whether several models are trained side by side, under vmap.
            given: Random numbers for the batches, without replicas.

        Returns:
            The state after, metrics ``(batches,)`` or ``(batches, replicas)``, and
            whether all is finite.
        """
        update = self.update
        if replicas:
            update = jax.vmap(update, in_axes=(0, 0, None, None))

        def body(index, loop):
            state, metrics = loop
            batch = Batches(*(array[index] for array in batches))
            mine = jax.tree.map(lambda array: array[index], given)
            state, new = update(
                state, batch._replace(buckets=None), batch.buckets, mine
            )
            metrics = jax.tree.map(
                lambda all, one: all.at[index].set(one), metrics, new
            )
            return (state, metrics), is_finite((state.params, new.loss))

        shape = batches.labels.shape[:-1]
        metrics = Metrics(jnp.zeros(shape), *(jnp.zeros(shape, int) for _ in range(3)))
        (state, metrics), good = repeat_while_finite(count, body, (state, metrics))
        return state, metrics, good


@functools.partial(
    jax.jit, static_argnames=("trainer", "replicas", "layout"), donate_argnames="state"
)
def update_many(
    state: State,
    batches,
    num,
    given: Given = NOTHING_GIVEN,
    *,
    trainer: Trainer,
    replicas: bool,
    layout: Layout | None = None,
):
    """The first ``num`` updates with the batches of a call, compiled once."""
    if replicas:
        state, metrics, finite = trainer.run(state, batches, num, replicas=True)
    else:
        alone = Batches(
            batches.tokens[:, 0],
            batches.seq_lengths[:, 0],
            batches.labels[:, 0],
            batches.buckets,
        )
        state, metrics, finite = trainer.run(
            state, alone, num, replicas=False, given=given
        )
        metrics = jax.tree.map(lambda x: x[:, None], metrics)
    return kept(layout, state, (metrics, finite))
