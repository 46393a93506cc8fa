"""What each page shows, gathered from boards and entries. Pure functions; `pages` renders the results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from leaderboard.figure import term
from leaderboard.robustness import PLACES
from leaderboard.site import VERSION
from leaderboard.site.bases import BaseDifference
from leaderboard.site.boards import Board, HeatMap, Standing
from leaderboard.site.charts import Chart, ChartPoint, Series, line_chart, scatter
from leaderboard.site.controls import Control, Grid, cell_grid, controls_drawn
from leaderboard.site.entries import Entry
from leaderboard.site.looks import DASHES, MARKERS, Look
from leaderboard.site.overview import asked
from leaderboard.site.ranks import Rank
from leaderboard.site.results import Point, TaskResult

DRAWN = 6
"""Lines in a chart of several entries: the best ones; the table and the CSV hold all."""


class Curve(NamedTuple):
    """A chart of one control, and the points behind it."""

    control: Control
    chart: Chart
    points: tuple[Point, ...]
    grid: Grid | None


class ModelTask(NamedTuple):
    """One board on a model's page; `better` and `worse` are the entries that a test shows to be so."""

    board: Board
    result: TaskResult
    rank: Rank | None
    curves: tuple[Curve, ...]
    better: tuple[Entry, ...]
    worse: tuple[Entry, ...]
    note: str = ""
    base: BaseDifference | None = None


def summarize_model(entry: Entry, boards: Sequence[Board]) -> list[ModelTask]:
    """The boards of one entry with its curves."""
    tasks = []
    for board in boards:
        standing = next((one for one in board.standings if one.entry.id == entry.id), None)
        if standing is not None:
            better, worse = board.apart.get(standing.result.id, ((), ()))
            curves = _curves(board, standing)
            tasks.append(
                ModelTask(
                    board,
                    standing.result,
                    standing.rank,
                    curves,
                    better,
                    worse,
                    standing.note,
                    standing.base,
                )
            )
    return tasks


def _curves(board: Board, standing: Standing) -> tuple[Curve, ...]:
    curves = []
    controls = controls_drawn(board.kind, [standing.result.curves])
    grid = cell_grid(standing.result.curves.get("cell", ()))
    for control in controls:
        points = tuple(standing.result.curves[control.key])
        if grid is None:
            chart = _chart(board, control, [(standing.entry, points)])
            if chart:
                curves.append(Curve(control, chart, points, None))
        elif control.key == "cell":
            curves.append(Curve(control, _grid_chart(board, standing.entry, grid), points, grid))
    return tuple(curves)


def _chart(board: Board, control: Control, lines: Sequence[tuple[Entry, Sequence[Point]]]) -> Chart | None:
    series = [
        Series(entry.label, entry.drawn, _drawn(points, control.prefix), entry.id)
        for entry, points in lines
        if any(point.score is not None for point in points)
    ]
    title = f"{board.title}: score against {control.title}"
    return line_chart(title, control.title, series, controlled=control.controlled) if series else None


def _drawn(points: Iterable[Point], prefix: str = "") -> list[ChartPoint]:
    return [
        ChartPoint(point.value.removeprefix(prefix), point.score, point.low, point.high, point.n)
        for point in points
        if point.score is not None
    ]


def _grid_chart(board: Board, entry: Entry, grid: Grid) -> Chart:
    """The cells of an entry: the key with more values across, a line for each value of the other."""
    values, across, other = [list(row) for row in grid.values], grid.columns, grid.rows
    key, other_key = grid.column_key, grid.row_key
    if len(grid.rows) > len(grid.columns):
        values, across, other = (
            [list(column) for column in zip(*values, strict=True)],
            grid.rows,
            grid.columns,
        )
        key, other_key = other_key, key
    series = []
    for i, (name, row) in enumerate(zip(other, values, strict=True)):
        points = [point._replace(value=x) for x, point in zip(across, row, strict=True) if point is not None]
        colour, dash, marker = entry.drawn
        look = Look(colour, (dash + i) % len(DASHES), (marker + i) % len(MARKERS))
        series.append(Series(f"{other_key} = {name}", look, _drawn(points)))
    title = f"{board.title}: score against {term(key)}"
    return line_chart(title, term(key), [one for one in series if one.points], controlled=True)


