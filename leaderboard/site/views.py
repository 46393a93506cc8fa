"""What each page shows, gathered from boards and entries. Pure functions; `pages` renders the results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from leaderboard.robustness import PLACES
from leaderboard.site import VERSION
from leaderboard.site.boards import Board, HeatMap, Standing
from leaderboard.site.charts import Chart, ChartPoint, line_chart, scatter
from leaderboard.site.entries import Entry
from leaderboard.site.ranks import Rank
from leaderboard.site.results import CONTROLS, Point, TaskResult, in_order
from leaderboard.summary import Row

DRAWN = 6
"""Lines in a chart of several entries: the best ones; the table and the CSV hold all."""

CONTROL_TITLES = {
    "n_images": "images in the doc (N)",
    "spread": "images with a target (s)",
    "distractors": "images without a target (d)",
    "k": "target classes (k)",
    "cell": "cell of the sweep",
}


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


class Grid(NamedTuple):
    """The cells of a sweep over two keys: `values[i][j]` is a point or None."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_key: str
    column_key: str
    values: tuple[tuple[Point | None, ...], ...]


def cell_grid(points: Sequence[Point]) -> Grid | None:
    """The cells of a sweep as a grid, or None unless each is named by the same two keys."""
    by_cell: dict[tuple[str, str], Point] = {}
    keys = set()
    for point in points:
        parts = [part.partition("=") for part in point.value.split(",")]
        if len(parts) != 2:
            return None
        keys.add((parts[0][0], parts[1][0]))
        by_cell[parts[0][2], parts[1][2]] = point
    if len(keys) != 1:
        return None
    ((row_key, column_key),) = keys
    rows, columns = (tuple(in_order({key[i] for key in by_cell})) for i in (0, 1))
    values = tuple(tuple(by_cell.get((row, column)) for column in columns) for row in rows)
    return Grid(rows, columns, row_key, column_key, values)


class Curve(NamedTuple):
    """A chart of one control, and the points behind it."""

    control: str
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
            curves = tuple(
                _curve(board, standing, control) for control in CONTROLS if control in standing.result.curves
            )
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


def _curve(board: Board, standing: Standing, control: str) -> Curve:
    points = tuple(standing.result.curves[control])
    chart = _chart(board, control, [(standing.entry.label, points)])
    return Curve(control, chart, points, cell_grid(points) if control == "cell" else None)


def _chart(board: Board, control: str, series: Sequence[tuple[str, Sequence[Point]]]) -> Chart:
    lines = [
        (label, [ChartPoint(p.value, p.score, p.low, p.high) for p in points if p.score is not None])
        for label, points in series
    ]
    lines = [(label, points) for label, points in lines if points]
    title = f"{board.title}: score against {CONTROL_TITLES[control]}"
    return line_chart(title, CONTROL_TITLES[control], "score", lines)


class TaskPage(NamedTuple):
    """A board's page; `charts` and `heat_maps` go together, `official` is None if no entry has that score."""

    board: Board
    charts: tuple[Chart, ...]
    heat_maps: tuple[HeatMap, ...]
    official: Chart | None


def summarize_task(board: Board) -> TaskPage:
    """Standings, scores against each control, ours against official."""
    maps = tuple(board.heat_maps())
    charts = []
    for heat_map in maps:
        series = [(one.entry.label, one.result.curves.get(heat_map.control, [])) for one in board.standings]
        charts.append(_chart(board, heat_map.control, [pair for pair in series if pair[1]][:DRAWN]))
    pairs = [
        (one.entry.label, one.result.official.score, one.result.headline.score)
        for one in board.standings
        if one.result.official is not None
        if one.result.official.score is not None and one.result.headline.score is not None
    ]
    title = f"{board.title}: our score against the official one"
    official = scatter(title, "official score", "our score", pairs) if pairs else None
    return TaskPage(board, tuple(charts), maps, official)


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
        scores = {
            row["place"]: row["score"]
            for row in (standing.result.robustness or {})["places"]
            if row["n_images"] is None
        }
        points = [
            ChartPoint(name, scores[name]["estimate"], scores[name]["low"], scores[name]["high"])
            for name in PLACES
            if name in scores
        ]
        if points:
            series.append((standing.entry.label, points))
    if not series:
        return None
    title = f"{board.title}: score by the position of the image that holds the answer"
    return line_chart(title, "position among the images of the doc, to the nearest quarter", "score", series)


def entry_index(entries: Sequence[Entry], boards: Sequence[Board]) -> dict[str, Any]:
    """What the head-to-head page offers: boards with two results at least, and the entries' labels."""
    offered = [board for board in boards if len(board.standings) > 1]
    return {
        "version": VERSION,
        "entries": {entry.id: entry.label for entry in entries},
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
