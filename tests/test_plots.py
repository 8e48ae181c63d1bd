"""Pictures whose texts are anyone's."""

from pathlib import Path

import numpy as np
import pytest

from train import plots as shared
from train.forward import Attention
from train.names import plots
from train.names.evaluate import Report

CLASSES = ["$_$", "C$O_2$", "Portuguese of Brazil", "日本語", "\\alpha$", "A"]


def report(n: int) -> Report:
    counts = np.arange(n * n).reshape(n, n)
    return Report(0.5, 0.5, 0.5, counts, *np.full((3, n), 0.5))


def picture_of(path: Path) -> bytes:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 3000
    return data


# A warning is an error here: a letter that the font lacks gives one for each picture.
def test_no_name_is_a_formula_or_a_warning(tmp_path):
    plots.confusion(tmp_path / "confusion.png", report(6), CLASSES)
    probs = np.full((2, 6), 1 / 6)
    names, labels = ["$x$", "中文 $"], ["$_$", "日本語"]
    plots.distributions(tmp_path / "bars.png", names, labels, probs, CLASSES)
    attended = [Attention("$a_1$中", np.full(6, 1 / 6))]
    plots.attention(tmp_path / "attention.png", attended, ["日本語 $x"])
    curves = {"$train_1$ 日": ([1, 2], [0.5, 0.25])}
    shared.curves(tmp_path / "curves.png", curves, "$epoch", "loss ($)")
    for name in ("confusion", "bars", "attention", "curves"):
        picture_of(tmp_path / f"{name}.png")


def test_a_dollar_is_drawn_as_a_dollar(tmp_path):
    """Not as the formula, which would be the same picture as without its signs."""
    pictures = []
    for index, name in enumerate(("C$O_2$", "CO_2")):
        path = tmp_path / f"{index}.png"
        shared.curves(path, {name: ([1, 2], [1, 2])}, "x", "y")
        pictures.append(picture_of(path))
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("longest", [3, 14, 40])
def test_margins_hold_the_longest_name(longest):
    assert plots.margin_for(["a", "b" * longest]) >= max(1.3, 0.08 * longest)
