"""Make a web page to play with, with trained runs inside.

    python -m train.page --run runs/best-gru-…
    python -m train.page --run runs/best-gru-… runs/shakespeare-lstm-… --out class.html

The page is one file that needs no server and no network: type a name and see what every
letter changes, or let a language model write. The networks run in the page, in the
JavaScript of train/web, in float32 whatever they were trained in.
"""

import base64
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jinja2
import numpy as np

from rnnjax import lessons as models
from rnnjax.text import SPELLINGS
from rnnjax.weights.torch import to_torch
from train import trained
from train.cli import InputError, printable, run
from train.forward import start_of
from train.recipes import MODELS
from train.runs.directory import RunDirectory, open_trained
from train.runs.files import write_text

WEB = Path(__file__).parent / "web"

SCRIPTS = (
    "weights",
    "equations",
    "models",
    "spelling",
    "elements",
    "names",
    "text",
    "page",
)
"""The files of the page's script, in the order in which they need each other."""

RUNNABLE = (
    models.JointClassifier,
    models.StackClassifier,
    models.AttentionClassifier,
    models.PreviousStateClassifier,
    models.MLPClassifier,
    models.AllStatesClassifier,
    models.DropoutClassifier,
    models.BidirectionalClassifier,
    models.CharLM,
)
"""The models that models.js has, under the same names."""

TITLES = {"names": "Names", "charlm": "Text"}
"""What a tab is called, by the program that made the run."""

