"""Pictures of what happens inside a model: gates, gradients, neurons over a text."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from train.plots import COLOURS, DPI, legible, save

MOST_COLUMNS = 100
"""Steps that a picture can name by their characters."""

LINE = 80
"""Characters in a line of a text that neurons colour."""

_FONT = "DejaVu Sans Mono"  # matplotlib brings it along
_SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥"}
_MEANINGS = {
    "i": "input gate",
    "f": "forget gate",
    "g": "candidate",
    "o": "output gate",
    "c": "cell",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
    "h": "state",
}
_SHARES = "ifo" + "rz"
_INCH = 0.17  # of a character


@functools.cache
def sign(character: str) -> str:
    """What stands for a character in a picture: one column, in the font that we have.

    Example:
        >>> "".join(map(sign, "a b\\n中"))
        'a␣b↵□'
    """
    return legible(_SIGNS.get(character, character), _FONT) or "□"


def gates(
    path: Path, panels: Mapping[str, np.ndarray], labels: Sequence[str], title: str
) -> None:
    """Gates and states over time, one panel each, a row for every unit.

    Args:
        path: The PNG file.
        panels: ``(steps, features)`` each, by the names of the equations.
        labels: What stands under each step.
        title: What is above.
    """
    features = max(values.shape[1] for values in panels.values())
    panel = 0.45 + min(max(0.9, features / DPI), 2)
    width = 2.6 + max(3.4, _INCH * len(labels))
    figure = Figure(figsize=(width, 0.9 + panel * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(all_axes, panels.items(), strict=True):
        if name in _SHARES:
            # A share of 0 is shut, of 1 open; all else is around 0.
            colours = {"cmap": "cividis", "vmin": 0, "vmax": 1}
        else:
            # A few units of a cell are far larger than the others.
            limit = max(1, np.quantile(np.abs(values), 0.99)) if name in "ch" else 1
            colours = {"cmap": "PuOr", "vmin": -limit, "vmax": limit}
        # Each unit as it is, unless there are too many for the picture.
        colours["interpolation"] = "nearest" if features <= 2 * DPI else "auto"
        image = axes.imshow(values.T, aspect="auto", **colours)
        axes.set_ylabel("unit")
        axes.set_title(f"{name}: {_MEANINGS[name]}", loc="left", fontsize=10)
        beyond = "both" if np.abs(values).max() > colours["vmax"] else "neither"
        figure.colorbar(image, pad=0.01, aspect=10, extend=beyond)
    _name_steps(all_axes[-1], labels)
    _head(figure, title)
    save(figure, path)


def gradients(
    path: Path,
    lines: Mapping[str, Mapping[str, np.ndarray]],
    labels: Sequence[str],
    title: str,
) -> None:
    """How large the gradient of the answer is at each step, on a log axis.

    Args:
        path: The PNG file.
        lines: For each network, its norms ``(steps,)``: the first one with a full line,
            its parts with broken ones. A norm of 0 is left out.
        labels: What stands under each step.
        title: What is above.
    """
    width = 2 + max(5, _INCH * min(len(labels), MOST_COLUMNS))
    figure = Figure(figsize=(width, 4.8), layout="constrained")
    axes = figure.subplots()
    largest, smallest = 0.0, np.inf
    for number, (name, norms) in enumerate(lines.items()):
        for (part, values), style in zip(norms.items(), ("-", "--", ":"), strict=False):
            values = np.where(values > 0, values, np.nan)
            words = (name, part) if len(norms) > 1 or not name else (name,)
            axes.semilogy(
                values,
                style,
                label=legible(": ".join(filter(None, words))),
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)] if len(values) < 40 else "",
                markersize=4,
            )
            if np.isfinite(values).any():
                largest = max(largest, np.nanmax(values))
                smallest = min(smallest, np.nanmin(values))
    if largest:
        # Two decades at least: a curve that hardly falls has to look like one.
        axes.set_ylim(min(smallest / 1.5, largest / 100), largest * 1.5)
    axes.set_ylabel("norm of the gradient")
    axes.grid(alpha=0.3)
    axes.legend()
    _name_steps(axes, labels)
    _head(figure, title)
    save(figure, path)


_MARKERS = "os^Dv"


def neurons(
    path: Path, values: Mapping[str, np.ndarray], signs: Sequence[str], title: str
) -> None:
    """A text, coloured by one neuron after another.

    Args:
        path: The PNG file.
        values: ``(characters,)`` from -1 to 1, under each neuron's name.
        signs: The characters of the text, each one column wide.
        title: What is above.
    """
    rows = _rows(signs)
    longest = max(len(row) for row in rows)
    columns = min(2, len(values))
    # In inches; a line of text is as wide as its letters are.
    letter, line, head = _ADVANCE * _POINTS / 72, 1.6 * _POINTS / 72, 0.34
    across, down = letter * longest, line * len(rows)
    width = max(columns * (across + 0.3), 5.5) + 0.3
    height = math.ceil(len(values) / columns) * (down + head) + 1.4
    figure = Figure(figsize=(width, height))
    for number, (name, one) in enumerate(values.items()):
        cells = np.full((len(rows), longest), np.nan)
        for row, places in enumerate(rows):
            cells[row, : len(places)] = one[places]
        left = 0.3 + number % columns * (across + 0.3)
        bottom = height - 0.55 - (number // columns + 1) * (down + head)
        axes = figure.add_axes(
            (left / width, bottom / height, across / width, down / height)
        )
        # Beyond ±1, so that no colour is too dark for the letter on it.
        image = axes.imshow(cells, cmap="PuOr", vmin=-1.6, vmax=1.6, aspect="auto")
        for row, places in enumerate(rows):
            text = "".join(signs[place] for place in places)
            axes.text(-0.5, row, text, **_LETTER)
        axes.set_axis_off()
        axes.set_title(name, loc="left", fontsize=9, pad=3)
    bar = figure.add_axes((0.3 / width, 0.42 / height, 2.6 / width, 0.14 / height))
    figure.colorbar(
        image, bar, orientation="horizontal", ticks=[-1, 0, 1], boundaries=_STEPS
    )
    bar.set_xlabel("value of the neuron", fontsize=8, labelpad=1)
    bar.tick_params(labelsize=8)
    _head(figure, title)
    save(figure, path)


_POINTS, _ADVANCE = 11, 0.602  # of the font: its size, and a letter's share of it
_LETTER: Mapping[str, Any] = {
    "va": "center_baseline",
    "family": _FONT,
    "fontsize": _POINTS,
    "parse_math": False,
}
_STEPS = np.linspace(-1, 1, 65)


def _rows(signs):
    """The places of the characters in each line; a line of the text begins a new one."""
    rows, end = [[]], _SIGNS["\n"]
    for place, shown in enumerate(signs):
        ended = place > 0 and signs[place - 1] == end and shown != end
        if ended or len(rows[-1]) == LINE:
            rows.append([])
        rows[-1].append(place)
    return rows


def _name_steps(axes, labels):
    axes.set_xlim(-0.5, len(labels) - 0.5)
    if len(labels) <= MOST_COLUMNS:
        axes.set_xticks(range(len(labels)), labels, family=_FONT, parse_math=False)
        axes.set_xlabel("character that was read")
    else:
        axes.set_xlabel("characters that were read")


def _head(figure, title):
    lines = map(legible, title.split("\n"))
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)
