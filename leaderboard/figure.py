"""A sweep's figure as SVG, and its numbers as CSV."""

import csv
import io
import itertools
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from leaderboard.labels import USUAL
from leaderboard.sweeps import SweepFigure, SweepPoint, Value

COLUMNS = ("sweep", "task", "data", *SweepPoint._fields)
"""Of the CSV."""

TERMS = {
    "n_images": ("images in a doc (N)", "N"),
    "spread": ("images with a target (s)", "s"),
    "distractors": ("distractors (d)", "d"),
    "k": ("target classes (k)", "k"),
    "total": ("target objects in a doc", "total"),
    "listed": ("classes to list", "listed"),
    "minority": ("images with the answer (s)", "s"),
    "confusable": ("confusable classes", "confusable"),
    "hard": ("hard distractors", "hard"),
    "pool": ("1-D pooling of vision tokens (factor)", "pooling"),
    "downsample": ("pixel down- and up-sampling (factor)", "down-sampling"),
    "stitch": ("stitching", "stitching"),
    "mask": ("intervention", "mask"),
    "layers": ("layers of the intervention", "layers"),
    "order": ("order of the images", "order"),
}
"""What keys are called on an axis and in a legend."""

METRICS = {"exact_match": "exact match", "f1": "micro F1"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's, which colour-blind readers can distinguish, without yellow."""

MARKERS = "os^Dv*PX"
DASHES = ((0, ()), (0, (7, 2, 1.5, 2)), (0, (5, 2)), (0, (1, 1.5)))
_CONSTANT = "best constant answer"
GREY = "#666666"
_WIDTH, _LEFT, _RIGHT, _TOP, _AXES = 6.4, 0.62, 0.2, 0.45, 3.1
_LINE = 0.155
"""Inches: the figure, its margins, the height of the axes, and of a line of small text."""

_FIELD = _WIDTH - _LEFT - _RIGHT
"""Inches of the axes' width."""

_LOG_FROM = 8
"""Numbers on the axis that span this factor are drawn on a logarithmic axis."""


class _Style(NamedTuple):
    colour: str
    marker: str
    dashes: Any
    filled: bool


class FigureLine(NamedTuple):
    """The points of one line of the figure, in the order of the axis."""

    label: str
    style: _Style
    points: list[SweepPoint]


def render_csv(figure: SweepFigure) -> str:
    """All points, one a line, with every metric; what has no value is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in figure.points:
        writer.writerow((figure.name, figure.task, figure.data, *point))
    return out.getvalue()


def render_svg(figure: SweepFigure) -> bytes:
    """The figure: scores with their intervals over what varies, and what a constant answer would score.

    Text stays text, nothing is loaded from elsewhere, and the same figure gives the same bytes.
    """
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ours = {"svg.fonttype": "none", "svg.hashsalt": figure.task, "text.parse_math": False, "font.size": 9.0}
    with warnings.catch_warnings(), style.context(["default", ours]):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts draw the text
        lines = lines_of(figure)
        labels = [*(line.label for line in lines if line.label), _CONSTANT]
        columns = max(1, min(len(labels), 105 // (max(map(len, labels)) + 9)))
        rows = math.ceil(len(labels) / columns) if columns > 1 else sum(map(_height, labels))
        rows += figure.series is not None
        caption = [text for part in caption_of(figure) for text in _wrap(part, 104)]
        title = _wrap(clean(figure.title), 60)
        ticks = _tick_texts(figure, 84)
        top = _TOP + 0.19 * (len(title) - 1)
        legend_top = 0.42 + 0.15 * max(map(_height, ticks.values()))
        below = legend_top + rows * 0.19 + 0.12 + len(caption) * _LINE
        height = top + _AXES + below
        drawing = Figure(figsize=(_WIDTH, height))
        FigureCanvasSVG(drawing)
        axes = drawing.add_axes(
            (_LEFT / _WIDTH, below / height, 1 - (_LEFT + _RIGHT) / _WIDTH, _AXES / height)
        )
        draw_sweep(axes, figure)
        axes.set_title("\n".join(title), loc="left", fontsize=10.5, fontweight="bold")
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.01, -legend_top / _AXES),
            ncols=columns,
            frameon=False,
            fontsize=8,
            title=term(figure.series) if figure.series else None,
            title_fontsize=8,
            alignment="left",
            borderaxespad=0,
            borderpad=0,
            labelspacing=0.45,
            handlelength=3,
        )
        bottom = (len(caption) * _LINE + 0.02) / height
        drawing.text(
            (_LEFT - 0.05) / _WIDTH,
            bottom,
            "\n".join(caption),
            fontsize=7.5,
            va="top",
            color="#333333",
            linespacing=1.3,
        )
        out = io.BytesIO()
        drawing.savefig(out, format="svg", metadata={"Date": None, "Title": clean(figure.title)})
    return out.getvalue()


def draw_sweep(axes: Any, figure: SweepFigure, *, inches: float = _FIELD, scale: float = 1.0) -> None:
    """Draw the axis, the lines with their intervals, and the best constant answer.

    Args:
        axes: of matplotlib.
        figure: what is drawn.
        inches: the width of the axes.
        scale: of marks and lines.
    """
    lines = lines_of(figure)
    positions = _axis(axes, figure, _tick_texts(figure, round(84 * inches / _FIELD)), inches)
    for i, line in enumerate(lines):
        _draw(axes, line, positions, _dodge(positions, i, len(lines), inches), scale)
    _constants(axes, lines, positions)


def lines_of(figure: SweepFigure) -> list[FigureLine]:
    """The lines in the order of the legend."""
    groups: dict[tuple[Value | None, str], list[SweepPoint]] = {}
    for point in figure.points:
        groups.setdefault((point.series, point.line), [])
    for point in figure.drawn:
        groups[point.series, point.line].append(point)
    values = _ordered([series for series, _ in groups])
    texts = list(dict.fromkeys(line for _, line in groups))
    lines = []
    for (series, text), points in sorted(
        groups.items(), key=lambda item: (values.index(item[0][0]), texts.index(item[0][1]))
    ):
        if points:
            named = [] if series is None else [f"{_short(figure.series)} = {series}"]
            label = "\n".join(_wrap(clean(", ".join([*named, text] if text else named)), 86))
            style = _style(values.index(series), texts.index(text), len(values), len(texts))
            lines.append(FigureLine(label, style, points))
    return lines


def _style(value: int, text: int, values: int, texts: int) -> _Style:
    """Colours stand for series, dashes for runs if both differ; marks distinguish lines without colour."""
    if values > 1 and texts == 2:
        return _Style(COLOURS[value % 7], MARKERS[value % 8], DASHES[text], text == 0)
    i = value * texts + text
    if values > 1 and texts > 2:
        return _Style(COLOURS[value % 7], MARKERS[i % 8], DASHES[text % 4], True)
    return _Style(COLOURS[i % 7], MARKERS[i % 8], DASHES[0], True)


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Distinct values: numbers by size, else as they came."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if _numeric(distinct) else distinct


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _axis(axes: Any, figure: SweepFigure, ticks: dict[Value, str], inches: float) -> dict[Value, float]:
    """Set both axes up; returns where each value of x lies on its axis."""
    values: list[Any] = list(ticks)
    positions: dict[Value, float] = {value: float(i) for i, value in enumerate(values)}
    if _numeric(values):
        positive = [value for value in values if value > 0]
        log = values[0] >= 0 and bool(positive) and positive[-1] >= _LOG_FROM * positive[0]
        # a zero is drawn one step below the smallest number
        low = math.log2(positive[0]) - 1 if log else 0.0
        positions = {v: (math.log2(v) if v > 0 else low) if log else float(v) for v in values}
    at = list(positions.values())
    room = 0.07 * (at[-1] - at[0]) if _numeric(values) and len(at) > 1 else 0.5
    axes.set_xlim(at[0] - room, at[-1] + room)
    crowded = _crowded(positions, ticks, inches)
    axes.set_xticks(at, ["" if value in crowded else ticks[value] for value in values])
    axes.set_xlabel(clean(term(figure.x)))
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylabel(METRICS.get(figure.metric, figure.metric))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return positions


def _values(figure: SweepFigure) -> list[Any]:
    return _ordered([point.x for point in figure.points])


def _tick_texts(figure: SweepFigure, characters: int) -> dict[Value, str]:
    """The label of each value on the axis, in lines that fit beside the others."""
    values = _values(figure)
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    room = max(6, characters // len(values))
    return {
        value: "\n".join(textwrap.wrap(clean(text), room) or [""])
        for value, text in zip(values, texts, strict=True)
    }


def _crowded(positions: dict[Value, float], ticks: dict[Value, str], inches: float) -> set[Value]:
    """Numbers whose label would run into the one before."""
    left_out: set[Value] = set()
    inch = inches / _span(positions)
    end = -math.inf
    for value, at in positions.items():
        half = 0.04 * len(ticks[value]) + 0.03
        if _numeric(list(positions)) and at * inch - half < end:
            left_out.add(value)
        else:
            end = at * inch + half
    return left_out


def _span(positions: dict[Value, float]) -> float:
    """The length of the axis in units of x."""
    at = list(positions.values())
    return (at[-1] - at[0]) * 1.14 or 1.0


def _dodge(positions: dict[Value, float], line: int, lines: int, inches: float) -> float:
    """Points (1/72 inch) by which a line is moved aside, so that intervals do not hide each other."""
    at, span = sorted(positions.values()), _span(positions)
    gap = min((b - a for a, b in itertools.pairwise(at)), default=span) / span
    room = 0.6 * gap * 72 * inches
    return (line - (lines - 1) / 2) * min(6.0, room / max(1, lines))


def _draw(axes: Any, line: FigureLine, positions: dict[Value, float], dodge: float, scale: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    style, points = line.style, sorted(line.points, key=lambda point: positions[point.x])
    moved = axes.transData + ScaledTranslation(dodge / 72, 0, axes.figure.dpi_scale_trans)
    x, y = [positions[point.x] for point in points], [point.score or 0.0 for point in points]
    bars = [(at, point) for at, point in zip(x, points, strict=True) if point.low is not None]
    axes.vlines(
        [at for at, _ in bars],
        [point.low for _, point in bars],
        [point.high for _, point in bars],
        color=style.colour,
        linewidth=1.1 * scale,
        transform=moved,
        clip_on=False,
    )
    axes.plot(
        x,
        y,
        color=style.colour,
        marker=style.marker,
        markersize=(6.5 if style.marker in "*PX" else 5) * scale,
        markerfacecolor=style.colour if style.filled else "white",
        linestyle=style.dashes if _numeric([point.x for point in points]) else "none",
        linewidth=1.3 * scale,
        label=line.label or "_",
        transform=moved,
        clip_on=False,
        zorder=3,
    )


def _constants(axes: Any, lines: Sequence[FigureLine], positions: dict[Value, float]) -> None:
    """What the best constant answer scores: one grey line if it is the same for all lines."""
    drawn: dict[tuple[tuple[float, float], ...], str] = {}
    for line in lines:
        at = sorted((positions[p.x], p.constant) for p in line.points if p.constant is not None)
        drawn.setdefault(tuple(at), line.style.colour)
    longest = max(drawn, key=len)
    nested = all(set(at) <= set(longest) for at in drawn)
    for line_at, colour in {longest: GREY}.items() if nested else drawn.items():
        axes.plot(
            [x for x, _ in line_at],
            [y for _, y in line_at],
            color=colour,
            linewidth=0.9,
            linestyle=(0, (3, 2)),
            marker="_" if len(line_at) == 1 else "",
            markersize=22,
            zorder=1.5,
        )
    axes.plot([], [], color=GREY, linewidth=0.9, linestyle=(0, (3, 2)), label=_CONSTANT)


def caption_of(figure: SweepFigure) -> list[str]:
    """What a reader must know of the figure, in paragraphs."""
    drawn, common = figure.drawn, figure.common
    sizes = sorted({point.n for point in drawn})
    n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    kinds = sorted({point.interval for point in drawn if point.low is not None})
    bars = f"bars: {', '.join(kinds)}, over docs of this image pool" if kinds else "no intervals"
    shared = [f"data {figure.data}", *(common[key] for key in ("model", "checkpoint") if key in common)]
    shared += [f"mask {common['mask']}"] if common.get("mask", "-") != "-" else []
    unusual = {key: common[key] for key, usual in USUAL.items() if common.get(key, str(usual)) != str(usual)}
    shared += [f"{key} {value}" for key, value in unusual.items()]
    unscored = sum(point.unscored for point in figure.points if point.metric == figure.metric)
    empty = sum(point.metric == figure.metric for point in figure.points) - len(drawn)
    left_out = f"Left out: {unscored} unscored docs" + (
        f", {empty} points without a scored doc" if empty else ""
    )
    parts = [f"n = {n} scored docs a point; {bars}.", f"{left_out}.", f"All points: {', '.join(shared)}."]
    if any("(random)" in point.checkpoint for point in drawn):
        parts.append("checkpoint (random): untrained weights; answers are noise, scores mean nothing.")
    if figure.data == "embedded":
        parts.append("data embedded: the packaged glyph scenes, not COCO pictures.")
    return [clean(part) for part in parts]


def term(key: str) -> str:
    """What a key is called on an axis."""
    return TERMS.get(key, (key, key))[0]


def _short(key: str | None) -> str:
    return TERMS.get(key or "", (key, key))[1] or ""


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _height(text: str) -> int:
    return text.count("\n") + 1


def clean(text: str) -> str:
    """Without characters that XML cannot hold."""
    return "".join(char for char in text if char.isprintable())
