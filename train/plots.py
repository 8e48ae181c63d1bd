"""Pictures of a run, as PNG files."""

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

from train.runs.files import write_bytes

DPI = 110
"""Of every picture."""

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def curves(
    path: Path, lines: Mapping[str, tuple[Sequence, Sequence]], x: str, y: str
) -> None:
    """Curves in one picture.

    Args:
        path: The PNG file.
        lines: From a name to the points' ``x`` and ``y``.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, (xs, ys)), colour in zip(lines.items(), COLOURS * 3, strict=False):
        axes.plot(xs, ys, label=name, color=colour, marker="." if len(xs) < 40 else "")
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all.

    Its texts may be anyone's: a ``$`` in them is no formula, and a letter that the font
    lacks is drawn as a box, without a warning for each.

    Args:
        figure: The picture.
        path: The PNG file.
    """
    # The powers of ten of a logarithmic axis are formulas, and ours.
    formulas = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for label in (*axis.get_majorticklabels(), *axis.get_minorticklabels())
    }
    for text in figure.findobj(Text):
        if id(text) in formulas:
            continue
        text.set_parse_math(False)
        if "\n" not in text.get_text():
            text.set_text(legible(text.get_text(), text.get_fontname()))
    buffer = io.BytesIO()
    options = {"compress_level": 1}
    figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs=options)
    write_bytes(path, buffer.getvalue())


def legible(text: str, font: str = "DejaVu Sans") -> str:
    """A text without what cannot be drawn, for the font has no letter for it.

    Example:
        >>> legible("Kün \x1b中")
        'Kün □□'
    """
    glyphs = _font(font)
    return "".join(
        c if c.isprintable() and glyphs.get_char_index(ord(c)) else "□" for c in text
    )


@functools.cache
def _font(name):
    return get_font(findfont(name))