class TaskPage(NamedTuple):
    """A board's page; `asked`: what its task asks; `official` is None if no entry has that score."""

    board: Board
    asked: str
    charts: tuple[Chart, ...]
    heat_maps: tuple[HeatMap, ...]
    official: Chart | None


def summarize_task(board: Board) -> TaskPage:
    """Standings, scores against each control, ours against official."""
    charts = []
    for control in controls_drawn(board.kind, [one.result.curves for one in board.standings]):
        if control.key != "cell" or control.prefix:
            lines = [(one.entry, one.result.curves.get(control.key, [])) for one in board.standings]
            charts.append(_chart(board, control, [pair for pair in lines if pair[1]][:DRAWN]))
    pairs = [
        (one.entry.label, one.entry.drawn, one.entry.id, official.score, one.result.headline.score)
        for one in board.standings
        if (official := one.result.official) is not None
        if official.score is not None and one.result.headline.score is not None
    ]
    title = f"{board.title}: our score against the official one"
    scattered = scatter(title, "official score", "our score", pairs) if pairs else None
    return TaskPage(board, asked(board), tuple(filter(None, charts)), tuple(board.heat_maps()), scattered)


class RobustTask(NamedTuple):
    """A permuted board on the robustness page.

    Attributes:
        board: the board.
        standings: those that were measured.
        chart: of the score by position.
        common: docs and orders, as far as they are the same for all.
        differ: the rest, of each standing; empty if nothing differs.
    """

    board: Board
    standings: tuple[Standing, ...]
    chart: Chart | None
    common: tuple[str, ...] = ()
    differ: tuple[tuple[str, ...], ...] = ()


def summarize_robustness(boards: Sequence[Board]) -> list[RobustTask]:
    """Each permuted board that has docs of several orders."""
    tasks = []
    for board in boards:
        measured = tuple(one for one in board.standings if one.result.robustness)
        if measured:
            facts = [_facts(one.result.robustness or {}) for one in measured]
            common = tuple(fact for fact in facts[0] if all(fact in others for others in facts))
            differ = tuple(tuple(fact for fact in of_one if fact not in common) for of_one in facts)
            chart = _places(board, measured[:DRAWN])
            tasks.append(RobustTask(board, measured, chart, common, differ if any(differ) else ()))
    return tasks


def _facts(robustness: Mapping[str, Any]) -> list[str]:
    """On which docs and orders the measures are."""
    counts = {
        "docs": robustness["n"],
        "docs unscored, left out": robustness["unscored"],
        "docs with one order, left out": robustness["single"],
        "docs with all targets in one image, for positions": robustness["placed"],
        "other docs": robustness["spread_out"],
    }
    return [str(robustness["orders"]), *(f"{count} {name}" for name, count in counts.items() if count)]


def _places(board: Board, standings: Sequence[Standing]) -> Chart | None:
    series = []
    for standing in standings:
        rows = {
            row["place"]: row
            for row in (standing.result.robustness or {})["places"]
            if row["n_images"] is None
        }
        points = []
        for name in (name for name in PLACES if name in rows):
            score = rows[name]["score"]
            points.append(
                ChartPoint(name, score["estimate"], score["low"], score["high"], rows[name]["docs"])
            )
        if points:
            series.append(Series(standing.entry.label, standing.entry.drawn, points, standing.entry.id))
    if not series:
        return None
    title = f"{board.title}: score by the position of the image that holds the answer"
    return line_chart(title, "position of the image (nearest quarter)", series)


def entry_index(entries: Sequence[Entry], boards: Sequence[Board]) -> dict[str, Any]:
    """What the head-to-head page offers: boards with two results at least; labels and looks of entries."""
    offered = [board for board in boards if len(board.standings) > 1]
    return {
        "version": VERSION,
        "entries": {entry.id: entry.label for entry in entries},
        "looks": {entry.id: entry.drawn for entry in entries},
        "markers": MARKERS,
        "boards": [
            {
                "id": board.id,
                "title": f"{board.title} · {board.data} · {board.docs} docs",
                "entries": [standing.entry.id for standing in board.standings],
            }
            for board in offered
        ],
    }


def model_record(entry: Entry, tasks: Sequence[ModelTask]) -> dict[str, Any]:
    """A model's page as JSON."""
    ranks: Mapping[str, Any] = {task.board.id: task.rank and task.rank._asdict() for task in tasks}
    return {"version": VERSION, **entry.record(), "ranks": ranks}
