"""Where the marks of a chart stand; the templates only write them down as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from leaderboard.site.looks import Look

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 12, 10, 36

FEW = 10
"""A point of fewer docs is drawn pale."""


class Mark(NamedTuple):
    """A point with its text, in the chart's units; `bounded` is whether it has an interval."""

    x: float
    y: float
    low: float
    high: float
    label: str
    bounded: bool = True
    pale: bool = False


class Line(NamedTuple):
    """Marks of one series.

    Attributes:
        label: its name.
        look: its colour, dashes and marker.
        entry: the id of the entry that it is of, or empty.
        path: joins the marks, as SVG has it; empty for a single mark.
        pale_path: the rest of it, next to pale marks.
        band: the outline of the intervals; empty: none.
        marks: the points.
    """

    label: str
    look: Look
    entry: str
    path: str
    pale_path: str
    band: str
    marks: tuple[Mark, ...]


class Tick(NamedTuple):
    """A position on an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart of scores between 0 and 1; `left`, `right`, `top`, `bottom` frame its field."""

    title: str
    x_title: str
    y_title: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    lines: tuple[Line, ...]
    diagonal: bool = False
    controlled: bool = True
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM

    @property
    def open(self) -> bool:
        """Whether some mark has no interval."""
        return any(not mark.bounded for line in self.lines for mark in line.marks)

    @property
    def pale(self) -> bool:
        """Whether some mark is of few docs."""
        return any(mark.pale for line in self.lines for mark in line.marks)

    @property
    def alt(self) -> str:
        """The chart in words, for those who do not see it."""
        parts = [f"{line.label}: {'; '.join(mark.label for mark in line.marks)}" for line in self.lines[:6]]
        more = f". {len(self.lines) - 6} further series are in the CSV" if len(self.lines) > 6 else ""
        return f"{self.title}. {'. '.join(parts)}{more}"


class ChartPoint(NamedTuple):
    """A score of `n` docs to draw at one value of x; without an interval `low` and `high` are None."""

    x: str
    score: float
    low: float | None
    high: float | None
    n: int


class Series(NamedTuple):
    """The points of a line in the axis's order; `entry`: the id of the entry that it is of, or empty."""

    label: str
    look: Look
    points: Sequence[ChartPoint]
    entry: str = ""


def line_chart(title: str, x_title: str, series: Sequence[Series], *, controlled: bool = True) -> Chart:
    """Scores in percent against x: evenly spaced by number if all x are integers, otherwise by index.

    Args:
        title: of the chart.
        x_title: of the axis.
        series: the lines.
        controlled: whether docs with different x differ in nothing else that matters.
    """
    values = list(dict.fromkeys(point.x for one in series for point in one.points))
    numeric = all(value.isdecimal() for value in values)
    if numeric:
        values.sort(key=int)
    ends = (int(values[0]), int(values[-1])) if numeric else (0, len(values) - 1)
    width = max(ends[1] - ends[0], 1)
    at = {
        value: _x(((int(value) if numeric else index) - ends[0]) / width)
        for index, value in enumerate(values)
    }
    lines = tuple(_line(one, at) for one in series)
    return Chart(title, x_title, "score, %", tuple(_thinned(at)), _y_ticks(), lines, controlled=controlled)


def scatter(
    title: str, x_title: str, y_title: str, points: Sequence[tuple[str, Look, str, float, float]]
) -> Chart:
    """A point for each entry (label, look, id, x, y), both axes from 0 to 100 %, with the diagonal."""
    lines = []
    for label, look, entry, x, y in points:
        mark_label = f"{x_title} {_percent(x)}, {y_title} {_percent(y)}"
        mark = Mark(_x(x), _y(y), _y(y), _y(y), mark_label)
        lines.append(Line(label, look, entry, "", "", "", (mark,)))
    ticks = tuple(Tick(_x(share), f"{100 * share:g}") for share in (0, 0.25, 0.5, 0.75, 1))
    names = (f"{x_title}, %", f"{y_title}, %")
    return Chart(title, *names, ticks, _y_ticks(), tuple(lines), diagonal=True)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _line(series: Series, at: dict[str, float]) -> Line:
    marks = []
    for point in series.points:
        low, high = (point.score if end is None else end for end in (point.low, point.high))
        interval = "no interval" if point.low is None else f"{100 * low:.1f} to {100 * high:.1f}"
        label = f"{point.x}: {_percent(point.score)} ({interval}; n {point.n})"
        bounded, pale = point.low is not None, point.n < FEW
        marks.append(Mark(at[point.x], _y(point.score), _y(low), _y(high), label, bounded, pale))
    outline = [(mark.x, mark.high) for mark in marks] + [(mark.x, mark.low) for mark in reversed(marks)]
    banded = len(marks) > 1 and all(mark.bounded for mark in marks)
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in outline) if banded else ""
    paths = (_path(marks, pale=False), _path(marks, pale=True))
    return Line(series.label, series.look, series.entry, *paths, band, tuple(marks))


def _path(marks: Sequence[Mark], *, pale: bool) -> str:
    """The pieces of a line between marks: those next to a pale mark, or the others."""
    parts, pen = [], None
    for i, (a, b) in enumerate(pairwise(marks)):
        if (a.pale or b.pale) == pale:
            start = "" if pen == i else f"M{a.x:.1f} {a.y:.1f}"
            parts.append(f"{start}L{b.x:.1f} {b.y:.1f}")
            pen = i + 1
    return "".join(parts)


def _x(share: float) -> float:
    return round(_LEFT + 10 + share * (WIDTH - _LEFT - _RIGHT - 20), 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _y_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(_y(share), f"{100 * share:g}") for share in (0, 0.25, 0.5, 0.75, 1))


def _thinned(at: dict[str, float]) -> list[Tick]:
    """Texts that have room."""
    labelled: list[Tick] = []
    free = 0.0
    for value, x in at.items():
        text = value if len(value) <= 14 else value[:13] + "…"
        half = 3.4 * len(text)
        if x - half >= free or not labelled:
            labelled.append(Tick(x, text))
            free = x + half + 4
    return labelled
