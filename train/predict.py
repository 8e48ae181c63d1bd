"""Tell the language of names with a trained run.

    python -m train.predict --run runs/best-gru-… Satoshi "O'Neill"

Without names it asks for them, one a line.
"""

from train import small_loops  # noqa: F401  # isort: skip (before jax)

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import tyro

from rnnjax.text import Vocabulary, to_alphabet, transliterate
from rnnjax.weights.torch import from_torch
from train import compilation_cache
from train.cli import InputError, default, printable, run
from train.forward import Attention, CarryKind, logits_and_attention
from train.names.settings import SETTINGS
from train.recipes import build_model
from train.runs.directory import RunDirectory, open_trained

MAX_CHARACTERS = 1000
"""A longer name is a mistake."""

STRIPPING = ("practical", "workshop")
"""The recipes that strip accents and know no other spelling."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Tell the language of names with a trained run."""

    run: Path
    """Run directory that python -m train.names made."""
    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, default("asks for them, one a line")
    ] = ()
    """The names."""
    json: bool = False
    """Print one JSON object a line, with all probabilities."""
    top: int = 3
    """Number of languages that are shown."""

    def __post_init__(self):
        if self.top < 1:
            raise InputError(f"--top is {self.top}; expected at least 1")


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
        look: Where attention looked, or None.
    """

    name: str
    spelling: str
    probs: np.ndarray
    look: Attention | None


def load(directory: RunDirectory) -> Classifier:
    """A trained run as a classifier.

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
    try:
        params = from_torch(model, arrays)
    except ValueError as error:
        raise InputError(
            f"{directory.path}/params.safetensors does not fit its config.json: {error}"
        ) from None
    return Classifier(
        recipe,
        model,
        params,
        SETTINGS[recipe, model_name].carry,
        Vocabulary(config["alphabet"]),
        tuple(config["languages"]),
        config["sizes"].get("max_length"),
    )


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
    text = " ".join(name.split())
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


def show(answer: Answer, config: Config, classifier: Classifier) -> None:
    """Print an answer, for people or as JSON."""
    order = np.argsort(-answer.probs)
    languages = classifier.languages
    if config.json:
        record = {
            "name": answer.name,
            "spelling": answer.spelling,
            "language": languages[order[0]],
            "probabilities": {languages[i]: float(answer.probs[i]) for i in order},
        }
        if answer.look is not None:
            record["attention"] = [float(w) for w in answer.look.weights]
        print(json.dumps(record))
        return
    shown = printable(answer.name)
    read_as = (
        "" if answer.spelling == answer.name else f" (read as {answer.spelling!r})"
    )
    print(f"{shown}{read_as}")
    for i in order[: config.top]:
        bar = "█" * round(20 * answer.probs[i])
        print(f"  {printable(languages[i]):<12} {100 * answer.probs[i]:5.1f} %  {bar}")
    if answer.look is not None:
        print(f"  attention  {answer.look.shown()}")


def main(config: Config) -> None:
    """Answer for the names of the flags, or for those typed."""
    classifier = load(open_trained(config.run, "names"))
    if config.names:
        # All are checked before the first answer: a script gets all or nothing.
        for name in config.names:
            spell(name, classifier)
        for name in config.names:
            show(ask(name, classifier), config, classifier)
        return
    if sys.stdin.isatty():
        print("type a name (an empty line ends)", file=sys.stderr)
    for line in sys.stdin:
        name = line.rstrip("\r\n")
        if not name and sys.stdin.isatty():
            return
        try:
            show(ask(name, classifier), config, classifier)
        except InputError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)


if __name__ == "__main__":
    compilation_cache.switch_on()
    run(main, Config, __doc__)
