"""Two figures of studies: scores as dots with intervals, and a score over two arguments."""

import csv
import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from leaderboard.figure import COLOURS, MARKERS, clean

_WIDTH, _ROW, _LINE = 6.4, 0.2, 0.155
"""Inches: the figure, a row of dots, a line of small text."""


class Dot(NamedTuple):
    """A value with its interval (None: there is none), and the numbers that papers print for it."""

    value: float
    low: float | None
    high: float | None
    printed: tuple[float, ...] = ()


@dataclass(frozen=True)
class Dots:
    """A figure of dots.

    Attributes:
        name: of its files.
        title: what it shows.
        x_title: of the axis.
        rows: label of a row -> label of a series -> its dot.
        notes: below it.
    """

    name: str
    title: str
    x_title: str
    rows: dict[str, dict[str, Dot]]
    notes: tuple[str, ...] = ()

    @property
    def series(self) -> list[str]:
        """Its series in their order."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    @property
    def words(self) -> str:
        """The figure for those who do not see it."""
        parts = [
            f"{row}: " + ", ".join(f"{name} {_number(dot)}" for name, dot in dots.items())
            for row, dots in self.rows.items()
        ]
        return " ".join([f"{self.title}.", *(f"{part}." for part in parts), *self.notes])


def _number(dot: Dot) -> str:
    ends = "" if dot.low is None or dot.high is None else f" [{dot.low:.3f}, {dot.high:.3f}]"
    return f"{dot.value:.3f}{ends}"


@dataclass(frozen=True)
class Grid:
    """A score over two arguments.

    Attributes:
        name: of its files.
        title: what it shows.
        x_title: argument on the axis.
        y_title: argument on the other.
        cells: (x, y) -> its dot.
        notes: below it.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    cells: dict[tuple[float, float], Dot]
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The figure for those who do not see it."""
        parts = [
            f"{self.x_title} {x:g}, {self.y_title} {y:g}: {_number(dot)}."
            for (x, y), dot in self.cells.items()
        ]
        return " ".join([f"{self.title}.", *parts, *self.notes])


def dots_csv(figure: Dots) -> str:
    """One dot a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", "row", "series", "value", "low", "high", "printed"])
    for row, dots in figure.rows.items():
        for name, dot in dots.items():
            printed = " ".join(f"{value:g}" for value in dot.printed)
            writer.writerow([figure.name, row, name, *_ends(dot), printed])
    return out.getvalue()


