"""The lessons' models and settings, as tables."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

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
from train.forward import CarryKind

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


# Lesson 003 draws a state for every name; lesson 004 hands a batch's last to the next.
_CARRIES: Mapping[tuple[str, str], CarryKind] = {
    ("blog", "rnn"): "random",
    ("binary", "rnn"): "kept",
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


def carry_of(recipe: str, model: str) -> CarryKind:
    """What the recurrence of a lesson's model starts from.

    Example:
        >>> carry_of("blog", "rnn"), carry_of("blog", "gru")
        ('random', 'zeros')
    """
    return _CARRIES.get((recipe, model), "zeros")
