"""A training of a names model: its names, its batches, its model and optimiser."""

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnjax.loops import Backend
from rnnjax.random import Processor, this_processor, torch_init
from rnnjax.text import Vocabulary, bucket_widths
from train.cli import InputError
from train.datasets import NamesData
from train.names import batches as plans
from train.names import splits
from train.names.lesson_splits import SPLITS
from train.names.settings import Settings
from train.names.update import Trainer
from train.recipes import build_model
from train.runs import optimizers
from train.runs.seeded import Generators, Lesson

REPORT_EVERY = 1000
"""Iterations whose loss lesson 001 averages, and between two of its records."""

CALL_UPDATES = 1000
"""Updates in one call of the compiled loop, at most: what it reads is made anew for each,
and a call of so many small updates already costs next to nothing."""


class Replica(NamedTuple):
    """One seed's names.

    Attributes:
        seed: The seed.
        split: The names.
        train: The training names as arrays.
        validation: The validation names, if the recipe has any.
        test: The test names.
    """

    seed: int
    split: splits.Split
    train: plans.Encoded
    validation: plans.Encoded | None
    test: plans.Encoded


class Task(NamedTuple):
    """All that one training needs: replicas of one model.

    Attributes:
        recipe: Name of the recipe.
        model_name: Name of the model in the recipe.
        noise: Level of the workshop's noise.
        settings: How it is trained.
        vocabulary: The characters.
        languages: The classes.
        replicas: The names of each seed.
        trainer: The model, its optimiser and its loss.
        source: Where the names come from.
        fingerprint: SHA-256 of the names and their labels.
        lesson: Where the lesson's own draws begin; None is draws of our own.
        file_order: The languages as they were read.
    """

    recipe: str
    model_name: str
    noise: int
    settings: Settings
    vocabulary: Vocabulary
    languages: tuple[str, ...]
    replicas: tuple[Replica, ...]
    trainer: Trainer
    source: str
    fingerprint: str
    lesson: Lesson | None = None
    file_order: tuple[str, ...] = ()

    @property
    def record_updates(self) -> int:
        """Updates between two records: an epoch's, or a thousand; the last has fewer."""
        if self.settings.iterations is not None:
            return REPORT_EVERY
        whole, rest = divmod(
            len(self.replicas[0].train.labels), self.settings.batch_size
        )
        return whole + (rest > 0 and not self.settings.drop_last)

    @property
    def num_updates(self) -> int:
        """Updates of the whole training."""
        if self.settings.iterations is not None:
            return self.settings.iterations
        assert self.settings.epochs is not None
        return self.settings.epochs * self.record_updates

    def epochs_after(self, step: int) -> int | None:
        """Epochs that have ended; None if the recipe counts iterations."""
        return None if self.settings.epochs is None else step // self.record_updates

    def place(self, step: int) -> str:
        """How far a training is, for people."""
        if self.settings.epochs is not None:
            return f"epoch {self.epochs_after(step)}/{self.settings.epochs}"
        return f"iteration {step:,}/{self.num_updates:,}"

    def replica_of(self, tree: Any, index: int) -> Any:
        """One replica's part of a tree of parameters."""
        if len(self.replicas) == 1:
            return tree
        return jax.tree.map(lambda leaf: leaf[index], tree)

    def batches(self, index: int) -> plans.Batches:
        """The batches between two records, for all replicas."""
        return plans.join_replicas([self._batches(r, index) for r in self.replicas])

    def _batches(self, replica: Replica, index: int) -> plans.Batches:
        settings, widths, train = self.settings, self.trainer.widths, replica.train
        rng = np.random.default_rng([replica.seed, index, 1])
        if settings.order == "class_uniform":
            assert settings.iterations is not None
            num = min(REPORT_EVERY, settings.iterations - index * REPORT_EVERY)
            return plans.class_uniform(
                train,
                num,
                settings.batch_size,
                self.noise,
                self.vocabulary,
                widths,
                rng,
            )
        if settings.order == "by_length":
            order = plans.by_length(train, widths, settings.batch_size, rng)
        elif settings.order == "shuffled":
            order = rng.permutation(len(train.labels))
        else:
            order = np.arange(len(train.labels))
        return plans.in_order(
            train, order, settings.batch_size, widths, settings.drop_last
        )


