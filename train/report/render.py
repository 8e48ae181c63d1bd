"""Lay out what runs came to as one page: tables, curves, confusion, mistakes."""

import functools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import markupsafe
import numpy as np

from train.cli import printable
from train.report.charts import Chart, Curve, Point, chart
from train.report.finished_runs import FinishedRun, read_runs
from train.runs.files import write_text

TEMPLATE = Path(__file__).with_name("report.html.jinja")

MOST_LANGUAGES = 40
"""Of a confusion matrix; those with the most names."""

HEADLINES = {
    "names": ("test_accuracy", "test_macro_f1", "test_loss"),
    "charlm": ("val_bits_per_char", "val_nats_per_char", "train_loss"),
}
COSTS = ("num_params", "steps", "train_seconds", "wall_seconds")

LOSS = {"names": "loss (nats per name)", "charlm": "loss (nats per character)"}
SERIES = (
    ("train", "train_{}"),
    ("validation", "validation_{}"),
    ("validation", "val_{}"),
    ("test", "test_{}"),
)

WORDS = {
    "num_params": "parameters",
    "steps": "updates",
    "train_seconds": "seconds in updates",
    "wall_seconds": "seconds in all",
    "compile_seconds": "seconds of compilation",
    "test_macro_f1": "test macro-F1",
    "test_loss": "test loss (nats)",
    "train_loss": "training loss (nats)",
    "val_bits_per_char": "bits per character",
    "val_nats_per_char": "nats per character",
    "val_nats_per_char_of_random_crops": "nats per character, random crops of 256",
    "val_chars": "validation characters",
    "leak_free_test_macro_f1": "leak-free test macro-F1",
    "leak_free_test_accuracy": "leak-free test accuracy",
    "leak_free_test_loss": "leak-free test loss (nats)",
    "names_sha256": "names, SHA-256",
    "text.sha256": "text, SHA-256",
}


class TableRow(NamedTuple):
    """A row of a table that has a column for each run.

    Attributes:
        name: What it is.
        values: One for each run.
        differs: Whether they are not all the same.
    """

    name: str
    values: list[str]
    differs: bool


class TableCell(NamedTuple):
    """A place of a confusion matrix.

    Attributes:
        count: Number of names.
        share: Of the language's names.
        is_right: Whether it is on the diagonal.
        words: The same in words.
    """

    count: int  # type: ignore[assignment]  # hides tuple's count
    share: float
    is_right: bool
    words: str


class Matrix(NamedTuple):
    """A confusion matrix.

    Attributes:
        languages: The classes that are shown.
        rows: One for each of them.
        num_left_out: How many classes are not shown.
    """

    languages: list[str]
    rows: list[list[TableCell]]
    num_left_out: int


def write_report(path: Path) -> Path:
    """Write the report of one run, or of one comparison, into its directory.

    Args:
        path: The directory.

    Returns:
        The page; one that would be the same is left as it is.
    """
    page, html = path / "report.html", render(read_runs([path]))
    if not page.exists() or page.read_bytes() != html.encode():
        write_text(page, html)
    return page


