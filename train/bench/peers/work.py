"""What all contestants of a comparison are given: data, weights, and how much to do."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from rnnjax import to_torch
from rnnjax.recurrent import Recurrent
from train.charlm import settings as charlm_config
from train.charlm import task as charlm_task
from train.charlm import training as charlm_training
from train.charlm.text import read_text, survey, tokenize
from train.codec import LINE_END
from train.datasets import NamesData
from train.names import training as names_training
from train.names.batches import ABSENT, Batches, Encoded
from train.names.settings import settings_of
from train.names.task import Task, make_task

Weights = Mapping[str, np.ndarray]
"""A PyTorch state dict."""

TRAINING = 3
"""A forward pass and two products of the same size backward."""


class Amount(NamedTuple):
    """What a contestant does in one round.

    Attributes:
        units: Updates, or whatever the row counts.
        chars: Real characters: padding does not count.
        flops: Operations in the matrix products that the mathematics needs: neither
            padding nor a look-up of a token counts.
    """

    units: float
    chars: float
    flops: float


class NamesWork(NamedTuple):
    """Updates of a classifier on all training names of a task, once around.

    Attributes:
        task: The names, the model and how it is trained.
        weights: What everyone starts from.
        validates: Whether a look at the validation names belongs to a round.
    """

    task: Task
    weights: Weights
    validates: bool

    def batches(self, round_: int) -> Batches:
        """The batches of a round, without the axis of replicas."""
        planned = self.task.batches(round_)
        return Batches(*(array[:, 0] for array in planned[:-1]), planned.buckets)

    def names(self, round_: int) -> list[list[tuple[str, int]]]:
        """The same batches as names and labels."""
        batches, decode = self.batches(round_), self.task.vocabulary.decode
        return [
            [
                (decode(row[:length]), int(label))
                for row, length, label in zip(tokens, lengths, labels, strict=True)
                if label != ABSENT
            ]
            for tokens, lengths, labels, _ in zip(*batches, strict=True)
        ]

    def amount(self, round_: int) -> Amount:
        """What a round is."""
        batches = self.batches(round_)
        chars = int(batches.seq_lengths.sum())
        names = int((batches.labels != ABSENT).sum())
        flops = TRAINING * names_flops(self.task.trainer.model, chars, names)
        return Amount(1 if self.validates else batches.num_batches, chars, flops)


def names_flops(model: nn.Module, chars: int, names: int) -> float:
    """Operations of a classifier's forward pass.

    Args:
        model: A classifier.
        chars: Real characters of all names.
        names: Number of names.
    """
    shapes = kernel_sizes(model)
    recurrent = sum(size for path, size in shapes.items() if "/cell/" in path)
    head = sum(size for path, size in shapes.items() if "/cell/" not in path)
    return 2 * (chars * recurrent + names * head)


def kernel_sizes(model: nn.Module) -> dict[str, int]:
    """Sizes of the matrices that a model multiplies by, by path.

    The first matrix of a model on tokens is not among them: its rows are looked up.
    """
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)
    shapes = flatten_dict(variables["params"], sep="/")
    looked_up = (
        "layer_0/cell/ih/kernel",
        "i2h/cell/ih/kernel",
        "in2hidden/cell/ih/kernel",
    )
    return {
        path: leaf.size
        for path, leaf in shapes.items()
        if leaf.ndim == 2 and not path.endswith(looked_up)
    }


def names_work(
    recipe: str,
    model: str,
    data: NamesData,
    *,
    names: int | None = None,
    validates: bool = False,
    **changes,
) -> NamesWork:
    """A recipe's training, or the beginning of it.

    Args:
        recipe: Name of the recipe.
        model: One of its models.
        data: The names.
        names: Train on so many random ones; None is all.
        validates: Whether a look at the validation names belongs to a round.
        **changes: Settings that are otherwise than in the recipe.
    """
    settings = dataclasses.replace(settings_of(recipe, model), **changes)
    task = make_task(recipe, model, settings, data, seeds=[0])
    (replica,) = task.replicas
    if names is not None:
        order = np.random.default_rng(0).permutation(len(replica.train.labels))[:names]
        fewer = Encoded(*(array[order] for array in replica.train))
        task = task._replace(replicas=(replica._replace(train=fewer),))
    params = names_training.start(task).state.params
    return NamesWork(task, to_torch(task.trainer.model, params), validates)


class TextWork(NamedTuple):
    """Updates of lesson 002's language model.

    Attributes:
        task: The text, the model and how it is trained.
        weights: What everyone starts from.
        updates: Updates of a round.
    """

    task: charlm_task.Task
    weights: Weights
    updates: int

    @property
    def without_dropout(self) -> "TextWork":
        """The same, with numbers that can be compared."""
        if not self.task.settings.dropout:
            return self
        config = dataclasses.replace(self.task.config, dropout=0.0)
        task = charlm_task.make_task(
            config, self.task.text, self.task.codec, self.task.tokens
        )
        return self._replace(task=task)

    def windows(self, round_: int) -> np.ndarray:
        """``(updates, streams, window + 1)`` tokens of a round."""
        first = round_ * self.updates
        return self.task.windows.cut(self.task.train, first, self.updates)

    def amount(self, round_: int) -> Amount:
        """What a round is."""
        updates, streams, length = self.windows(round_).shape
        chars = updates * streams * (length - 1)
        sizes = kernel_sizes(self.task.trainer.model).values()
        return Amount(updates, chars, TRAINING * 2 * chars * sum(sizes))


def text_work(text: Path | None, updates: int, **sizes: int) -> TextWork:
    """Lesson 002's training.

    Args:
        text: The text; None is the lesson's, or the bundled sample.
        updates: Updates of a round.
        **sizes: Flags of ``train.charlm`` that are otherwise than in the lesson.
    """
    found = read_text(text, "friends", joined=True)
    known = survey(found, "chars", LINE_END)
    tokens = tokenize(found, known.codec, Path("tokens.bin"))
    config = charlm_config.Config(recipe="lab", text=text, **sizes)
    task = charlm_task.make_task(config, found, known.codec, tokens)
    params = charlm_training.start(task).state.params
    return TextWork(task, to_torch(task.trainer.model, params), updates)


class LayerWork(NamedTuple):
    """A recurrent layer alone, forward and backward.

    Attributes:
        layer: The layer.
        weights: Its parameters.
        inputs: ``(batch, time, input)``, or tokens ``(batch, time)``.
    """

    layer: Recurrent
    weights: Mapping
    inputs: np.ndarray

    def amount(self, round_: int) -> Amount:
        """What a round is."""
        batch, time = self.inputs.shape[:2]
        kernel = self.weights["cell"]["hh"]["kernel"]
        return Amount(1, batch * time, TRAINING * 2 * batch * time * kernel.size)


def layer_work(layer: Recurrent, vocab_size: int, batch: int, time: int) -> LayerWork:
    """A layer over random tokens."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(vocab_size, size=(batch, time), dtype=np.int32)
    params = layer.init(jax.random.key(0), tokens)["params"]
    return LayerWork(layer, params, tokens)


class SampleWork(NamedTuple):
    """Drawing text, the likeliest character each time.

    Attributes:
        task: Has lesson 002's model and how text becomes tokens.
        weights: The model's.
        prompt: What comes before.
        chars: Characters of each sample.
        samples: How many samples of the same prompt.
    """

    task: charlm_task.Task
    weights: Weights
    prompt: str
    chars: int
    samples: int

    def amount(self, round_: int) -> Amount:
        """What a round is."""
        chars = self.samples * self.chars
        sizes = kernel_sizes(self.task.trainer.model).values()
        return Amount(chars, chars, 2 * chars * sum(sizes))


def sample_work(
    text: Path | None, chars: int, samples: int, **sizes: int
) -> SampleWork:
    """Lesson 002's ``gen_text`` after "They "."""
    task, weights, _ = text_work(text, 1, **sizes)
    known, _ = task.codec.spell("They ")
    return SampleWork(task, weights, known, chars, samples)