def grid_csv(figure: Grid) -> str:
    """One cell a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", figure.x_title, figure.y_title, "value", "low", "high"])
    for (x, y), dot in figure.cells.items():
        writer.writerow([figure.name, f"{x:g}", f"{y:g}", *_ends(dot)])
    return out.getvalue()


def _ends(dot: Dot) -> list[str]:
    return [
        f"{dot.value:.6g}",
        *("" if end is None else f"{end:.6g}" for end in (dot.low, dot.high)),
    ]


def dots_svg(figure: Dots) -> bytes:
    """Rows of dots with their intervals; hollow diamonds are what papers print."""
    series = figure.series
    labels = {row: textwrap.fill(clean(row), 30) for row in figure.rows}
    heights = {
        row: max(_ROW * max(1, len(dots)) + 0.1, 0.16 * (labels[row].count("\n") + 1))
        for row, dots in figure.rows.items()
    }
    printed = any(dot.printed for dots in figure.rows.values() for dot in dots.values())
    with _canvas(figure.name, figure.title, figure.notes, sum(heights.values()), len(series) + printed) as (
        axes, out,
    ):  # fmt: skip
        top, ticks = 0.0, []
        drawn: set[str] = set()
        for row, dots in figure.rows.items():
            middle = top + heights[row] / 2
            ticks.append((middle, labels[row]))
            for number, (name, dot) in enumerate(dots.items()):
                y = middle + _ROW * (number - (len(dots) - 1) / 2)
                index = series.index(name)
                colour = COLOURS[index % len(COLOURS)]
                if dot.low is not None and dot.high is not None:
                    axes.hlines(y, dot.low, dot.high, color=colour, linewidth=1.4)
                axes.plot(
                    dot.value, y, marker=MARKERS[index % len(MARKERS)], color=colour, markersize=5,
                    linestyle="none", label="_" if name in drawn else clean(name) or "_", clip_on=False,
                )  # fmt: skip
                drawn.add(name)
                axes.plot(
                    dot.printed, [y] * len(dot.printed), marker="D", markersize=5, markerfacecolor="none",
                    color="#444444", linestyle="none", clip_on=False,
                )  # fmt: skip
            top += heights[row]
        if printed:
            axes.plot(
                [], [], marker="D", markersize=5, markerfacecolor="none", color="#444444", linestyle="none",
                label="reported",
            )  # fmt: skip
        axes.set_ylim(top, 0)
        axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=8)
        _x_axis(axes, figure)
        axes.set_xlabel(clean(figure.x_title))
    return out.getvalue()


def _x_axis(axes: Any, figure: Dots) -> None:
    dots = [dot for row in figure.rows.values() for dot in row.values()]
    values = [end for dot in dots for end in (dot.value, dot.low, dot.high, *dot.printed) if end is not None]
    if values and min(values) >= 0 and max(values) <= 1:
        axes.set_xlim(0, 1)
    else:
        axes.axvline(0, color="#999999", linewidth=0.8)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=8)


def grid_svg(figure: Grid) -> bytes:
    """A heat map with its numbers."""
    xs, ys = (sorted({key[axis] for key in figure.cells}) for axis in (0, 1))
    with _canvas(figure.name, figure.title, figure.notes, max(1.2, 0.34 * len(ys)), 0) as (axes, out):
        values = [
            [100 * figure.cells[x, y].value if (x, y) in figure.cells else float("nan") for x in xs]
            for y in ys
        ]
        drawn = [value for row in values for value in row if value == value]
        middle = (min(drawn) + max(drawn)) / 2 if drawn else 0.0
        axes.imshow(values, origin="lower", aspect="auto", cmap="Blues")
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                if value == value:
                    colour = "white" if value > middle else "black"
                    axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
        axes.set_xlabel(clean(figure.x_title))
        axes.set_ylabel(clean(figure.y_title))
    return out.getvalue()


@contextmanager
def _canvas(
    name: str, title: str, notes: Sequence[str], height: float, entries: int
) -> Iterator[tuple[Any, io.BytesIO]]:
    """Axes of so many inches with title, legend and notes; written when the block ends.

    Text stays text, nothing is loaded from elsewhere, and the same figure gives the same bytes.
    """
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ours = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.size": 9.0}
    with warnings.catch_warnings(), style.context(["default", ours]):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        heading = textwrap.wrap(clean(title), 66)
        caption = [line for note in notes for line in textwrap.wrap(clean(note), 104)]
        legend = 0.19 * ((entries + 1) // 2) if entries > 1 else 0.0
        above = 0.25 + 0.19 * len(heading)
        below = 0.5 + legend + 0.08 + len(caption) * _LINE
        whole = above + height + below
        left = 1.9 if entries else 0.7
        figure = Figure(figsize=(_WIDTH, whole))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((left / _WIDTH, below / whole, 1 - (left + 0.2) / _WIDTH, height / whole))
        out = io.BytesIO()
        yield axes, out
        figure.text(
            0.1 / _WIDTH, 1 - 0.08 / whole, "\n".join(heading), fontsize=10.5, fontweight="bold", va="top"
        )
        if entries > 1:
            axes.legend(
                loc="upper left", bbox_to_anchor=((0.1 - left) / (_WIDTH - left - 0.2), -0.45 / height),
                ncols=2, frameon=False, fontsize=8, alignment="left", borderaxespad=0, borderpad=0,
                labelspacing=0.45, handlelength=2,
            )  # fmt: skip
        figure.text(
            0.1 / _WIDTH, (len(caption) * _LINE + 0.02) / whole, "\n".join(caption), fontsize=7.5, va="top",
            color="#333333", linespacing=1.3,
        )  # fmt: skip
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": clean(title)})