def make_task(
    recipe: str,
    model_name: str,
    settings: Settings,
    data: NamesData,
    seeds: Sequence[int],
    noise: int = 0,
    backend: Backend = "scan",
    torch_seed: int | None = None,
    processor: Processor | None = None,
) -> Task:
    """Split and encode the names, and build the model for them.

    Args:
        recipe: Name of the recipe.
        model_name: Name of the model in the recipe.
        settings: How it is trained.
        data: The names.
        seeds: One for each replica.
        noise: Level of the workshop's noise.
        backend: What runs the steps of the model.
        torch_seed: Seed of the lesson's own program; None is draws of our own. The
            order of the languages is then that in which the program finds the files.
        processor: What the last places of its draws owe to; None is this one.

    Returns:
        The task.

    Raises:
        InputError: If there are too few names.
    """
    if torch_seed is not None:
        generators = Generators.seeded(torch_seed, processor or this_processor())
        parts = [SPLITS[recipe](data, generators)]
    else:
        parts = [
            settings.split(data, np.random.default_rng([seed, 0])) for seed in seeds
        ]
    if not all(len(part.train.names) for part in parts):
        raise InputError(
            f"{data.directory} has too few names: none is left to train on; expected at "
            "least 2 of every language"
        )
    vocabulary = Vocabulary(parts[0].alphabet)
    lengths = [
        np.array([len(name) for name in examples.names])
        for part in parts
        for examples in (part.train, part.validation, part.test)
        if examples is not None
    ]
    longest = max(int(each.max(initial=1)) for each in lengths)
    widths: tuple[int, ...]
    if settings.max_length is not None:
        longest = max(longest, settings.max_length)
        widths = (longest,)
    else:
        room = noise + 1 if noise else 0
        longest += room
        # One seed's lengths decide, so that replicas change nothing for the first.
        widths = bucket_widths(
            np.add.outer(lengths[0], range(room + 1)).ravel(), settings.num_buckets
        )
        widths = (*widths[:-1], longest)
    encode = functools.partial(plans.encode, vocabulary=vocabulary, max_length=longest)
    replicas = tuple(
        Replica(
            seed,
            part,
            encode(part.train),
            None if part.validation is None else encode(part.validation),
            encode(part.test),
        )
        for seed, part in zip(seeds, parts, strict=True)
    )
    sizes: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": settings.hidden_size,
        "num_classes": len(parts[0].languages),
    }
    if settings.dtype != "float32":
        sizes["dtype"] = jnp.dtype(settings.dtype)
    if settings.max_length is not None:
        sizes |= {"max_length": longest, "mlp_size": settings.mlp_size}
    model = build_model(recipe, model_name, **sizes, backend=backend)
    num_updates = math.ceil(len(parts[0].train.labels) / settings.batch_size)
    tx = make_optimizer(settings, num_updates)
    trainer = Trainer(model, tx, settings.loss, settings.carry, widths)
    task = Task(
        recipe,
        model_name,
        noise,
        settings,
        vocabulary,
        parts[0].languages,
        replicas,
        trainer,
        str(data.directory),
        _fingerprint(data),
        None
        if torch_seed is None
        else _begin(recipe, torch_seed, generators, model, parts[0]),
        data.languages,
    )
    if task.record_updates == 0:
        raise InputError(
            f"there are {len(parts[0].train.labels):,} names to train on, and the "
            f"recipe {recipe} leaves out batches of fewer than {settings.batch_size:,}: "
            "no update would be made; give a smaller --batch-size"
        )
    return task


def _begin(
    recipe: str,
    seed: int,
    generators: Generators,
    model: nn.Module,
    split: splits.Split,
) -> Lesson:
    """Draw the model's parameters, as its constructor does after the split."""
    params = torch_init(model, generators.torch)
    # Lesson 003 shuffles its list of names anew for every epoch.
    order = np.arange(len(split.train.labels)) if recipe == "blog" else None
    draws = generators.draws(order)
    return Lesson(seed, generators.torch.processor, params, draws)


def _fingerprint(data: NamesData) -> str:
    digest = hashlib.sha256("\n".join((*data.languages, *data.names)).encode())
    digest.update(data.labels.tobytes())
    return digest.hexdigest()


# One object for the same settings: JAX compiles anew for an optimiser it has not seen.
@functools.cache
def make_optimizer(settings: Settings, updates_per_epoch: int):
    """The recipe's optimiser.

    Args:
        settings: Which one, its learning rate and clipping.
        updates_per_epoch: Number of updates of an epoch, for the schedule of ``best``.

    Returns:
        An optax transformation.
    """
    clip = optax.identity()
    if settings.clip is not None:
        clip = optimizers.clip_by_norm(settings.clip)
    if settings.optimizer == "sgd":
        return optax.chain(clip, optax.sgd(settings.learning_rate))
    if settings.optimizer == "adam":
        return optax.chain(clip, optimizers.adam(settings.learning_rate))
    assert settings.epochs is not None
    num_updates = updates_per_epoch * settings.epochs
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=settings.learning_rate / 10,
        peak_value=settings.learning_rate,
        warmup_steps=num_updates // 10,
        decay_steps=num_updates,
        end_value=settings.learning_rate / 100,
    )
    return optax.chain(clip, optax.adam(schedule, b2=0.99))
