"""Flax's own ``nn.RNN`` over its cells, one update a call."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnjax import GRUCell, LSTMCell, Recurrent, from_torch, to_flax
from train.bench.peers.work import LayerWork, NamesWork, TextWork
from train.names.batches import ABSENT

Run = Callable[[int], np.ndarray]


class CharLM(nn.Module):
    """Lesson 002's model."""

    vocab_size: int
    hidden_size: int
    mlp_size: int
    dropout: float

    @nn.compact
    def __call__(self, tokens, carry):
        x = jax.nn.one_hot(tokens, self.vocab_size)
        lstm = nn.RNN(nn.OptimizedLSTMCell(self.hidden_size), return_carry=True)
        carry, x = lstm(x, initial_carry=carry)
        x = nn.Dropout(self.dropout, deterministic=False)(x)
        x = nn.relu(nn.Dense(self.mlp_size, name="mlp_0")(x))
        x = nn.Dropout(self.dropout, deterministic=False)(x)
        return carry, nn.Dense(self.vocab_size, name="mlp_3")(x)


def lab(work: TextWork) -> Run:
    """Lesson 002's training."""
    task, settings = work.task, work.task.settings
    ours = from_torch(task.trainer.model, work.weights)
    layer = Recurrent(LSTMCell(settings.hidden_size))
    params = {
        "OptimizedLSTMCell_0": to_flax(layer, ours["lstm"]["layer_0"])["cell"],
        "mlp_0": ours["mlp_0"],
        "mlp_3": ours["mlp_3"],
    }
    model = CharLM(
        task.codec.vocab_size,
        settings.hidden_size,
        settings.mlp_size,
        settings.dropout,
    )
    tx = optax.adam(settings.learning_rate)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, opt_state, carry, tokens, key):
        def loss(params):
            rngs = {"dropout": key}
            new, logits = model.apply(
                {"params": params}, tokens[:, :-1], carry, rngs=rngs
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, tokens[:, 1:]
            )
            return losses.mean(), new

        (value, carry), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, carry, value

    zeros = jnp.zeros((len(task.windows.stream_starts), settings.hidden_size))
    carry, opt_state, key = (zeros, zeros), tx.init(params), jax.random.key(0)

    def run(round_):
        nonlocal params, opt_state, carry, key
        losses = []
        for tokens in work.windows(round_).astype(np.int32):
            key, step_key = jax.random.split(key)
            params, opt_state, carry, loss = update(
                params, opt_state, carry, tokens, step_key
            )
            losses.append(loss)
        return np.array(jax.block_until_ready(losses))

    return run


class Classifier(nn.Module):
    """A stack of GRUs, the class from the last real state."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_classes: int

    @nn.compact
    def __call__(self, tokens, seq_lengths):
        x = jax.nn.one_hot(tokens, self.vocab_size)
        for _ in range(self.num_layers):
            gru = nn.RNN(nn.GRUCell(self.hidden_size), return_carry=True)
            carry, x = gru(x, seq_lengths=seq_lengths)
        return nn.Dense(self.num_classes, name="fc")(carry)


def names(work: NamesWork) -> Run:
    """Batches of names, all padded to the longest."""
    ours, task = work.task.trainer.model, work.task
    theirs = from_torch(ours, work.weights)
    layer = Recurrent(GRUCell(ours.hidden_size))
    params = {"fc": theirs["fc"]} | {
        f"GRUCell_{index}": to_flax(layer, theirs["gru"][f"layer_{index}"])["cell"]
        for index in range(ours.num_layers)
    }
    model = Classifier(
        ours.vocab_size, ours.hidden_size, ours.num_layers, ours.num_classes
    )
    tx = optax.adam(task.settings.learning_rate)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, opt_state, tokens, seq_lengths, labels):
        def loss(params):
            logits = model.apply({"params": params}, tokens, seq_lengths)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(where=labels != ABSENT)

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    opt_state = tx.init(params)

    def run(round_):
        nonlocal params, opt_state
        losses = []
        for tokens, seq_lengths, labels, _ in zip(*work.batches(round_), strict=True):
            params, opt_state, loss = update(
                params, opt_state, tokens, seq_lengths, labels
            )
            losses.append(loss)
        return np.array(jax.block_until_ready(losses))

    return run


def layer(work: LayerWork) -> Run:
    """``nn.RNN(nn.OptimizedLSTMCell)`` alone, forward and backward."""
    module = nn.RNN(nn.OptimizedLSTMCell(work.layer.cell.features))
    params = to_flax(work.layer, work.weights)
    vocab_size = len(work.weights["cell"]["ih"]["kernel"])
    tokens = jnp.asarray(work.inputs)

    def loss(params):
        ys = module.apply({"params": params}, jax.nn.one_hot(tokens, vocab_size))
        return jnp.mean(ys**2)

    gradient = jax.jit(jax.value_and_grad(loss))

    def run(round_):
        value, grads = jax.block_until_ready(gradient(params))
        gates = [np.asarray(grads["cell"][f"h{gate}"]["kernel"]) for gate in "ifgo"]
        return np.array([value, np.linalg.norm(gates)])

    return run
