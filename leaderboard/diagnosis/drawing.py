"""A plot of a diagnosis as SVG, its points as CSV, and its content in words."""

import csv
import io
import textwrap
import warnings
from typing import Any

from leaderboard.diagnosis.results import Plot, Series
from leaderboard.figure import COLOURS, DASHES, GREY, MARKERS, clean

_WIDTH, _AXES, _LEFT, _RIGHT, _LINE = 6.4, 3.0, 0.72, 0.2, 0.155

COLUMNS = ("figure", "series", "x", "value", "low", "high", "docs")
"""Of the CSV; the band has a series of its own."""


def render_csv(plot: Plot) -> str:
    """One point a line; what has no value is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in plot.series:
        for x, value, low, high, n in line.points:
            ends = ["" if end is None else f"{end:.6g}" for end in (low, high)]
            writer.writerow([plot.name, line.label, f"{x:g}", f"{value:.6g}", *ends, n])
    if plot.band is not None:
        for x, low, high, middle in zip(*plot.band[1:], strict=True):
            row = [plot.name, plot.band.label, f"{x:g}", f"{middle:.6g}", f"{low:.6g}", f"{high:.6g}", ""]
            writer.writerow(row)
    return out.getvalue()


def words_of(plot: Plot) -> str:
    """The plot for those who do not see it."""
    parts = [f"{plot.title}. {plot.y_title} by {plot.x_title}."]
    for line in plot.series:
        values = [point.value for point in line.points]
        first, last = line.points[0], line.points[-1]
        parts.append(
            f"{line.label}: {first.value:.3f} at {_tick(plot, first.x)}, {last.value:.3f} at "
            f"{_tick(plot, last.x)}, between {min(values):.3f} and {max(values):.3f}."
        )
    if plot.band is not None:
        parts.append(f"{plot.band.label}: {plot.band.low[0]:.3f} to {plot.band.high[0]:.3f}.")
    return " ".join([*parts, *plot.notes])


def _tick(plot: Plot, x: float) -> str:
    return dict(plot.ticks).get(x, f"{plot.x_title} {x:g}")


def render_svg(plot: Plot) -> bytes:
    """The plot: lines with bands of their intervals, and what they are compared with.

    Text stays text, nothing is loaded from elsewhere, and the same plot gives the same bytes.
    """
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ours = {"svg.fonttype": "none", "svg.hashsalt": plot.name, "text.parse_math": False, "font.size": 9.0}
    with warnings.catch_warnings(), style.context(["default", ours]):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        sizes = sorted({point.n for line in plot.series for point in line.points})
        docs = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}" if sizes else "0"
        notes = (
            *plot.notes,
            f"n = {docs} docs a point; bands: 95 % over docs of this image pool, from 8 docs on.",
        )
        caption = [line for note in notes for line in textwrap.wrap(clean(note), 104)]
        title = textwrap.wrap(clean(plot.title), 62)
        rows = len(plot.series) + (plot.band is not None)
        legend = (rows + 1) // 2 * 0.19 if rows > 1 else 0.19
        top = 0.45 + 0.19 * (len(title) - 1)
        below = 0.5 + legend + 0.08 + len(caption) * _LINE
        height = top + _AXES + below
        drawing = Figure(figsize=(_WIDTH, height))
        FigureCanvasSVG(drawing)
        axes = drawing.add_axes(
            (_LEFT / _WIDTH, below / height, 1 - (_LEFT + _RIGHT) / _WIDTH, _AXES / height)
        )
        _draw_band(axes, plot)
        for number, line in enumerate(plot.series):
            _draw_line(axes, line, number)
        if plot.mark is not None:
            at, text = plot.mark
            axes.axvline(at, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)))
            axes.annotate(
                text, (at, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
                textcoords="offset points", fontsize=8, color=GREY,
            )  # fmt: skip
        if plot.ticks:
            axes.set_xticks([at for at, _ in plot.ticks], [text for _, text in plot.ticks])
            axes.set_xlim(plot.ticks[0][0] - 0.4, plot.ticks[-1][0] + 0.4)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0, top=plot.top)
        axes.set_xlabel(clean(plot.x_title))
        axes.set_ylabel(clean(plot.y_title))
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title("\n".join(title), loc="left", fontsize=10.5, fontweight="bold")
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.01, -0.46 / _AXES), ncols=2, frameon=False, fontsize=8,
            alignment="left", borderaxespad=0, borderpad=0, labelspacing=0.45, handlelength=3,
        )  # fmt: skip
        bottom = (len(caption) * _LINE + 0.02) / height
        drawing.text(
            (_LEFT - 0.05) / _WIDTH, bottom, "\n".join(caption), fontsize=7.5, va="top", color="#333333",
            linespacing=1.3,
        )  # fmt: skip
        out = io.BytesIO()
        drawing.savefig(out, format="svg", metadata={"Date": None, "Title": clean(plot.title)})
    return out.getvalue()


def _draw_band(axes: Any, plot: Plot) -> None:
    band = plot.band
    if band is None:
        return
    room = 0.4 if plot.ticks else 0.0
    x = (band.x[0] - room, *band.x[1:-1], band.x[-1] + room)
    axes.fill_between(x, band.low, band.high, color="#bbbbbb", alpha=0.45, linewidth=0)
    axes.plot(x, band.middle, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)), label=clean(band.label))


def _draw_line(axes: Any, line: Series, number: int) -> None:
    colour, x = COLOURS[number % len(COLOURS)], [point.x for point in line.points]
    low = [point.value if point.low is None else point.low for point in line.points]
    high = [point.value if point.high is None else point.high for point in line.points]
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        x,
        [point.value for point in line.points],
        color=colour,
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=1.3,
        linestyle=DASHES[number % len(DASHES)],
        label=clean(line.label),
    )
