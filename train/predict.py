"""Tell the language of names with a trained run.

    python -m train.predict --run runs/best-gru-… Satoshi "O'Neill"

Without names it asks for them, one a line.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from train.cli import InputError, default, printable, run
from train.runs.directory import open_trained
from train.trained import Answer, Classifier, ask, load_classifier, spell


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
        if answer.attention is not None:
            record["attention"] = [float(w) for w in answer.attention.weights]
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
    if answer.attention is not None:
        print(f"  attention  {answer.attention.shown()}")


def main(config: Config) -> None:
    """Answer for the names of the flags, or for those typed."""
    classifier = load_classifier(open_trained(config.run, "names"))
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
    run(main, Config, __doc__)
