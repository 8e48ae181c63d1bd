"""The pictures of a classifier: confusion, attention, distributions of its answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from train.forward import Attention
from train.names.evaluate import Report
from train.plots import COLOURS, legible, save


def confusion(path: Path, figures: Report, languages: Sequence[str]) -> None:
    """The confusion matrix; every row is shared out over the answers.

    Args:
        path: The PNG file.
        figures: Has the counts.
        languages: Names of the classes.
    """
    counts = figures.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Fixed margins: fitting them to so many numbers takes a second.
    margin = margin_for(languages)
    size = 1.5 + margin + 0.42 * len(languages)
    figure = Figure(figsize=(size + 1.4, size))
    axes = figure.subplots()
    figure.subplots_adjust(
        left=margin / (size + 1.4), right=0.95, bottom=margin / size, top=0.98
    )
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(languages))
    shown = [legible(language) for language in languages]
    axes.set_xticks(places, shown, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, shown)
    axes.set(xlabel="answer", ylabel="language")
    if len(languages) <= 30:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(
                column,
                row,
                counts[row, column],
                ha="center",
                va="center",
                fontsize=7,
                color=colour,
            )
    figure.colorbar(image, label="share of the language's names", shrink=0.8)
    save(figure, path)


def attention(path: Path, looks: Sequence[Attention], titles: Sequence[str]) -> None:
    """Where attention looked, one row a name, darker for more.

    Args:
        path: The PNG file.
        looks: The names and their weights.
        titles: What stands before each row.
    """
    longest = max(len(look.text) for look in looks)
    height, width = 1.2 + 0.42 * len(looks), 3 + 0.42 * longest
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    weights = np.full((len(looks), longest), np.nan)
    for row, look in enumerate(looks):
        weights[row, : len(look.text)] = look.weights
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    for row, look in enumerate(looks):
        for column, character in enumerate(look.text):
            colour = "white" if look.weights[column] > 0.55 else "black"
            axes.text(column, row, character, ha="center", va="center", color=colour)
    axes.set_yticks(range(len(looks)), [legible(title) for title in titles])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label="attention", shrink=0.9)
    save(figure, path)


def distributions(
    path: Path,
    names: Sequence[str],
    labels: Sequence[str],
    probs: np.ndarray,
    languages: Sequence[str],
) -> None:
    """The output distribution for some names, as bars.

    Args:
        path: The PNG file.
        names: The names.
        labels: Their languages.
        probs: ``(names, classes)``.
        languages: Names of the classes.
    """
    margin = margin_for(languages)
    width, height = 0.4 + margin + 1.9 * len(names), 1.6 + 0.22 * len(languages)
    figure = Figure(figsize=(width, height))
    all_axes = figure.subplots(1, len(names), sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=margin / width, right=0.98, bottom=0.6 / height, top=1 - 0.9 / height
    )
    for axes, name, label, row in zip(all_axes[0], names, labels, probs, strict=True):
        colours = [COLOURS[1] if lang == label else COLOURS[0] for lang in languages]
        axes.barh(range(len(languages)), row, color=colours)
        axes.set_title(f"{legible(name)}\n({legible(label)})", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5], ["0", "0.5"])
        axes.set_xlabel("probability")
    all_axes[0][0].set_yticks(
        range(len(languages)), [legible(language) for language in languages]
    )
    all_axes[0][0].invert_yaxis()
    figure.suptitle("the right answer in orange", fontsize=9)
    save(figure, path)


def margin_for(languages: Sequence[str]) -> float:
    """Inches that the longest name of a class takes beside its axis."""
    return max(1.3, 0.5 + 0.085 * max(map(len, languages)))
