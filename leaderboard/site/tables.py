"""The CSV beside each figure and table."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from leaderboard.reported import OVERVIEW, checked_rows, printed_table
from leaderboard.site.bases import BaseDifference
from leaderboard.site.boards import Board
from leaderboard.site.entries import Entry
from leaderboard.site.overview import Overview
from leaderboard.site.ranks import PairTest
from leaderboard.site.views import ModelTask, RobustTask

_SCORE = ("metric", "n", "unscored", "score", "low", "high", "interval")


def _text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_harmless(value) for value in row])
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it.

    Also one inside a cell, where a spreadsheet may split it: after a semicolon or a tab.
    """
    return re.sub(r"(^|[;\t])(?=[=+@\t\r-])", r"\1'", value) if isinstance(value, str) else value


def _score(row: Any) -> list[Any]:
    return [getattr(row, name) for name in _SCORE]


_BASE = ("base", "minus_base", "minus_base_low", "minus_base_high", "p", "p_holm", "family", "verdict")


def overview_csv(overview: Overview) -> str:
    """Every metric of every entry on every board, with its rank range and its difference to the base."""
    rows = []
    for section in overview.sections:
        for line in (line for group in section.groups for line in group.lines):
            for board, cell in zip(section.boards, line.cells, strict=True):
                if cell is not None:
                    rank = cell.rank or ("", "")
                    who = [section.data, board.task, line.entry.label, line.entry.id]
                    rows.append([*who, *_score(cell.row), *rank, *_base(cell.base)])
                    if cell.official is not None:
                        rows.append([*who, *_score(cell.official), "", "", *_base(None)])
        for board, constant in zip(section.boards, section.constants, strict=True):
            if constant is not None:
                who = [section.data, board.task, "best constant answer", ""]
                score = [board.metric, board.docs, 0, constant, "", "", ""]
                rows.append([*who, *score, "", "", *_base(None)])
    return _text(["data", "task", "entry", "id", *_SCORE, "rank_best", "rank_worst", *_BASE], rows)


def _base(base: BaseDifference | None) -> list[Any]:
    if base is None:
        return [""] * len(_BASE)
    numbers = [base.delta, base.low, base.high, base.pvalue, base.adjusted, base.family]
    return [base.base.label, *numbers, base.verdict]


def board_csv(board: Board) -> str:
    """The standings of a board, every metric."""
    rows = [
        [
            standing.entry.label,
            standing.entry.id,
            *_score(row),
            *((standing.rank or ("", "")) if not i else ("", "")),
        ]
        for standing in board.standings
        for i, row in enumerate(standing.result.rows)
    ]
    return _text(["entry", "id", *_SCORE, "rank_best", "rank_worst"], rows)


def pairs_csv(board: Board, tests: Sequence[PairTest], ps: Sequence[float]) -> str:
    """Every paired test of a board: of the score, or of the docs whose answer stays in all orders."""
    labels = {standing.result.id: standing.entry.label for standing in board.standings}
    rows = [
        [
            labels[test.a],
            labels[test.b],
            *test[2:7],
            p,
            len(tests),
            test.test,
            test.method,
            test.conflict,
            test.detectable,
        ]
        for test, p in zip(tests, ps, strict=True)
    ]
    header = [
        "a",
        "b",
        "n",
        "b_minus_a",
        "low",
        "high",
        "p",
        "p_holm",
        "family",
        "test",
        "interval",
        "no_verdict",
        "detectable",
    ]
    return _text(header, rows)


_POINT = ("n", "unscored", "score", "low", "high", "interval")


def controls_csv(board: Board) -> str:
    """The points of every entry against every control."""
    rows = [
        [standing.entry.label, control, point.value, *point[1:]]
        for standing in board.standings
        for control, points in standing.result.curves.items()
        for point in points
    ]
    return _text(["entry", "control", "value", *_POINT], rows)


def model_csv(entry: Entry, tasks: Sequence[ModelTask]) -> str:
    """The points of one entry on every board."""
    rows = [
        [page.board.task, page.board.data, control, point.value, *point[1:]]
        for page in tasks
        for control, points in page.result.curves.items()
        for point in points
    ]
    return _text(["task", "data", "control", "value", *_POINT], rows)


_MEASURES = ("score", "consistent", "any_change", "disagreement", "slope", "rho", "recency")


def robustness_csv(tasks: Sequence[RobustTask]) -> str:
    """Every measure of every permuted task."""
    rows = []
    for task in tasks:
        for standing in task.standings:
            record = standing.result.robustness or {}
            for name in _MEASURES:
                if record[name] is not None:
                    estimate = [record[name][part] for part in ("estimate", "low", "high", "method")]
                    n = record["placed"] if name in ("slope", "rho", "recency") else record["n"]
                    rows.append([task.board.task, task.board.data, standing.entry.label, name, n, *estimate])
    return _text(["task", "data", "entry", "measure", "docs", "estimate", "low", "high", "interval"], rows)


def places_csv(task: RobustTask) -> str:
    """Scores by position, over all docs (no n_images) and for each number of images."""
    rows = [
        [standing.entry.label, row["n_images"] or "", row["place"], row["docs"], *row["score"].values()]
        for standing in task.standings
        for row in (standing.result.robustness or {})["places"]
    ]
    return _text(["entry", "n_images", "place", "docs", "score", "low", "high", "interval"], rows)


def reported_csv() -> str:
    """The published numbers, one a line, each with its verdict of attainability."""
    rows = [
        [
            table.title,
            table.source,
            table.caveat,
            checked.row.model,
            checked.row.setting,
            checked.row.note,
            column.name,
            cell.printed,
            column.items or "",
            cell.check.verdict,
            cell.check.reason,
        ]
        for table in map(printed_table, OVERVIEW)
        for checked in checked_rows(table)
        for column, cell in zip(table.columns, checked.cells, strict=True)
        if cell.check
    ]
    header = [
        "table",
        "source",
        "caveat",
        "model",
        "setting",
        "note",
        "column",
        "printed",
        "items",
        "attainable",
    ]
    return _text([*header, "reason"], rows)
