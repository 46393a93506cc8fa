"""Where the marks of a chart stand; the templates only write them down as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 12, 10, 36


class Mark(NamedTuple):
    """A point with its text, in the chart's units; `bounded` is whether it has an interval."""

    x: float
    y: float
    low: float
    high: float
    label: str
    bounded: bool = True


class Line(NamedTuple):
    """Marks of one series; `path` joins them, `band` is the outline of their intervals (empty: none)."""

    label: str
    colour: int
    path: str
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
    def alt(self) -> str:
        """The chart in words, for those who do not see it."""
        parts = [f"{line.label}: {'; '.join(mark.label for mark in line.marks)}" for line in self.lines[:6]]
        more = f". {len(self.lines) - 6} further series are in the CSV" if len(self.lines) > 6 else ""
        return f"{self.title}. {'. '.join(parts)}{more}"


class ChartPoint(NamedTuple):
    """A score to draw at one value of x; without an interval `low` and `high` are None."""

    x: str
    score: float
    low: float | None
    high: float | None


def line_chart(
    title: str, x_title: str, y_title: str, series: Sequence[tuple[str, Sequence[ChartPoint]]]
) -> Chart:
    """Scores against x: evenly spaced by number if all x are integers, otherwise evenly by index.

    Args:
        title: of the chart.
        x_title: of the axis.
        y_title: of the other.
        series: label and points of each line, the points in the axis's order.
    """
    values = list(dict.fromkeys(point.x for _, points in series for point in points))
    numeric = all(value.isdecimal() for value in values)
    if numeric:
        values.sort(key=int)
    ends = (int(values[0]), int(values[-1])) if numeric else (0, len(values) - 1)
    width = max(ends[1] - ends[0], 1)
    at = {
        value: _x(((int(value) if numeric else index) - ends[0]) / width)
        for index, value in enumerate(values)
    }
    lines = tuple(_line(label, number, points, at) for number, (label, points) in enumerate(series))
    return Chart(title, x_title, y_title, tuple(_thinned(at)), _y_ticks(), lines)


def scatter(title: str, x_title: str, y_title: str, points: Sequence[tuple[str, float, float]]) -> Chart:
    """A point for each label, both axes from 0 to 1, with the diagonal."""
    lines = []
    for label, x, y in points:
        mark_label = f"{x_title} {x:.3f}, {y_title} {y:.3f}"
        mark = Mark(_x(x), _y(y), _y(y), _y(y), mark_label)
        lines.append(Line(label, 0, "", "", (mark,)))
    ticks = tuple(Tick(_x(share), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1))
    return Chart(title, x_title, y_title, ticks, _y_ticks(), tuple(lines), diagonal=True)


def _line(label: str, number: int, points: Sequence[ChartPoint], at: dict[str, float]) -> Line:
    marks = []
    for point in points:
        low, high = (point.score if end is None else end for end in (point.low, point.high))
        interval = "" if point.low is None else f" [{low:.3f}, {high:.3f}]"
        mark_label = f"{point.x}: {point.score:.3f}{interval}"
        marks.append(Mark(at[point.x], _y(point.score), _y(low), _y(high), mark_label, point.low is not None))
    path = " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in marks)
    outline = [(mark.x, mark.high) for mark in marks] + [(mark.x, mark.low) for mark in reversed(marks)]
    banded = len(marks) > 1 and all(mark.bounded for mark in marks)
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in outline) if banded else ""
    return Line(label, number % 6, path if len(marks) > 1 else "", band, tuple(marks))


def _x(share: float) -> float:
    return round(_LEFT + 10 + share * (WIDTH - _LEFT - _RIGHT - 20), 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _y_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(_y(share), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1))


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
