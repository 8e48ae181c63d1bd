"""Curves as places in a square of a thousand, for SVG that is stretched to its box."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

SIDE = 1000
MOST_POINTS = 400
"""Of a drawn curve; more are joined to their means."""
MOST_DOTS = 40
"""A curve of more points is a line alone."""
MOST_ROWS = 50
"""Of the table of numbers below a chart."""
LOG_FROM = 100
"""From this ratio of the largest value to the smallest, the axis is logarithmic."""


class Point(NamedTuple):
    """A point of a curve: the mean of the replicas, and how far they lie apart."""

    x: float
    y: float
    low: float
    high: float


class Curve(NamedTuple):
    """The points of a name, and which of the colours they have."""

    name: str
    points: Sequence[Point]
    style: int


class Tick(NamedTuple):
    """A number beside an axis, and how far along it stands, in percent."""

    percent: float
    label: str


class Dot(NamedTuple):
    """A marked point, and what it says of itself."""

    x: float
    y: float
    label: str


class Line(NamedTuple):
    """A curve, as the data of SVG paths.

    Attributes:
        name: Its name.
        path: The curve.
        band: From the lowest to the highest replica; empty for one replica.
        dots: Its points, if they are few.
        style: Which of the colours it has.
    """

    name: str
    path: str
    band: str
    dots: list[Dot]
    style: int


class Chart(NamedTuple):
    """Curves, ready to be drawn.

    Attributes:
        title: What it shows.
        x_label: What the horizontal axis shows.
        x_ticks: Its numbers.
        y_ticks: Those of the vertical axis.
        lines: The curves.
        words: The curves in words, for those who cannot see them.
        columns: Names of the columns of the table.
        rows: The numbers as text, at most ``MOST_ROWS`` of them.
        num_rows: How many there would be.
    """

    title: str
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    words: str
    columns: list[str]
    rows: list[list[str]]
    num_rows: int


def chart(
    title: str,
    x_label: str,
    curves: Sequence[Curve],
    percent: bool = False,
    logarithmic: bool = False,
) -> Chart:
    """Lay out curves.

    Args:
        title: What it shows.
        x_label: What the horizontal axis shows.
        curves: The curves, each with a point or more.
        percent: Whether the values are shares.
        logarithmic: Whether the axis of values may be logarithmic.

    Returns:
        The chart.
    """
    points = [point for curve in curves for point in curve.points]
    low, high = min(p.low for p in points), max(p.high for p in points)
    logarithmic = logarithmic and low > 0 and high / low >= LOG_FROM
    xs = [point.x for point in points]
    x_axis = _Axis(min(xs), max(xs), whole=all(x == int(x) for x in xs), room=0.02)
    y_axis = _Axis(low, high, logarithmic, percent=percent, room=0.06)
    last = [f"{c.name} {y_axis.text(c.points[-1].y)}" for c in curves]
    first = [f"{c.name} {y_axis.text(c.points[0].y)}" for c in curves]
    begin, end = (x_axis.text(x) for x in (x_axis.first, x_axis.last))
    words = f"{title} over {x_label}. At {begin}: {', '.join(first)}"
    if begin != end:
        words += f". At the end: {', '.join(last)}"
    rows = _rows(curves, x_axis, y_axis)
    return Chart(
        title + (", logarithmic" if logarithmic else ""),
        x_label,
        x_axis.ticks(),
        y_axis.ticks(),
        [_line(curve, x_axis, y_axis) for curve in curves],
        words + ".",
        [x_label, *(curve.name for curve in curves)],
        [rows[i] for i in _evenly(len(rows), MOST_ROWS)],
        len(rows),
    )


class _Axis:
    """From values to places."""

    def __init__(
        self, first, last, logarithmic=False, percent=False, whole=False, room=0.0
    ):
        self.first, self.last, self._whole = first, last, whole
        self._percent, self._logarithmic = percent, logarithmic
        begin, end = self._along(first), self._along(last)
        room = room * (end - begin) or max(abs(begin) * 0.1, 0.1)
        self._begin, self._end = begin - room, end + room

    def _along(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value

    def place(self, value: float) -> float:
        share = (self._along(value) - self._begin) / (self._end - self._begin)
        return round(SIDE * share, 1)

    def text(self, value: float) -> str:
        if self._percent:
            return f"{100 * value:.4g} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

    def ticks(self) -> list[Tick]:
        if self._logarithmic:
            locator: Locator = LogLocator()
            values = locator.tick_values(10**self._begin, 10**self._end)
        else:
            # Nobody looks for what was measured after 2.5 epochs.
            steps = [1, 2, 5, 10] if self._whole else [1, 2, 2.5, 5, 10]
            locator = MaxNLocator(nbins=5, steps=steps, integer=self._whole)
            values = locator.tick_values(self._begin, self._end)
        if self._whole:
            values = [value for value in values if value == round(value)]
        # Rounded, for the locator's 0.30000000000000004.
        ticks = [(self.place(v) / SIDE * 100, float(f"{v:.10g}")) for v in values]
        return [Tick(p, self.text(v)) for p, v in ticks if 0 <= p <= 100]


def _line(curve: Curve, x_axis: _Axis, y_axis: _Axis) -> Line:
    points = _thinned(curve.points)
    xs = [x_axis.place(p.x) for p in points]
    ys, lows, highs = (
        [round(SIDE - y_axis.place(value), 1) for value in values]
        for values in zip(*((p.y, p.low, p.high) for p in points), strict=True)
    )
    band = ""
    if lows != highs:
        band = _path(xs + xs[::-1], lows + highs[::-1]) + "Z"
    dots = []
    if len(points) <= MOST_DOTS:
        labels = (
            f"{curve.name}, {x_axis.text(p.x)}: {y_axis.text(p.y)}" for p in points
        )
        dots = [Dot(*each) for each in zip(xs, ys, labels, strict=True)]
    return Line(curve.name, _path(xs, ys), band, dots, curve.style)


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in zip(xs, ys, strict=True))


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Means of neighbours, where there are too many points to be seen."""
    groups = np.array_split(np.array(points), min(len(points), MOST_POINTS))
    return [Point(*group.mean(axis=0).tolist()) for group in groups]


def _rows(curves: Sequence[Curve], x_axis: _Axis, y_axis: _Axis) -> list[list[str]]:
    values = [{p.x: y_axis.text(p.y) for p in curve.points} for curve in curves]
    xs = sorted(set().union(*values))
    return [[x_axis.text(x), *(each.get(x, "") for each in values)] for x in xs]


def _evenly(num: int, most: int) -> list[int]:
    """Indices from the first to the last, at most so many."""
    return np.unique(
        np.linspace(0, num - 1, min(num, most)).round().astype(int)
    ).tolist()
