"""A training of a character language model: its text, windows, model and optimiser."""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnjax.random import Processor, this_processor, torch_init
from rnnjax.truncated import Windows
from train.charlm.settings import Config, Settings
from train.charlm.text import Text, lesson_windows, stream_windows
from train.charlm.update import Trainer
from train.codec import Codec
from train.recipes import build_model
from train.runs import optimizers
from train.runs.guards import skip_large_gradients
from train.runs.seeded import Generators, Lesson

CALL_UPDATES = 20
"""Updates in one call of the compiled loop, at most: a call of lesson 002's size takes a
quarter of a minute, and a signal waits for its end."""

TRAIN_SHARE = 0.9
"""Of the text, from its beginning; the rest is for validation (but in lab)."""


class Task(NamedTuple):
    """All that one training needs.

    Attributes:
        config: The flags.
        settings: How to train.
        text: Where the text comes from.
        codec: How text becomes tokens.
        tokens: The whole text.
        train: The part to train on.
        windows: Its streams and windows.
        trainer: The model and its optimiser.
        key: Randomness of dropout: that of a step is ``fold_in(key, step)``.
        lesson: Where the lesson's own draws begin; None is draws of our own.
    """

    config: Config
    settings: Settings
    text: Text
    codec: Codec
    tokens: np.ndarray
    train: np.ndarray
    windows: Windows
    trainer: Trainer
    key: jax.Array
    lesson: Lesson | None = None

    @property
    def epoch_updates(self) -> int:
        """Updates of an epoch: one for each window."""
        return len(self.windows.window_starts)

    @property
    def num_updates(self) -> float:
        """Updates of the whole training; infinite if only time ends it."""
        epochs = self.settings.epochs
        return math.inf if epochs is None else epochs * self.epoch_updates

    def next_record(self, step: int) -> int:
        """The update, after this one, up to which one call of the loop may go."""
        every = [CALL_UPDATES, self.settings.checkpoint_every]
        if self.settings.every is not None:
            every.append(self.settings.every)
        if self.settings.sample_every is not None:
            every.append(self.settings.sample_every * self.epoch_updates)
        return int(min(self.num_updates, *(step - step % n + n for n in every)))


def make_model(config: Config, codec: Codec) -> nn.Module:
    """The model of a configuration."""
    settings = config.settings
    return build_model(
        config.recipe,
        "lstm",
        vocab_size=codec.vocab_size,
        hidden_size=settings.hidden_size,
        mlp_size=settings.mlp_size,
        num_layers=settings.num_layers,
        dropout=settings.dropout,
        dtype=None if config.dtype == "float32" else jnp.dtype(config.dtype),
        backend=config.backend,
    )


# One object for the same values: JAX compiles anew for an optimiser it has not seen.
@functools.cache
def make_optimizer(
    b2: float,
    clip: float | None,
    weight_decay: float,
    skip_gradients_above: float | None = None,
) -> optax.GradientTransformation:
    """Adam but for the learning rate, which is a number of each update.

    Args:
        b2: Adam's.
        clip: Global norm that gradients are cut to; None is not at all.
        weight_decay: AdamW's, for the weight matrices.
        skip_gradients_above: Global norm from which on an update is left out.

    Returns:
        An optax transformation whose updates are to be multiplied by minus the rate.
    """
    parts = [optimizers.scale_by_adam(b2=b2)]
    if clip is not None:
        parts.insert(0, optimizers.clip_by_norm(clip))
    if weight_decay:
        matrices = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
        parts.append(optax.add_decayed_weights(weight_decay, matrices))
    tx = optax.chain(*parts)
    if skip_gradients_above is None:
        return tx
    return skip_large_gradients(tx, skip_gradients_above)


def make_windows(config: Config, num_tokens: int) -> Windows:
    """The streams and windows of the part of a text to train on.

    Raises:
        InputError: If the text is too short.
    """
    settings = config.settings
    if config.recipe == "lab":
        return lesson_windows(num_tokens, settings.batch_size, settings.window)
    border = int(TRAIN_SHARE * num_tokens)
    return stream_windows(border, settings.batch_size, settings.window)


def make_task(
    config: Config,
    text: Text,
    codec: Codec,
    tokens: np.ndarray,
    processor: Processor | None = None,
) -> Task:
    """Divide a text, and build the model for it.

    Args:
        config: The flags.
        text: Where the text comes from.
        codec: Knows its characters.
        tokens: The whole text.
        processor: What the last places of a lesson's draws owe to; None is this one.

    Raises:
        InputError: If the text is too short.
    """
    settings = config.settings
    border = len(tokens)
    if config.recipe != "lab":
        border = int(TRAIN_SHARE * len(tokens))
    tx = make_optimizer(
        settings.b2, settings.clip, settings.weight_decay, config.skip_gradients_above
    )
    model = make_model(config, codec)
    lesson = None
    if config.torch_seed is not None:
        generators = Generators.seeded(config.torch_seed, processor or this_processor())
        params = torch_init(model, generators.torch)
        lesson = Lesson(
            config.torch_seed, generators.torch.processor, params, generators.draws()
        )
    return Task(
        config,
        settings,
        text,
        codec,
        tokens,
        tokens[:border],
        make_windows(config, len(tokens)),
        Trainer(model, tx),
        # XLA's own generator ("rbg") takes four times as long on a CPU.
        jax.random.key(config.seed + 1),
        lesson,
    )