def render(runs: Sequence[FinishedRun]) -> str:
    """The page.

    Args:
        runs: One or more runs of the same program.

    Returns:
        HTML.
    """
    program = runs[0].program
    headlines = (*HEADLINES[program], *COSTS)
    summaries = [
        {n: v for n, v in each.summary.items() if n not in ("languages", "sample")}
        for each in runs
    ]
    return _template().render(
        title=runs[0].title if len(runs) == 1 else f"{len(runs)} runs of {program}",
        program=program,
        runs=runs,
        headlines=over_seeds(runs[0].summary)
        + [
            (word(name), shown(name, runs[0].summary[name]))
            for name in headlines
            if runs[0].summary.get(name) is not None
        ],
        charts=charts(runs),
        results=table(summaries, first=headlines),
        f1=f1_table(runs),
        matrices=[matrix_of(each) for each in runs],
        settings=table([each.settings for each in runs]),
        environments=table([each.environment for each in runs]),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _finalized(value: Any) -> Any:
    """Names and texts are anyone's: nothing of them may reorder a line of the page."""
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
        return printable(value, keep="\n\t")
    return value


def word(name: str) -> str:
    """A name of the files, for people."""
    return WORDS.get(name, name.replace("_", " ").replace(".", " "))


def shown(name: str, value: Any) -> str:
    """A value of the files, for people.

    Example:
        >>> shown("test_accuracy", 0.8525), shown("num_params", 7599)
        ('85.25 %', '7,599')
    """
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(shown(name, each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if value.strip() else repr(value)
    if name == "seed":
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if "accuracy" in name:
        return f"{100 * value:.2f} %"
    if "seconds" in name:
        return f"{value:,.1f}"
    if "f1" in name:
        return f"{value:.3f}"
    return f"{value:.4g}"


def over_seeds(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Mean and standard deviation over replicas, where there are some."""
    name = "test_accuracy"
    mean, std = (summary.get(f"{name}_{figure}") for figure in ("mean", "std"))
    if not (isinstance(mean, float) and isinstance(std, float)):
        return []
    words = f"{word(name)}, {summary.get('seeds')} seeds"
    return [(words, f"{100 * mean:.2f} % ± {100 * std:.2f}")]


def table(parts: Sequence[dict[str, Any]], first: Sequence[str] = ()) -> list[TableRow]:
    """The entries of some dicts side by side.

    Args:
        parts: One for each run.
        first: Entries that come first.

    Returns:
        A row for each entry.
    """
    names = dict.fromkeys([*first, *(name for part in parts for name in part)])
    rows = []
    for name in names:
        if all(part.get(name) is None for part in parts):
            continue
        values = [shown(name, part.get(name)) for part in parts]
        rows.append(TableRow(word(name), values, len(set(values)) > 1))
    return rows


def f1_table(runs: Sequence[FinishedRun]) -> list[TableRow]:
    """The F1 of every language in every run."""
    scores = [{each.language: each.f1 for each in run_.languages} for run_ in runs]
    names = dict.fromkeys(name for each in scores for name in each)
    return [
        TableRow(
            name,
            [f"{each[name]:.3f}" if name in each else "–" for each in scores],
            False,
        )
        for name in names
    ]


def matrix_of(run_: FinishedRun) -> Matrix | None:
    """The confusion matrix of a run, if it was kept."""
    if run_.findings is None:
        return None
    languages, counts = run_.findings.languages, np.array(run_.findings.confusion)
    totals = counts.sum(axis=1)
    most = np.sort(np.argsort(-totals, kind="stable")[:MOST_LANGUAGES])
    rows = []
    for i in most:
        row = []
        for j in most:
            count, total = int(counts[i, j]), int(totals[i])
            share = count / max(total, 1)
            what = "recognised" if i == j else f"taken for {languages[j]}"
            words = (
                f"{languages[i]} {what}: {count:,} of {total:,} ({100 * share:.1f} %)"
            )
            row.append(TableCell(count, round(share, 3), bool(i == j), words))
        rows.append(row)
    return Matrix([languages[i] for i in most], rows, len(languages) - len(most))


def charts(runs: Sequence[FinishedRun]) -> list[Chart]:
    """The curves: of one run all of a kind in one chart, of several runs each kind."""
    of_epochs = {each.counts_epochs for each in runs}
    axis = "epoch" if of_epochs == {True} else "update"
    found = []
    for quantity, title in (
        ("loss", LOSS[runs[0].program]),
        ("accuracy", "accuracy"),
    ):
        kinds: dict[str, list[Curve]] = {}
        for kind, key in SERIES:
            for i, each in enumerate(runs):
                if points := points_of(each, key.format(quantity), axis):
                    kinds.setdefault(kind, []).append(Curve(each.label, points, i))
        draw = functools.partial(
            chart, percent=quantity == "accuracy", logarithmic=quantity == "loss"
        )
        if len(runs) == 1 and kinds:
            curves = [
                Curve(kind, each.points, i)
                for i, (kind, (each,)) in enumerate(kinds.items())
            ]
            found.append(draw(title, axis, curves))
        else:
            found += [draw(f"{kind} {title}", axis, kinds[kind]) for kind in kinds]
    rates = [
        Curve(each.label, points, i)
        for i, each in enumerate(runs)
        if (points := points_of(each, "learning_rate", axis))
    ]
    if len({point.y for curve in rates for point in curve.points}) > 1:
        found.append(chart("learning rate", axis, rates))
    return found


def points_of(run_: FinishedRun, key: str, axis: str) -> list[Point]:
    """The points of a curve; of replicas their mean, lowest and highest."""
    points = []
    for record in run_.records:
        values = record.get(key)
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(v, float) and math.isfinite(v) for v in values):
            continue
        x = record["epoch" if axis == "epoch" else "step"]
        points.append(Point(x, statistics.fmean(values), min(values), max(values)))
    return points
