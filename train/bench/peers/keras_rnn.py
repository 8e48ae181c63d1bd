"""Keras 3 on JAX, one ``train_on_batch`` an update."""

import os
from collections.abc import Callable

import numpy as np

from train.bench.peers.work import TextWork


def lab(work: TextWork) -> Callable[[int], np.ndarray]:
    """Lesson 002's training, with ``LSTM(stateful=True)``."""
    # Keras looks at it once, when it is imported.
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    task, settings = work.task, work.task.settings
    streams, length = len(task.windows.stream_starts), task.windows.length
    vocab_size = task.codec.vocab_size
    lstm = keras.layers.LSTM(settings.hidden_size, return_sequences=True, stateful=True)
    mlp_0 = keras.layers.Dense(settings.mlp_size, activation="relu")
    mlp_3 = keras.layers.Dense(vocab_size)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(streams, length, vocab_size)),
            lstm,
            keras.layers.Dropout(settings.dropout),
            mlp_0,
            keras.layers.Dropout(settings.dropout),
            mlp_3,
        ]
    )
    weights = work.weights
    # Keras has one bias, which is the sum of torch's two.
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    lstm.set_weights(
        [weights["lstm.weight_ih_l0"].T, weights["lstm.weight_hh_l0"].T, bias]
    )
    mlp_0.set_weights([weights["mlp.0.weight"].T, weights["mlp.0.bias"]])
    mlp_3.set_weights([weights["mlp.3.weight"].T, weights["mlp.3.bias"]])
    model.compile(
        # Its own default for epsilon is ten times as large as everyone else's.
        keras.optimizers.Adam(settings.learning_rate, epsilon=1e-8),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    one_hot = np.eye(vocab_size, dtype=np.float32)

    def run(round_):
        return np.array(
            [
                model.train_on_batch(one_hot[tokens[:, :-1]], tokens[:, 1:])
                for tokens in work.windows(round_).astype(np.int32)
            ]
        )

    return run
