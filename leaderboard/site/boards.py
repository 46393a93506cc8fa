"""A board: all entries that ran one task on the same docs, ranked by paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leaderboard.labels import others
from leaderboard.measures import ALPHA, CorpusF1, Measure, measure_of
from leaderboard.runs import is_mimic
from leaderboard.sentences import Docs, task_title, tested_words, verdict_words
from leaderboard.site import VERSION
from leaderboard.site.controls import Control, controls_drawn
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
from leaderboard.site.results import HUMAN, DocAnswer, TaskResult, in_order
from leaderboard.upstream import measure_by


@dataclass(frozen=True)
class Standing:
    """One entry on a board.

    Attributes:
        entry: the entry.
        result: what it got.
        rank: by score, or None for a result that is not ranked or is alone on its board.
        steady: of a permuted task: by the share of pairs of orders that agree; None for a score that
            is not above that of the best constant answer.
        score: over all docs, unscored ones counted as wrong: what ranks and the order of rows go by.
        note: why it is not ranked by itself.
    """

    entry: Entry
    result: TaskResult
    rank: Rank | None
    steady: Rank | None = None
    score: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class HeatMap:
    """Scores of entries (rows) by a control's values (columns); `values[i][j]` is a point or None."""

    control: Control
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
        kind: counting, listing, common or oddone; empty for a metric of a task that is not ours.
        permuted: its docs have several image orders.
        data: the data's label.
        docs: how many.
        metric: our headline.
        standings: best score first.
        tests: of all pairs of ranked results, one Holm family.
        ps: their adjusted p-values.
        flips: of a permuted task: tests of all pairs, of the share of pairs of orders that agree.
        flip_ps: their adjusted p-values, a Holm family separate from that of the scores.
        ranked: how many results the ranks by score are of.
        steady: how many the ranks by flips are of.
        higher_is_better: else a lower score is.
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
    ranked: int = 0
    steady: int = 0
    higher_is_better: bool = True

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
                    "entry": standing.entry.id,
                    "label": standing.entry.label,
                    "result": standing.result.id,
                    "rank": None if standing.rank is None else standing.rank._asdict(),
                    "rank_by_flips": None if standing.steady is None else standing.steady._asdict(),
                    "score_with_unscored_as_wrong": standing.score,
                    "note": standing.note,
                    "rows": [row._asdict() for row in standing.result.rows],
                }
                for standing in self.standings
            ],
        }

    @property
    def detectable(self) -> tuple[float, float] | None:
        """The least and the largest of the smallest differences that the tests would detect with power 0.8,
        of the pairs that no test separates; None if there is none."""
        found = [
            test.detectable
            for test, p in zip(self.tests, self.ps, strict=True)
            if p >= ALPHA and test.detectable is not None
        ]
        return (min(found), max(found)) if found else None

    def heat_maps(self) -> list[HeatMap]:
        """One for each control that the charts are drawn against."""
        maps = []
        for control in controls_drawn(self.kind, [standing.result.curves for standing in self.standings]):
            curves = [
                (standing.entry.label, standing.result.curves.get(control.key, []))
                for standing in self.standings
            ]
            columns = tuple(in_order({point.value for _, points in curves for point in points}))
            values = []
            for _, points in curves:
                by_value = {point.value: point for point in points}
                values.append(tuple(by_value.get(column) for column in columns))
            named = tuple(column.removeprefix(control.prefix) for column in columns)
            maps.append(HeatMap(control, named, tuple(label for label, _ in curves), tuple(values)))
        return maps


def summarize_board(
    entries: Sequence[Entry],
    board: str,
    answers: Mapping[str, Sequence[DocAnswer]],
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
    on_board = [(entry, result) for entry in entries for result in entry.results if result.board == board]
    first = on_board[0][1]
    measure = _measure_of(first, [answer for _, result in on_board for answer in answers[result.id]])
    higher = first.higher_is_better
    scored = {
        result.id: scores_of(result.id, measure, answers[result.id], higher_is_better=higher)
        for _, result in on_board
    }
    same, notes = _family(on_board)
    ranked = sorted(set(same.values()))  # by id, so that a pair is tested the same way round in every build
    tests = pair_tests([scored[name] for name in ranked], known)
    ps = adjusted(tests)
    ranks = rank_ranges(ranked, tests, ps, higher_is_better=higher) if len(ranked) > 1 else {}
    results = {result.id: result for _, result in on_board}
    turned = [name for name in ranked if results[name].robustness and _above_constant(results[name])]
    flips = pair_tests([steadiness_of(name, answers[name]) for name in turned], known_flips)
    flip_ps = adjusted(flips)
    steady = rank_ranges(turned, flips, flip_ps) if len(turned) > 1 else {}
    standings = [
        Standing(
            entry,
            result,
            ranks.get(same.get(result.id, "")),
            steady.get(same.get(result.id, "")),
            scored[result.id].score,
            notes.get(result.id, ""),
        )
        for entry, result in on_board
    ]
    standings.sort(
        key=lambda standing: (
            standing.result.headline.score is None,
            -standing.score if higher else standing.score,
            standing.entry.label,
        )
    )
    first = standings[0].result
    docs = max(len({answer.doc for answer in answers[result.id]}) for _, result in on_board)
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
        ranked=len(ranked),
        steady=len(turned),
        higher_is_better=higher,
    )


