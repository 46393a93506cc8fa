"""The first page: a table for each data set, its rows grouped by checkpoint, and what the tasks ask."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from leaderboard.site import VERSION
from leaderboard.site.bases import BaseDifference
from leaderboard.site.boards import Board
from leaderboard.site.doc_pages import Example
from leaderboard.site.entries import Entry
from leaderboard.site.ranks import Rank
from leaderboard.summary import Row
from mimic_eval.records import TASK_KINDS

ASKED = {
    "counting": "How many objects of a class are there in all images together?",
    "listing": "Which classes of a category, such as animals, are there in any of the images?",
    "common": "Which class is in every image?",
    "oddone": "Which class is only in a minority of the images?",
}
"""What a task asks, in a sentence."""


def asked(board: Board) -> str:
    """What the task of a board asks, in a sentence or two; empty for tasks that are not ours."""
    orders = " Each doc is asked in several orders of its images; its score is the mean over them."
    return ASKED[board.kind] + orders * board.permuted if board.kind in ASKED else ""


class BoardCell(NamedTuple):
    """An entry's headline on a board, with the official score beside it; the rest as in `Standing`."""

    row: Row
    official: Row | None
    rank: Rank | None
    score: float = 0.0
    note: str = ""
    base: BaseDifference | None = None


class Line(NamedTuple):
    """A row of a table.

    Attributes:
        entry: the entry.
        cells: its score on each board, or None.
        mean: over the four tasks, or None if it was not scored on all of them.
        is_base: other rows of its group are compared with it.
    """

    entry: Entry
    cells: tuple[BoardCell | None, ...]
    mean: float | None
    is_base: bool


