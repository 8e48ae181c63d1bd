"""The lessons' models and settings, as tables."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import flax.linen as nn

from rnnjax.lessons import (
    AllStatesClassifier,
    AttentionClassifier,
    BidirectionalClassifier,
    CharLM,
    DropoutClassifier,
    JointClassifier,
    MLPClassifier,
    PreviousStateClassifier,
    StackClassifier,
)
from train.cli import InputError
from train.names import splits
from train.names.update import (
    CarryKind,
    cross_entropy,
    double_softmax,
    smoothed_cross_entropy,
)

NamesRecipe = Literal["best", "practical", "workshop", "blog", "binary"]

_PRACTICAL: Mapping[str, Any] = {"vocab_size": 57, "hidden_size": 57, "num_classes": 18}
_WORKSHOP: Mapping[str, Any] = {"vocab_size": 57, "hidden_size": 32, "num_classes": 18}
_BLOG: Mapping[str, Any] = {"vocab_size": 59, "hidden_size": 256, "num_classes": 18}
_BINARY: Mapping[str, Any] = {"vocab_size": 65, "hidden_size": 256, "num_classes": 2}

MODELS: Mapping[tuple[str, str], functools.partial[Any]] = {
    ("practical", "linear"): functools.partial(
        JointClassifier, **_PRACTICAL, activation="identity"
    ),
    ("practical", "rnn"): functools.partial(StackClassifier, **_PRACTICAL, kind="rnn"),
    ("practical", "gru"): functools.partial(StackClassifier, **_PRACTICAL, kind="gru"),
    ("practical", "lstm"): functools.partial(
        StackClassifier, **_PRACTICAL, kind="lstm"
    ),
    ("workshop", "rnn"): functools.partial(JointClassifier, **_WORKSHOP),
    ("workshop", "gru"): functools.partial(StackClassifier, **_WORKSHOP, kind="gru"),
    ("workshop", "attention"): functools.partial(AttentionClassifier, **_WORKSHOP),
    ("workshop", "lstm"): functools.partial(StackClassifier, **_WORKSHOP, kind="lstm"),
    ("blog", "rnn"): functools.partial(PreviousStateClassifier, **_BLOG),
    ("blog", "gru"): functools.partial(
        StackClassifier, **_BLOG, kind="gru", num_layers=2, head="fc"
    ),
    ("binary", "mlp"): functools.partial(MLPClassifier, **_BINARY),
    ("binary", "linear"): functools.partial(AllStatesClassifier, **_BINARY),
    ("binary", "rnn"): functools.partial(DropoutClassifier, **_BINARY),
    ("best", "gru"): functools.partial(
        BidirectionalClassifier, vocab_size=87, hidden_size=160, num_classes=18
    ),
    ("lab", "lstm"): functools.partial(CharLM, vocab_size=65),
    ("shakespeare", "lstm"): functools.partial(
        CharLM, vocab_size=65, hidden_size=384, mlp_size=None, dropout=0.1
    ),
}


def build_model(recipe: str, model: str, **sizes: Any) -> nn.Module:
    """The Flax module of a lesson, with the lesson's sizes.

    Args:
        recipe: Name of the recipe.
        model: One of its models.
        **sizes: Attributes to be changed, say ``hidden_size`` or ``vocab_size``.

    Returns:
        The module.

    Raises:
        ValueError: If there is no such recipe, model or size.

    Example:
        >>> build_model("workshop", "attention").hidden_size
        32
    """
    if (recipe, model) not in MODELS:
        all_ = ", ".join(f"{r} {m}" for r, m in MODELS)
        raise ValueError(f"no model {model!r} in recipe {recipe!r}; there are {all_}")
    build = MODELS[recipe, model]
    known = {field.name for field in dataclasses.fields(cast(Any, build.func))}
    known -= {"parent", "name"}
    if unknown := sizes.keys() - known:
        raise ValueError(
            f"{recipe} {model} has no {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known))}"
        )
    return build(**sizes)


def models_of(recipe: str) -> tuple[str, ...]:
    """The models of a recipe; the first one is its default."""
    return tuple(model for name, model in MODELS if name == recipe)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a model of a names recipe is trained.

    Attributes:
        split: Cleans and divides the names.
        learning_rate: The optimiser's (the highest of the schedule in ``best``).
        hidden_size: Width of the recurrence.
        epochs: Passes over the training names; None if the recipe counts iterations.
        iterations: Updates; None if the recipe counts epochs.
        batch_size: Names per update.
        optimizer: Which one.
        clip: Global norm that gradients are cut to; None is not at all.
        carry: What the recurrence starts from: zeros, random, or what the batch before
            left (kept within an epoch).
        loss: What is minimised, ``(logits, labels) -> (...,)``.
        test_loss: What is measured on names that are not trained on.
        mlp_size: Width of the layer before the last, in the models that have one.
        order: Whether batches come in the order of the split, shuffled, grouped by
            length, or class by class with noise.
        drop_last: Whether a last batch with fewer names is left out.
        max_length: Steps that every name is padded to; None is as few as possible.
        num_buckets: Lengths that batches are padded to; each is compiled once.
        test_every: Epochs between looks at the test set, to keep the best parameters;
            None keeps the last ones.
        dtype: Type of the operands of matrix products.
    """

    split: Callable[..., splits.Split]
    learning_rate: float
    hidden_size: int
    epochs: int | None = None
    iterations: int | None = None
    batch_size: int = 1
    optimizer: Literal["adam", "sgd", "cosine"] = "adam"
    clip: float | None = None
    carry: CarryKind = "zeros"
    loss: Callable = cross_entropy
    test_loss: Callable = cross_entropy
    mlp_size: int | None = None
    order: Literal["fixed", "shuffled", "by_length", "class_uniform"] = "shuffled"
    drop_last: bool = False
    max_length: int | None = None
    num_buckets: int = 4
    test_every: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