Precision = Literal["float32", "float16"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Make a web page to play with, with trained runs inside."""

    run: tuple[Path, ...]
    """Run directories of train.names and train.charlm; each becomes a tab."""
    out: Path = Path("page.html")
    """The page to write."""
    weights: Precision = "float32"
    """float16 halves the page, for slightly other probabilities."""

    def __post_init__(self):
        if not self.run:
            raise InputError("--run is empty; expected at least one run directory")


class Trained(NamedTuple):
    """A trained run.

    Attributes:
        model: The Flax module.
        arrays: What it computes with, by PyTorch's names.
        knows: What the page has to know besides.
    """

    model: nn.Module
    arrays: dict[str, np.ndarray]
    knows: dict[str, Any]


def classifier_of(directory: RunDirectory) -> Trained:
    """A run of train.names, for names.js."""
    classifier = trained.load_classifier(directory)
    arrays = to_torch(classifier.model, classifier.params)
    start = start_of(classifier.model, classifier.carry)
    if start is not None:
        arrays["start"] = np.asarray(start)
    knows = {
        "alphabet": classifier.vocabulary.characters,
        "labels": classifier.languages,
        "strips_accents": classifier.recipe in trained.STRIPPING,
        "longest": classifier.max_length,
        "longest_text": trained.MAX_CHARACTERS,
    }
    return Trained(classifier.model, arrays, knows)


def writer_of(directory: RunDirectory) -> Trained:
    """A run of train.charlm, for text.js."""
    writer = trained.load_writer(directory)
    arrays = to_torch(writer.model, writer.params)
    knows = {"alphabet": writer.codec.alphabet, "line_end": writer.codec.line_end}
    return Trained(writer.model, arrays, knows)


LOADERS = {"names": classifier_of, "charlm": writer_of}


def tab_of(directory: RunDirectory, title: str, precision: Precision) -> dict[str, Any]:
    """All that the page has to know of a run.

    Args:
        directory: The run.
        title: What its tab is called.
        precision: What its weights are rounded to.

    Returns:
        What JSON can hold.

    Raises:
        InputError: If it is not finished or damaged, or the page has no equations for
            its model.
    """
    program = directory.config["program"]
    trained = LOADERS[program](directory)
    model = trained.model
    if type(model) not in RUNNABLE:
        known = ", ".join(
            f"{recipe} {name}"
            for (recipe, name), build in MODELS.items()
            if build.func in RUNNABLE
        )
        raise InputError(
            f"{directory.path} is a run of {type(model).__name__}, which the page cannot "
            f"compute; it can compute {known}"
        )
    fields = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in ("parent", "name", "dtype")
    }
    return trained.knows | {
        "program": program,
        "title": title,
        "about": about(directory, precision),
        "type": type(model).__name__,
        "model": fields,
        "weights": tensors_of(trained.arrays, precision, directory.path),
    }


def about(directory: RunDirectory, precision: Precision) -> str:
    """What is known of a run, in a line for people."""
    flags, summary = directory.config["config"], directory.summary or {}
    parts = [f"{flags['recipe']} {flags['model']}"]
    if (num_params := summary.get("num_params")) is not None:
        parts.append(f"{num_params:,} parameters")
    if precision == "float16":
        parts.append("weights rounded to 16 bits")
    if (accuracy := summary.get("test_accuracy")) is not None:
        parts.append(f"{100 * accuracy:.1f} % of the test names right")
    if (bits := summary.get("val_bits_per_char")) is not None:
        parts.append(f"{bits:.2f} bits per character on text that it had not seen")
    return ", ".join(parts)


def tensors_of(
    arrays: Mapping[str, np.ndarray], precision: Precision, path: Path
) -> dict[str, Any]:
    """Arrays as readWeights in weights.js takes them.

    Args:
        arrays: Numbers by name.
        precision: What each is rounded to.
        path: Where they come from, for people.

    Returns:
        Names and shapes, and the numbers in base64.

    Raises:
        InputError: If a number is too large for float16.
    """
    largest = max(float(np.abs(array).max(initial=0)) for array in arrays.values())
    if largest > float(np.finfo(precision).max):
        raise InputError(
            f"{path} has a weight of {largest:.3g}, more than float16 can hold; use "
            "--weights float32"
        )
    # In a page's byte order, whatever this machine's is.
    dtype = np.dtype(precision).newbyteorder("<")
    numbers = b"".join(array.astype(dtype).tobytes() for array in arrays.values())
    return {
        "dtype": precision,
        "tensors": [[name, array.shape] for name, array in arrays.items()],
        "base64": base64.b64encode(numbers).decode(),
    }


def page_of(directories: list[RunDirectory], precision: Precision) -> str:
    """The page, the same for the same runs.

    Args:
        directories: The runs, in the order of their tabs.
        precision: What the weights are rounded to.

    Returns:
        HTML.

    Raises:
        InputError: If a run cannot be used.
    """
    kinds = [directory.config["program"] for directory in directories]
    titles = [
        TITLES[kind] if kinds.count(kind) == 1 else directory.path.resolve().name
        for kind, directory in zip(kinds, directories, strict=True)
    ]
    tabs = [
        tab_of(directory, title, precision)
        for directory, title in zip(directories, titles, strict=True)
    ]
    constants = {"RUNS": tabs, "SPELLINGS": SPELLINGS}
    parts = {
        # Escaped, so that no text of a run can end the element.
        "data": json.dumps(constants).replace("<", "\\u003c"),
        "style": (WEB / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join(
            (WEB / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS
        ),
    }
    template = (WEB / "page.html").read_text(encoding="utf-8")
    return jinja2.Template(template, keep_trailing_newline=True).render(parts)


def main(config: Config) -> None:
    """Make the page."""
    if config.out.is_dir():
        raise InputError(f"{config.out} is a directory; expected a file for --out")
    if not config.out.parent.is_dir():
        raise InputError(
            f"{config.out.parent} is no directory; make it, or give another --out"
        )
    page = page_of(
        [open_trained(path, *LOADERS) for path in config.run], config.weights
    )
    try:
        write_text(config.out, page)
    except OSError as error:
        # Not the name of the temporary file.
        error.filename = str(config.out)
        raise
    print(f"{printable(str(config.out))}: {len(page.encode()) / 1e6:.2f} MB")
    print("open it in a browser, or hand it on: all of it is in this one file")


if __name__ == "__main__":
    run(main, Config, __doc__)