class Group(NamedTuple):
    """The entries of one checkpoint and sender: its base first, then the best."""

    title: str
    size: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Section:
    """The entries that ran on one data set, the best group first.

    Attributes:
        data: the data's label.
        embedded: it is the packaged data.
        permuted: its tasks show each doc in several orders of its images.
        boards: the columns.
        groups: the rows.
        averaged: the boards that means are over, or none if it does not have all four tasks.
        constants: of each board, the score of the best answer that is the same for all docs.
        constant_mean: their mean over the four tasks.
    """

    data: str
    embedded: bool
    permuted: bool
    boards: tuple[Board, ...]
    groups: tuple[Group, ...]
    averaged: tuple[Board, ...]
    constants: tuple[float | None, ...]
    constant_mean: float | None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Of all groups."""
        return tuple(line.entry for group in self.groups for line in group.lines)


class Explained(NamedTuple):
    """A task with an example."""

    board: Board
    asked: str
    example: Example


@dataclass(frozen=True)
class Overview:
    """The first page; `choices` are the values that its filters offer."""

    sections: tuple[Section, ...]
    choices: dict[str, tuple[str, ...]]
    explained: tuple[Explained, ...]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": VERSION,
            "choices": self.choices,
            "sections": [_section_record(section) for section in self.sections],
        }


def _section_record(section: Section) -> dict[str, Any]:
    return {
        "data": section.data,
        "embedded": section.embedded,
        "permuted": section.permuted,
        "boards": [board.id for board in section.boards],
        "mean_over": [board.id for board in section.averaged],
        "best_constant_answer": [*section.constants, section.constant_mean],
        "entries": [
            {
                "id": line.entry.id,
                "label": line.entry.label,
                "group": group.title,
                "mean": line.mean,
                "scores": [None if cell is None else _cell_record(cell) for cell in line.cells],
            }
            for group in section.groups
            for line in group.lines
        ],
    }


def _cell_record(cell: BoardCell) -> dict[str, Any]:
    return {
        "ours": cell.row._asdict(),
        "official": None if cell.official is None else cell.official._asdict(),
        "rank": None if cell.rank is None else cell.rank._asdict(),
        "to_base": None if cell.base is None else cell.base.record(),
    }


def summarize_overview(
    entries: Sequence[Entry], boards: Sequence[Board], examples: Mapping[str, Example | None] | None = None
) -> Overview:
    """The first page: a section for each data set, real data first, tasks in several image orders below.

    Args:
        entries: all.
        boards: all.
        examples: of boards, by their id.
    """
    kinds = dict.fromkeys((board.data, board.permuted) for board in boards)
    sections = [_section(entries, [b for b in boards if (b.data, b.permuted) == kind]) for kind in kinds]
    sections.sort(key=lambda section: (section.embedded, section.data, section.permuted))
    fields = ("family", "size", "intervention", "weights")
    choices = {name: tuple(sorted({getattr(entry, name) for entry in entries})) for name in fields}
    choices["data"] = tuple(dict.fromkeys(section.data for section in sections))
    return Overview(tuple(sections), choices, _explained(sections, examples or {}))


def _section(entries: Sequence[Entry], boards: Sequence[Board]) -> Section:
    cells_of: dict[str, dict[str, BoardCell]] = {}
    bases = set()
    for board in boards:
        for one in board.standings:
            cell = BoardCell(
                one.result.headline, one.result.official, one.rank, one.score, one.note, one.base
            )
            cells_of.setdefault(one.entry.id, {})[board.id] = cell
            if one.base is not None:
                bases.add(one.base.base.id)
    averaged = _averaged(boards)
    groups: dict[tuple[str, ...], list[Line]] = {}
    for entry in entries:
        if entry.id in cells_of:
            cells = cells_of[entry.id]
            scores = [cells[board.id].row.score if board.id in cells else None for board in averaged]
            line = Line(
                entry, tuple(cells.get(board.id) for board in boards), _mean(scores), entry.id in bases
            )
            groups.setdefault((entry.kind, *entry.family_of_runs), []).append(line)
    constants = {board.id: board.constant for board in boards}
    return Section(
        data=boards[0].data,
        embedded=boards[0].data == "embedded",
        permuted=boards[0].permuted,
        boards=tuple(boards),
        groups=_ordered(groups.values()),
        averaged=averaged,
        constants=tuple(constants.values()),
        constant_mean=_mean([constants[board.id] for board in averaged]),
    )


def _ordered(groups: Iterable[list[Line]]) -> tuple[Group, ...]:
    ordered = []
    for lines in groups:
        lines.sort(key=lambda line: (not line.is_base, -_height(line), line.entry.label))
        first = lines[0].entry
        sender = f" ({first.submission['name']})" if first.submission and len(lines) > 1 else ""
        ordered.append(Group(f"{first.title}{sender}", first.size, tuple(lines)))
    ordered.sort(key=lambda group: (-max(map(_height, group.lines)), group.title))
    return tuple(ordered)


def _height(line: Line) -> float:
    """What rows are first sorted by: the mean over all boards, unscored docs as wrong."""
    scores = [cell.score for cell in line.cells if cell is not None and cell.row.score is not None]
    return sum(scores) / len(scores) if scores else -1.0


def _averaged(boards: Sequence[Board]) -> tuple[Board, ...]:
    """The board of each of the four tasks, with the most docs; none if a task is missing."""
    found: dict[str, Board] = {}
    for board in boards:
        kind = board.task.removesuffix("_permuted").removeprefix("mimic_")
        if kind in TASK_KINDS and (kind not in found or board.docs > found[kind].docs):
            found[kind] = board
    return tuple(found.values()) if len(found) == len(TASK_KINDS) else ()


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known and len(known) == len(scores) else None


def _explained(sections: Sequence[Section], examples: Mapping[str, Example | None]) -> tuple[Explained, ...]:
    """Each of our tasks with an example: if possible with pictures, and not of a sweep."""
    shown = [
        Explained(board, ASKED[board.kind], example)
        for section in sections
        for board in section.boards
        if board.kind in ASKED and not board.permuted and (example := examples.get(board.id))
    ]
    shown.sort(key=lambda one: (one.example.pictures != (), one.board.task == f"mimic_{one.board.kind}"))
    best = {one.board.kind: one for one in shown}  # the last of a kind stays
    return tuple(best[kind] for kind in ASKED if kind in best)
