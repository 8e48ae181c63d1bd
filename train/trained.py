"""A finished run, loaded to be used: a classifier of names, or a writer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import from_torch
from rnnjax.text import Vocabulary, to_alphabet, transliterate
from train.cli import InputError, note, printable
from train.codec import Codec, codec_from
from train.datasets import composed
from train.forward import Attention, CarryKind, logits_and_attention
from train.recipes import build_model, carry_of
from train.runs.directory import RunDirectory

MAX_CHARACTERS = 1000
"""A longer name is a mistake."""

STRIPPING = ("practical", "workshop")
"""The recipes that strip accents and know no other spelling."""


class Classifier(NamedTuple):
    """A trained run, ready to be asked.

    Attributes:
        recipe: The run's recipe.
        model: The Flax module.
        params: Its parameters.
        carry: What its recurrence starts from.
        vocabulary: The characters that it knows.
        languages: The classes.
        max_length: Longest name that the model takes, or None.
    """

    recipe: str
    model: nn.Module
    params: Any
    carry: CarryKind
    vocabulary: Vocabulary
    languages: tuple[str, ...]
    max_length: int | None


class Answer(NamedTuple):
    """What the classifier makes of a name.

    Attributes:
        name: The name as it was given.
        spelling: The name in the characters that the model knows.
        probs: ``(classes,)``.
        attention: How attention weighed the characters, or None.
    """

    name: str
    spelling: str
    probs: np.ndarray
    attention: Attention | None


class Writer(NamedTuple):
    """A trained run, ready to write.

    Attributes:
        model: The Flax module.
        params: Its parameters.
        codec: How text becomes tokens.
        joins_lines: Whether texts are prepared as in lesson 002.
    """

    model: nn.Module
    params: Any
    codec: Codec
    joins_lines: bool


def params_for(
    model: nn.Module, arrays: Mapping[str, np.ndarray], directory: RunDirectory
) -> Any:
    """The parameters that a run learnt, for its model.

    Raises:
        InputError: If they are not those of the configuration.
    """
    try:
        return from_torch(model, arrays)
    except ValueError as error:
        raise InputError(
            f"{directory.path}/params.safetensors does not fit its config.json: {error}"
        ) from None


def load_classifier(directory: RunDirectory) -> Classifier:
    """A run of ``train.names`` as a classifier.

    Args:
        directory: The run.

    Returns:
        The classifier.

    Raises:
        InputError: If the parameters are missing or not those of the configuration.
    """
    arrays = directory.read_params()  # verifies the configuration as well
    config = directory.config
    recipe, model_name = config["config"]["recipe"], config["config"]["model"]
    model = build_model(recipe, model_name, **config["sizes"])
    return Classifier(
        recipe,
        model,
        params_for(model, arrays, directory),
        carry_of(recipe, model_name),
        Vocabulary(config["alphabet"]),
        tuple(config["languages"]),
        config["sizes"].get("max_length"),
    )


def load_writer(directory: RunDirectory) -> Writer:
    """A run of ``train.charlm``, ready to write.

    Args:
        directory: The run.

    Returns:
        The writer.

    Raises:
        InputError: If the parameters are missing or not those of the configuration.
    """
    arrays = directory.read_params()  # verifies the configuration as well
    config = directory.config
    recipe, dtype = config["config"]["recipe"], config["config"]["dtype"]
    model = build_model(
        recipe,
        config["config"]["model"],
        **config["sizes"],
        dtype=None if dtype == "float32" else jnp.dtype(dtype),
    )
    params = params_for(model, arrays, directory)
    return Writer(model, params, codec_from(config), recipe == "lab")


def spell(name: str, classifier: Classifier) -> str:
    """A name in the characters that the model knows; others are left out.

    Args:
        name: What a person typed.
        classifier: Knows its recipe's spelling.

    Returns:
        The spelling, not empty.

    Raises:
        InputError: If nothing is left, or too much.
    """
    alphabet = classifier.vocabulary.characters
    text = composed(" ".join(name.split()))
    if not text:
        raise InputError("the name is empty; expected at least one letter")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"the name has {len(text):,} characters; expected at most "
            f"{MAX_CHARACTERS:,}"
        )
    if classifier.recipe in STRIPPING:
        spelling = to_alphabet(text, alphabet)
    else:
        # A letter that training never saw may be known without its accent.
        spelling = "".join(c if c in alphabet else transliterate(c) for c in text)
        spelling = "".join(c for c in spelling if c in alphabet)
    if not spelling.strip():
        raise InputError(
            f"{printable(text)!r} has no letter that the model knows; expected Latin "
            "script"
        )
    longest = classifier.max_length
    if longest is not None and len(spelling) > longest:
        raise InputError(
            f"{printable(text)!r} has {len(spelling)} letters; this model takes at most "
            f"{longest}"
        )
    return spelling


def ask(name: str, classifier: Classifier) -> Answer:
    """What the classifier makes of a name."""
    spelling = spell(name, classifier)
    logits, weights = logits_and_attention(
        classifier.model,
        classifier.params,
        classifier.vocabulary.encode(spelling),
        classifier.carry,
    )
    probs = np.asarray(jax.nn.softmax(logits))
    return Answer(
        name, spelling, probs, None if weights is None else Attention(spelling, weights)
    )


def encode(text: str, what: str, writer: Writer) -> np.ndarray:
    """Tokens of a text in the characters that the model knows; others are said.

    Args:
        text: Any text.
        what: What it is, for people.
        writer: Knows its characters.

    Returns:
        The tokens, at least one.

    Raises:
        InputError: If the model knows none of the characters.
    """
    known, unknown = writer.codec.spell(composed(text))
    if unknown:
        plural = "" if len(unknown) == 1 else "s"
        note(
            f"{what} has {len(unknown)} character{plural} that the model does not know "
            f"({printable(unknown[:20])}): written without an accent, or left out"
        )
    if not known:
        raise InputError(
            f"{what} has no character that the model knows; it knows "
            f"{printable((writer.codec.alphabet or '')[:100])}"
        )
    return writer.codec.encode(known)
