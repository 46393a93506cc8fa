"""A board: all entries that ran one task on the same docs, ranked by paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leaderboard.site import VERSION
from leaderboard.site.entries import Entry
from leaderboard.site.ranks import (
    PairTest,
    Rank,
    adjusted,
    pair_tests,
    rank_ranges,
    scores_of,
    steadiness_of,
)
from leaderboard.site.results import CONTROLS, Answer, DocFacts, TaskResult, in_order
from leaderboard.summary import is_mimic


@dataclass(frozen=True)
class Standing:
    """One entry on a board.

    Attributes:
        entry: the entry.
        result: what it got.
        rank: by score; None without one.
        steady: of a permuted task: by the docs whose answer is the same in all orders.
    """

    entry: Entry
    result: TaskResult
    rank: Rank | None
    steady: Rank | None = None


@dataclass(frozen=True)
class HeatMap:
    """Scores of entries (rows) by a control's values (columns); `values[i][j]` is a point or None."""

    control: str
    name: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Board:
    """All entries that ran one task on the same docs.

    Attributes:
        id: of its page.
        task: lmms-eval's task name.
        title: short, for columns.
        kind: counting, listing, common or oddone.
        permuted: its docs have several image orders.
        data: the data's label.
        docs: how many.
        metric: our headline.
        standings: best score first.
        tests: of all pairs, one Holm family.
        ps: their adjusted p-values.
        flips: of a permuted task: tests of all pairs, of the docs whose answer is the same in all orders.
        flip_ps: their adjusted p-values, a Holm family of their own.
    """

    id: str
    task: str
    title: str
    kind: str
    permuted: bool
    data: str
    docs: int
    metric: str
    standings: tuple[Standing, ...]
    tests: tuple[PairTest, ...]
    ps: tuple[float, ...]
    flips: tuple[PairTest, ...] = ()
    flip_ps: tuple[float, ...] = ()

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": VERSION,
            **{name: getattr(self, name) for name in ("id", "task", "title", "kind", "permuted", "data")},
            "docs": self.docs,
            "metric": self.metric,
            "tests_in_family": len(self.tests),
            "standings": [
                {
                    "entry": own.entry.id,
                    "label": own.entry.label,
                    "result": own.result.id,
                    "rank": None if own.rank is None else own.rank._asdict(),
                    "rank_by_flips": None if own.steady is None else own.steady._asdict(),
                    "rows": [row._asdict() for row in own.result.rows],
                }
                for own in self.standings
            ],
        }

    def heat_maps(self) -> list[HeatMap]:
        """One for each control of which some entry has two values."""
        found = []
        for control, name in CONTROLS.items():
            curves = [(own.entry.label, own.result.curves.get(control, [])) for own in self.standings]
            columns = tuple(in_order({point.value for _, points in curves for point in points}))
            if len(columns) < 2:
                continue
            values = []
            for _, points in curves:
                held = {point.value: point for point in points}
                values.append(tuple(held.get(column) for column in columns))
            found.append(HeatMap(control, name, columns, tuple(label for label, _ in curves), tuple(values)))
        return found


def summarize_board(
    entries: Sequence[Entry],
    board: str,
    answers: Mapping[str, Sequence[Answer]],
    known: Mapping[tuple[str, str], PairTest],
    known_flips: Mapping[tuple[str, str], PairTest],
) -> Board:
    """Rank the entries of a board.

    Args:
        entries: all; those without a result on the board are left out.
        board: its id.
        answers: by result id.
        known: tests of scores of an earlier build (`pair_tests`).
        known_flips: tests of flips of an earlier build.
    """
    held = [(entry, own) for entry in entries for own in entry.results if own.board == board]
    scored = sorted(
        (own for _, own in held if own.headline.score is not None), key=lambda own: own.id
    )  # by id, so that a pair is tested the same way round in every build
    scores = [scores_of(own.id, own.kind, own.permuted, answers[own.id]) for own in scored]
    tests = pair_tests(scores, known)
    ps = adjusted(tests)
    ranks = rank_ranges([own.id for own in scored], tests, ps)
    turned = [own.id for own in scored if own.robustness]
    flips = pair_tests([steadiness_of(name, answers[name]) for name in turned], known_flips)
    flip_ps = adjusted(flips)
    steady = rank_ranges(turned, flips, flip_ps)
    standings = [Standing(entry, own, ranks.get(own.id), steady.get(own.id)) for entry, own in held]
    standings.sort(key=lambda own: (-(own.result.headline.score or 0.0), own.entry.label))
    first = standings[0].result
    docs = len({answer.doc for answer in answers[first.id]})
    return Board(
        id=board,
        task=first.task,
        title=_title(first.task),
        kind=first.kind,
        permuted=first.permuted,
        data=first.data,
        docs=docs,
        metric=first.headline.metric,
        standings=tuple(standings),
        tests=tuple(tests),
        ps=tuple(ps),
        flips=tuple(flips),
        flip_ps=tuple(flip_ps),
    )


def _title(task: str) -> str:
    return task.removeprefix("mimic_").replace("_", " ") if is_mimic(task) else task


def pairs_record(board: Board, docs: Sequence[DocFacts], pages: Mapping[str, str]) -> dict[str, Any]:
    """What the head-to-head page needs of a board.

    Args:
        board: the board.
        docs: its docs.
        pages: where the viewer shows each, by doc.
    """
    names = {own.result.id: own.entry.id for own in board.standings}
    return {
        "version": VERSION,
        "title": f"{board.title} · {board.data}",
        "metric": board.metric,
        "family": len(board.tests),
        "flip_family": len(board.flips),
        "results": {own.entry.id: own.result.id for own in board.standings},
        "tests": _told(board.tests, board.ps, names),
        "flips": _told(board.flips, board.flip_ps, names),
        "docs": [
            [own.doc, own.number, own.question, own.gt, own.controls.get("n_images", ""), pages[own.doc]]
            for own in docs
        ],
    }


def _told(tests: Sequence[PairTest], ps: Sequence[float], names: Mapping[str, str]) -> list[list[Any]]:
    return [
        [names[test.a], names[test.b], *test[2:7], p, test.test, test.method]
        for test, p in zip(tests, ps, strict=True)
    ]
