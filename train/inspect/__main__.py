"""See what happens inside a trained run while it reads a text.

    python -m train.inspect --run runs/practical-gru-… Satoshi
    python -m train.inspect --run runs/shakespeare-lstm-… "To be, or not to be"
    python -m train.inspect --run RUN RUN RUN Satoshi --out vanishing.png

One run gives pictures of its gates and states over time, of the gradient of its answer
with respect to the state after each step and, for a language model, of neurons over the
text. Several runs are laid side by side in one picture of their gradients.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from rnnjax.lessons import PaddedClassifier, PreviousStateClassifier
from train import trained
from train.cli import InputError, default, printable, run
from train.forward import start_of
from train.inspect import plots as gate_plots
from train.inspect.traces import Layer, Trace, trace
from train.runs.directory import open_trained

MOST_CHARACTERS = 1000
"""A picture of more would not be readable."""

NUM_NEURONS = 6
"""How many neurons are shown when none are chosen."""

MOST_SHOWN = 18
"""How many steps are printed."""

MOST_IN_TITLE = 60
"""Characters of the text that a title has."""

VANISHED = 1e-3
"""A gradient below this share of the largest has vanished."""


@dataclasses.dataclass(frozen=True)
class Config:
    """See what happens inside a trained run while it reads a text."""

    run: tuple[Path, ...]
    """Run directories that python -m train.names or python -m train.charlm made; with
    several, one picture compares their gradients."""
    text: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TEXT", help_behavior_hint="(required)"),
    ] = None
    """The name, or the text that a language model reads."""
    out: Path = Path("inspection")
    """Directory of the pictures; or a file NAME.png, for the gradient alone."""
    neurons: Annotated[tuple[int, ...], default("those that the text moves most")] = ()
    """Which neurons of a language model colour the text, from 0 on."""
    json: bool = False
    """Print one JSON object a run, with the figures of every step."""

    def __post_init__(self):
        runs, text = self.asked()
        if not runs or text is None:
            raise InputError(
                "expected --run, one run directory or more, and after it a name or a "
                "text"
            )
        if len(set(runs)) < len(runs):
            raise InputError("--run names a directory twice; expected different runs")
        if self.neurons and len(runs) > 1:
            raise InputError("--neurons is for one run; several share a picture")
        if self.neurons and self.out.suffix == ".png":
            raise InputError(
                f"--out is {self.out}, the file of the gradient; --neurons needs a "
                "directory"
            )
        if self.out.suffix != ".png" and self.out.is_file():
            raise InputError(
                f"--out is {self.out}, a file; expected a directory, or a file NAME.png"
            )

    def asked(self) -> tuple[tuple[Path, ...], str | None]:
        """The runs and the text: a list of runs takes all that follows, text included."""
        if self.text is None and len(self.run) > 1 and not _is_run(self.run[-1]):
            return self.run[:-1], str(self.run[-1])
        return self.run, self.text


def _is_run(path: Path) -> bool:
    try:
        return (path / "config.json").is_file()
    except OSError:  # a text may be too long for a path
        return False


class Inspection(NamedTuple):
    """A run and its way through the text.

    Attributes:
        run: The run's name.
        program: Which program made it: ``names`` or ``charlm``.
        text: What it read.
        labels: What stands for each step in a picture.
        answer: What it says: a language, or the next character.
        trace: What happened inside.
    """

    run: str
    program: str
    text: str
    labels: tuple[str, ...]
    answer: str
    trace: Trace


def inspect(path: Path, text: str) -> Inspection:
    """Let a run read a text.

    Args:
        path: The run's directory.
        text: What a person typed.

    Returns:
        The inspection; padding, which lesson 004's models read too, is ``·``.

    Raises:
        InputError: If there is no such run, the text cannot be read, or the model has
            no recurrence.
    """
    directory = open_trained(path, "names", "charlm")
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"the text has {len(text):,} characters; expected at most "
            f"{MOST_CHARACTERS:,}"
        )
    if directory.config["program"] == "charlm":
        return _inspect_writer(directory, text)
    return _inspect_classifier(directory, text)


def _inspect_classifier(directory, text):
    classifier = trained.load_classifier(directory)
    spelling = trained.spell(text, classifier)
    model, start = classifier.model, start_of(classifier.model, classifier.carry)
    tokens = classifier.vocabulary.encode(spelling)
    found = trace(model, classifier.params, tokens, start)
    if not found.layers:
        raise InputError(
            f"{directory.path} has no recurrence: there is no state to look at"
        )
    signs = [gate_plots.sign(character) for character in spelling]
    if isinstance(model, PaddedClassifier):
        signs += ["·"] * (model.max_length - len(signs))
    if isinstance(model, PreviousStateClassifier):
        # The state after the last character is never computed.
        signs = signs[:-1]
        found = found._replace(layers=tuple(map(_without_last, found.layers)))
        if not signs:
            raise InputError(
                f"{printable(spelling)!r} has one letter; this model answers from the "
                "state before the last letter; expected at least two"
            )
    answer = classifier.languages[found.answer]
    return Inspection(
        directory.path.resolve().name, "names", spelling, tuple(signs), answer, found
    )


def _without_last(layer: Layer) -> Layer:
    arrays = (layer.states, layer.gates, layer.gradients)
    return Layer(layer.name, layer.reverse, *jax.tree.map(lambda x: x[:-1], arrays))


def _inspect_writer(directory, text):
    if not text:
        raise InputError("the text is empty; expected at least one character")
    writer = trained.load_writer(directory)
    tokens = trained.encode(text, "the text", writer)
    found = trace(writer.model, writer.params, tokens)
    # One by one, for a byte may be a part of a character.
    characters = [writer.codec.decode([token]) for token in tokens]
    return Inspection(
        directory.path.resolve().name,
        "charlm",
        writer.codec.decode(tokens.tolist()),
        tuple(map(gate_plots.sign, characters)),
        repr(writer.codec.decode([found.answer])),
        found,
    )


def draw_one(inspection: Inspection, config: Config) -> list[Path]:
    """All pictures of one run.

    Returns:
        The files.
    """
    if config.out.suffix == ".png":
        return [draw_gradients([inspection], config.out)]
    labels, title = inspection.labels, _title(inspection)
    paths = []
    for layer in inspection.trace.layers:
        shown = slice(max(0, len(labels) - gate_plots.MOST_COLUMNS), None)
        panels = {name: values[shown] for name, values in layer.panels().items()}
        words = ", ".join(filter(None, (title, layer.name)))
        if shown.start:
            words += f", the last {gate_plots.MOST_COLUMNS} of {len(labels)} steps"
        parts = ("states", *layer.name.replace(",", "").split())
        paths.append(config.out / f"{'-'.join(parts)}.png")
        gate_plots.gates(paths[-1], panels, labels[shown], words)
    paths.append(draw_gradients([inspection], config.out / "gradient.png"))
    if inspection.program == "charlm":
        paths.append(config.out / "neurons.png")
        _draw_neurons(paths[-1], inspection, config.neurons)
    return paths


def draw_gradients(inspections: Sequence[Inspection], path: Path) -> Path:
    """The gradients of one run with their parts, or those of several, one line each."""
    several = len(inspections) > 1
    lines = {}
    for inspection in inspections:
        for layer in inspection.trace.layers:
            norms = layer.gradient_norms()
            if several:
                name = ", ".join(filter(None, (inspection.run, layer.name)))
                lines[f"{name}: {inspection.answer}"] = {"state": norms["state"]}
            elif "c" in norms:
                lines[layer.name] = {"h and c": norms.pop("state"), **norms}
            else:
                lines[layer.name] = norms
    first = inspections[0]
    title = (
        f"{_short(first) if several else _title(first)}\ngradient of the answer's "
        "log-probability with respect to the state after each step"
    )
    gate_plots.gradients(path, lines, inspections[0].labels, title)
    return path


def _draw_neurons(path, inspection, chosen):
    layer = inspection.trace.layers[-1]
    values = layer.neurons()
    places = chosen or _moved_most(values)
    gate_plots.neurons(
        path,
        {f"neuron {place}": values[:, place] for place in places},
        inspection.labels,
        ", ".join(filter(None, (_title(inspection), layer.name))),
    )


def _moved_most(values: np.ndarray) -> list[int]:
    """The neurons whose values spread most over the text, the first one most."""
    return np.argsort(-values.std(axis=0), kind="stable")[:NUM_NEURONS].tolist()


def _title(inspection):
    share = f"{100 * inspection.trace.probability:.1f} %"
    if inspection.program == "charlm":
        return f"{inspection.run}: next is {inspection.answer} ({share})"
    return f"{inspection.run}: {_short(inspection)} is {inspection.answer} ({share})"


def _short(inspection):
    text = " ".join(inspection.text.split())
    return text if len(text) <= MOST_IN_TITLE else f"{text[:MOST_IN_TITLE]}…"


def check(inspections: Sequence[Inspection], config: Config) -> None:
    """Refuse what cannot be drawn.

    Raises:
        InputError: If the runs do not read the same, or there is no such neuron.
    """
    first = inspections[0]
    for other in inspections[1:]:
        if (first.program, first.labels) != (other.program, other.labels):
            raise InputError(
                f"{first.run} and {other.run} do not read the same steps "
                f"({''.join(first.labels)!r} and {''.join(other.labels)!r}); expected "
                "runs of one program that spell the text alike"
            )
    if config.neurons and first.program != "charlm":
        raise InputError(
            f"--neurons is for runs of charlm; {first.run} is one of names"
        )
    number = first.trace.layers[-1].neurons().shape[-1]
    for neuron in config.neurons:
        if not 0 <= neuron < number:
            raise InputError(
                f"--neurons has {neuron}; this model has {number}: 0 to {number - 1}"
            )


def show(inspection: Inspection) -> None:
    """Print what was found, for people."""
    print(printable(_title(inspection)))
    for layer in inspection.trace.layers:
        norms = layer.gradient_norms()["state"]
        last = len(norms) - 1
        places = np.unique(np.linspace(0, last, min(len(norms), MOST_SHOWN)).round())
        steps = [f"{inspection.labels[i]} {norms[i]:.1e}" for i in places.astype(int)]
        some = f"{len(steps)} of " if len(steps) < len(norms) else ""
        name = f"  {layer.name}: " if layer.name else "  "
        print(f"{name}norm of the gradient after {some}{len(norms)} steps")
        for start in range(0, len(steps), 6):
            print(f"    {'  '.join(steps[start : start + 6])}")
        first = -1 if layer.reverse else 0
        share = norms[first] / norms.max() if norms.any() else 0.0
        verdict = "; it has vanished" if share < VANISHED else ""
        print(
            f"    after the first character that it reads ({inspection.labels[first]}): "
            f"{share:.2g} of the largest{verdict}"
        )


def record(inspection: Inspection, pictures: Sequence[Path]) -> dict[str, Any]:
    """The figures, for programs."""
    return {
        "run": inspection.run,
        "text": inspection.text,
        "answer": inspection.answer,
        "probability": inspection.trace.probability,
        "steps": list(inspection.labels),
        "layers": [
            {
                "name": layer.name,
                "reverse": layer.reverse,
                "gradient_norms": {
                    name: norms.tolist()
                    for name, norms in layer.gradient_norms().items()
                },
                "means": {
                    name: values.mean(axis=-1).tolist()
                    for name, values in layer.panels().items()
                },
            }
            for layer in inspection.trace.layers
        ],
        "pictures": [str(path) for path in pictures],
    }


def main(config: Config) -> None:
    """Read, draw, and say what was found."""
    runs, text = config.asked()
    assert text is not None
    inspections = [inspect(path, text) for path in runs]
    if len({inspection.run for inspection in inspections}) < len(inspections):
        inspections = [
            inspection._replace(run=str(path))
            for inspection, path in zip(inspections, runs, strict=True)
        ]
    check(inspections, config)
    several = len(inspections) > 1
    folder = config.out.parent if config.out.suffix == ".png" else config.out
    folder.mkdir(parents=True, exist_ok=True)
    if several:
        path = config.out if config.out.suffix == ".png" else folder / "gradient.png"
        pictures = [draw_gradients(inspections, path)]
    else:
        pictures = draw_one(inspections[0], config)
    for inspection in inspections:
        if config.json:
            print(json.dumps(record(inspection, pictures)))
        else:
            show(inspection)
    if not config.json:
        print("\n".join(printable(str(path)) for path in pictures))


if __name__ == "__main__":
    run(main, Config, __doc__)
