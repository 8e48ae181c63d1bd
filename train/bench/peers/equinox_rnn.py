"""Equinox's LSTM cell under ``lax.scan``, one update a call."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.bench.peers.work import TextWork


def lab(work: TextWork) -> Callable[[int], np.ndarray]:
    """Lesson 002's training."""
    import equinox as eqx

    task, settings = work.task, work.task.settings
    vocab_size, hidden_size = task.codec.vocab_size, settings.hidden_size

    class CharLM(eqx.Module):
        lstm: eqx.nn.LSTMCell
        mlp_0: eqx.nn.Linear
        mlp_3: eqx.nn.Linear
        dropout: eqx.nn.Dropout

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.lstm = eqx.nn.LSTMCell(vocab_size, hidden_size, key=keys[0])
            self.mlp_0 = eqx.nn.Linear(hidden_size, settings.mlp_size, key=keys[1])
            self.mlp_3 = eqx.nn.Linear(settings.mlp_size, vocab_size, key=keys[2])
            self.dropout = eqx.nn.Dropout(settings.dropout)

        def __call__(self, tokens, carry, key):
            def step(carry, x):
                carry = self.lstm(x, carry)
                return carry, carry[0]

            carry, x = jax.lax.scan(step, carry, jax.nn.one_hot(tokens, vocab_size))
            keys = jax.random.split(key)
            x = jax.vmap(self.mlp_0)(self.dropout(x, key=keys[0]))
            x = self.dropout(jax.nn.relu(x), key=keys[1])
            return carry, jax.vmap(self.mlp_3)(x)

    model = _with_weights(eqx, CharLM(jax.random.key(0)), work.weights)
    optimizer = optax.adam(settings.learning_rate)

    @eqx.filter_jit(donate="all")
    def update(model, opt_state, carry, tokens, key):
        keys = jax.random.split(key, len(tokens))

        @eqx.filter_value_and_grad(has_aux=True)
        def gradient(model):
            new, logits = jax.vmap(model)(tokens[:, :-1], carry, keys)
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, tokens[:, 1:]
            )
            return losses.mean(), new

        (value, carry), grads = gradient(model)
        updates, opt_state = optimizer.update(grads, opt_state)
        return eqx.apply_updates(model, updates), opt_state, carry, value

    streams = len(task.windows.stream_starts)
    carry = tuple(jnp.zeros((streams, hidden_size)) for _ in range(2))
    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))
    key = jax.random.key(0)

    def run(round_):
        nonlocal model, opt_state, carry, key
        losses = []
        for tokens in work.windows(round_).astype(np.int32):
            key, step_key = jax.random.split(key)
            model, opt_state, carry, loss = update(
                model, opt_state, carry, jnp.asarray(tokens), step_key
            )
            losses.append(loss)
        return np.array(jax.block_until_ready(losses))

    return run


def _with_weights(eqx, model, weights):
    def leaves(model):
        lstm, first, last = model.lstm, model.mlp_0, model.mlp_3
        return [
            *(lstm.weight_ih, lstm.weight_hh, lstm.bias),
            *(first.weight, first.bias, last.weight, last.bias),
        ]

    values = [
        weights["lstm.weight_ih_l0"],
        weights["lstm.weight_hh_l0"],
        # Equinox has one bias, which is the sum of torch's two.
        weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"],
        *(weights[f"mlp.{n}.{part}"] for n in (0, 3) for part in ("weight", "bias")),
    ]
    return eqx.tree_at(leaves, model, [jnp.asarray(value) for value in values])
