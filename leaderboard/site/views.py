"""What each page shows, gathered from boards and entries. Pure functions; `pages` renders the results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from leaderboard.figure import term
from leaderboard.robustness import PLACES
from leaderboard.site import VERSION
from leaderboard.site.boards import Board, HeatMap, Standing
from leaderboard.site.charts import Chart, ChartPoint, Series, line_chart, scatter
from leaderboard.site.controls import Control, Grid, cell_grid, controls_drawn
from leaderboard.site.entries import Entry
from leaderboard.site.looks import DASHES, MARKERS, Look
from leaderboard.site.ranks import Rank
from leaderboard.site.results import Point, TaskResult
from leaderboard.summary import Row

DRAWN = 6
"""Lines in a chart of several entries: the best ones; the table and the CSV hold all."""


class BoardCell(NamedTuple):
    """An entry's headline on a board, with the official score beside it; for `score`, `note`: `Standing`."""

    row: Row
    official: Row | None
    rank: Rank | None
    score: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Section:
    """The entries that ran on one data set; `cells[i][j]` is entry i on board j, or None."""

    data: str
    embedded: bool
    boards: tuple[Board, ...]
    entries: tuple[Entry, ...]
    cells: tuple[tuple[BoardCell | None, ...], ...]


@dataclass(frozen=True)
class Overview:
    """The first page; `choices` are the values that its filters offer."""

    sections: tuple[Section, ...]
    choices: dict[str, tuple[str, ...]]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": VERSION,
            "choices": self.choices,
            "sections": [
                {
                    "data": section.data,
                    "embedded": section.embedded,
                    "boards": [board.id for board in section.boards],
                    "entries": [
                        {
                            "id": entry.id,
                            "label": entry.label,
                            "scores": [None if cell is None else _cell_record(cell) for cell in cells],
                        }
                        for entry, cells in zip(section.entries, section.cells, strict=True)
                    ],
                }
                for section in self.sections
            ],
        }


def _cell_record(cell: BoardCell) -> dict[str, Any]:
    return {
        "ours": cell.row._asdict(),
        "official": None if cell.official is None else cell.official._asdict(),
        "rank": None if cell.rank is None else cell.rank._asdict(),
    }


def summarize_overview(entries: Sequence[Entry], boards: Sequence[Board]) -> Overview:
    """The first page: a section for each data set, real data first; permuted tasks are on another page."""
    plain = [board for board in boards if not board.permuted]
    sections = [_section(data, entries, plain) for data in dict.fromkeys(board.data for board in plain)]
    sections.sort(key=lambda section: (section.embedded, section.data))
    fields = ("family", "size", "intervention", "weights")
    choices = {name: tuple(sorted({getattr(entry, name) for entry in entries})) for name in fields}
    choices["data"] = tuple(section.data for section in sections)
    return Overview(tuple(sections), choices)


def _section(data: str, entries: Sequence[Entry], boards: Sequence[Board]) -> Section:
    boards_here = [board for board in boards if board.data == data]
    cells_of: dict[str, dict[str, BoardCell]] = {}
    for board in boards_here:
        for standing in board.standings:
            result = standing.result
            cell = BoardCell(result.headline, result.official, standing.rank, standing.score, standing.note)
            cells_of.setdefault(standing.entry.id, {})[board.id] = cell
    entries_here = [entry for entry in entries if entry.id in cells_of]
    entries_here.sort(key=lambda entry: -_mean(cells_of[entry.id].values()))
    cells = tuple(tuple(cells_of[entry.id].get(board.id) for board in boards_here) for entry in entries_here)
    return Section(data, data == "embedded", tuple(boards_here), tuple(entries_here), cells)


def _mean(cells: Iterable[BoardCell]) -> float:
    scores = [cell.score for cell in cells if cell.row.score is not None]
    return sum(scores) / len(scores) if scores else -1.0


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


def summarize_model(entry: Entry, boards: Sequence[Board]) -> list[ModelTask]:
    """The boards of one entry with its curves."""
    tasks = []
    for board in boards:
        standing = next((one for one in board.standings if one.entry.id == entry.id), None)
        if standing is not None:
            better, worse = _apart(board, standing)
            curves = _curves(board, standing)
            tasks.append(
                ModelTask(board, standing.result, standing.rank, curves, better, worse, standing.note)
            )
    return tasks


def _apart(board: Board, standing: Standing) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    entries = {one.result.id: one.entry for one in board.standings}
    better: list[Entry] = []
    worse: list[Entry] = []
    for test, p in zip(board.tests, board.ps, strict=True):
        verdict = test.verdict(p, higher_is_better=board.higher_is_better)
        if standing.result.id in (test.a, test.b) and verdict in ("better", "worse"):
            other = test.b if test.a == standing.result.id else test.a
            (better if (verdict == "better") == (other == test.b) else worse).append(entries[other])
    return tuple(better), tuple(worse)


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
    """A board's page; `official` is None if no entry has that score."""

    board: Board
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
    return TaskPage(board, tuple(filter(None, charts)), tuple(board.heat_maps()), scattered)


class RobustTask(NamedTuple):
    """A permuted board on the robustness page: its measured standings, and the score by position."""

    board: Board
    standings: tuple[Standing, ...]
    chart: Chart | None


def summarize_robustness(boards: Sequence[Board]) -> list[RobustTask]:
    """Each permuted board that has docs of several orders."""
    tasks = []
    for board in boards:
        measured = tuple(one for one in board.standings if one.result.robustness)
        if measured:
            tasks.append(RobustTask(board, measured, _places(board, measured[:DRAWN])))
    return tasks


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