_practical = Settings(
    splits.practical, 1e-3, 57, epochs=10, batch_size=16, num_buckets=2
)
_workshop = Settings(
    splits.workshop,
    learning_rate=0.005,
    hidden_size=32,
    iterations=80_000,
    optimizer="sgd",
    order="class_uniform",
    num_buckets=2,
)
_blog = Settings(splits.blog, learning_rate=1e-3, hidden_size=256, epochs=2)
_binary = Settings(
    splits.binary,
    learning_rate=5e-6,
    hidden_size=256,
    mlp_size=256,
    epochs=30,
    batch_size=8,
    loss=double_softmax,
    test_loss=double_softmax,
    order="fixed",
    drop_last=True,
    max_length=18,
    test_every=3,
)

SETTINGS: Mapping[tuple[str, str], Settings] = {
    **{("practical", model): _practical for model in models_of("practical")},
    **{("workshop", model): _workshop for model in models_of("workshop")},
    ("blog", "rnn"): dataclasses.replace(_blog, clip=1.0, carry="random"),
    ("blog", "gru"): _blog,
    ("binary", "mlp"): _binary,
    ("binary", "linear"): dataclasses.replace(_binary, batch_size=1),
    ("binary", "rnn"): dataclasses.replace(_binary, carry="kept"),
    ("best", "gru"): Settings(
        splits.best,
        learning_rate=4e-3,
        hidden_size=160,
        epochs=10,
        batch_size=64,
        optimizer="cosine",
        clip=1.0,
        loss=smoothed_cross_entropy,
        order="by_length",
    ),
}

OVERRIDES = (
    "learning_rate",
    "hidden_size",
    "mlp_size",
    "epochs",
    "iterations",
    "batch_size",
)
"""The settings that flags can change."""


def settings_of(recipe: str, model: str, **overrides: Any) -> Settings:
    """A recipe's settings, with what a person wants otherwise.

    Args:
        recipe: Name of the recipe.
        model: One of its models.
        **overrides: Some of :data:`OVERRIDES`; None leaves the recipe's own.

    Returns:
        The settings.

    Raises:
        InputError: If a value is out of range, or the recipe has no such setting.
    """
    settings = SETTINGS[recipe, model]
    changes = {name: value for name, value in overrides.items() if value is not None}
    for name, value in changes.items():
        flag = f"--{name.replace('_', '-')}"
        if value <= 0:
            raise InputError(f"{flag} is {value}; expected a positive number")
        if getattr(settings, name) is None:
            instead = {"epochs": "--iterations", "iterations": "--epochs"}.get(name)
            remedy = f"use {instead}" if instead else "leave it out"
            raise InputError(f"the recipe {recipe} {model} has no {flag}; {remedy}")
    return dataclasses.replace(settings, **changes)