def _measure_of(result: TaskResult, answers: Sequence[DocAnswer]) -> Measure:
    """Of a task that is not ours: binary if every score of the board is 0 or 1, else graded."""
    if result.kind:
        return measure_of(result.kind, permuted=result.permuted)
    return measure_by(result.headline.metric, [one.score for one in answers if one.score is not None])


def _family(on_board: Sequence[tuple[Entry, TaskResult]]) -> tuple[dict[str, str], dict[str, str]]:
    """Which results of a board are ranked, and why others are not ranked by themselves.

    Of the settings of one checkpoint with one intervention the one with the fewest changes of defaults is
    ranked, of several such the newest; results with the same answer to every doc are one. So nobody makes
    the family of tests larger, and the tests weaker, by sending one thing many times.

    Returns:
        By result id: the result whose rank it has; and notes.
    """
    notes: dict[str, str] = {}
    groups: dict[tuple[str, ...], list[tuple[Entry, TaskResult]]] = {}
    for entry, result in on_board:
        if entry.kind == HUMAN:
            notes[result.id] = "a person: not ranked"
        elif result.headline.score is not None:
            groups.setdefault(entry.group, []).append((entry, result))
    answered: dict[str, list[tuple[Entry, TaskResult]]] = {}
    for group in groups.values():
        entry, first = max(group, key=lambda pair: (-len(others(pair[0].settings)), pair[0].date, pair[1].id))
        answered.setdefault(first.answers, []).append((entry, first))
        for _, result in group:
            if result.id != first.id:
                notes[result.id] = f"not ranked: another setting of {entry.label}"
    same: dict[str, str] = {}
    for alike in answered.values():
        for entry, result in alike:
            same[result.id] = min(other.id for _, other in alike)
            rest = [other.label for other, _ in alike if other.id != entry.id]
            if rest:
                notes[result.id] = (
                    f"the same answers as {', '.join(rest[:3])}{', …' if len(rest) > 3 else ''}"
                )
    return same, notes


def _above_constant(result: TaskResult) -> bool:
    """Whether the interval of the score lies above what one answer to all docs scores.

    A model that always gives the same answer never flips: steadiness alone is no merit.
    """
    low = result.headline.low if result.headline.low is not None else result.headline.score
    return low is not None and result.constant is not None and low > result.constant


def _title(task: str) -> str:
    return task.removeprefix("mimic_").replace("_", " ") if is_mimic(task) else task


def pairs_record(board: Board) -> dict[str, Any]:
    """What the head-to-head page needs of a board; `doc_index` has its docs."""
    names = {standing.result.id: standing.entry.id for standing in board.standings}
    return {
        "version": VERSION,
        "title": f"{board.title} · {board.data}",
        "metric": board.metric,
        "higher_is_better": board.higher_is_better,
        "family": len(board.tests),
        "flip_family": len(board.flips),
        "results": {standing.entry.id: standing.result.id for standing in board.standings},
        "scores": {standing.entry.id: standing.score for standing in board.standings},
        "what": _what(board),
        "tests": [
            _test_row(test, p, names, len(board.tests), _verdict(board, test, p))
            for test, p in zip(board.tests, board.ps, strict=True)
        ],
        "flips": [
            _test_row(test, p, names, len(board.flips), STEADINESS.get(said := test.verdict(p), said))
            for test, p in zip(board.flips, board.flip_ps, strict=True)
        ],
    }


STEADINESS = {"better": "steadier", "worse": "less steady"}
"""What a higher and a lower share of pairs of orders that agree are called."""


def _what(board: Board) -> str:
    """What sentences of a board are about."""
    if not board.kind:
        return board.title
    listing = isinstance(measure_of(board.kind, permuted=board.permuted), CorpusF1)
    return f"{task_title(board.task)}{', micro F1' * listing}"


def _verdict(board: Board, test: PairTest, adjusted: float) -> str:
    return test.verdict(adjusted, higher_is_better=board.higher_is_better)


def _test_row(test: PairTest, p: float, names: Mapping[str, str], family: int, verdict: str) -> list[Any]:
    """The two entries, B - A in points with its interval, and the words of `leaderboard.sentences`."""
    tested = tested_words(test.test, test.pvalue, p, family, Docs(test.n, test.units))
    said = verdict_words(verdict, test.pvalue, p, test.detectable)
    return [names[test.a], names[test.b], test.delta, test.low, test.high, test.method, tested, verdict, said]
