"""A board: all entries that ran one task on the same docs, ranked by paired tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from leaderboard.labels import others
from leaderboard.measures import ALPHA, Binary, CorpusF1, Graded, Measure, measure_of
from leaderboard.runs import is_mimic
from leaderboard.sentences import Docs, task_title, tested_words, verdict_words
from leaderboard.site import VERSION
from leaderboard.site.answers import DocAnswer
from leaderboard.site.bases import BaseDifference, base_differences
from leaderboard.site.controls import Control, controls_drawn
from leaderboard.site.entries import Entry
from leaderboard.site.ranks import (
    PairTest,
    Rank,
    ResultScores,
    adjusted,
    rank_ranges,
    scores_of,
    steadiness_of,
    tests_of,
)
from leaderboard.site.results import HUMAN, TaskResult
from leaderboard.site.task_docs import DocFacts, in_order


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
        base: the difference to the same checkpoint without an intervention, if that is on the board.
    """

    entry: Entry
    result: TaskResult
    rank: Rank | None
    steady: Rank | None = None
    score: float = 0.0
    note: str = ""
    base: BaseDifference | None = None


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
        id: the name of its page (`leaderboard.site.slugs`).
        key: its results' `board`.
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
        base_tests: tests of differences to the base that are not among `tests`.
        constant: the score of the best answer that is the same for all docs; None where there is none.
    """

    id: str
    key: str
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
    base_tests: tuple[PairTest, ...] = ()
    constant: float | None = None

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": VERSION,
            **{name: getattr(self, name) for name in ("id", "task", "title", "kind", "permuted", "data")},
            "docs": self.docs,
            "metric": self.metric,
            "best_constant_answer": self.constant,
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
                    "to_base": None if standing.base is None else standing.base.record(),
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

    @cached_property
    def apart(self) -> dict[str, tuple[tuple[Entry, ...], tuple[Entry, ...]]]:
        """The entries that a test shows to be better, and to be worse, by the result's id."""
        entries = {one.result.id: one.entry for one in self.standings}
        better: dict[str, list[Entry]] = {name: [] for name in entries}
        worse: dict[str, list[Entry]] = {name: [] for name in entries}
        for test, p in zip(self.tests, self.ps, strict=True):
            verdict = test.verdict(p, higher_is_better=self.higher_is_better)
            if verdict in ("better", "worse"):
                winner, loser = (test.b, test.a) if verdict == "better" else (test.a, test.b)
                better[loser].append(entries[winner])
                worse[winner].append(entries[loser])
        return {name: (tuple(better[name]), tuple(worse[name])) for name in entries}

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


class BoardScores:
    """The answers of a board's results; a file is read when something needs it, once.

    Args:
        answers: of a result, by its id.
        docs: of a result, by its id.
    """

    def __init__(
        self, answers: Callable[[str], list[DocAnswer]], docs: Callable[[str], list[DocFacts]]
    ) -> None:
        self.answers = lru_cache(maxsize=None)(answers)
        self.docs = docs


class Known(NamedTuple):
    """Tests of an earlier build, by the ids of their results: of scores, of flips."""

    scores: Mapping[tuple[str, str], PairTest]
    flips: Mapping[tuple[str, str], PairTest]


def summarize_board(
    entries: Sequence[Entry], board: str, name: str, answers: BoardScores, known: Known
) -> Board:
    """Rank the entries of a board.

    Args:
        entries: all; those without a result on the board are left out.
        board: as results have it.
        name: of its page.
        answers: of its results.
        known: tests of an earlier build; they are taken as they are (`pair_tests`).
    """
    on_board = [(entry, result) for entry in entries for result in entry.results if result.board == board]
    first = on_board[0][1]
    measure = _measure_of(first, [result for _, result in on_board])
    higher = first.higher_is_better

    def scores(result: str) -> ResultScores:
        return scores_of(result, measure, answers.answers(result), higher_is_better=higher)

    def steadiness(result: str) -> ResultScores:
        return steadiness_of(result, answers.answers(result))

    same, notes = _family(on_board)
    ranked = sorted(set(same.values()))  # by id, so that a pair is tested the same way round in every build
    tests = tests_of(ranked, known.scores, scores)
    ps = adjusted(tests)
    ranks = rank_ranges(ranked, tests, ps, higher_is_better=higher) if len(ranked) > 1 else {}
    bases, base_tests = base_differences(on_board, same, tests, known.scores, scores, higher_is_better=higher)
    results = {result.id: result for _, result in on_board}
    turned = [one for one in ranked if results[one].robustness and _above_constant(results[one])]
    flips = tests_of(turned, known.flips, steadiness)
    flip_ps = adjusted(flips)
    steady = rank_ranges(turned, flips, flip_ps) if len(turned) > 1 else {}
    standings = [
        Standing(
            entry,
            result,
            ranks.get(same.get(result.id, "")),
            steady.get(same.get(result.id, "")),
            result.counted,
            notes.get(result.id, ""),
            bases.get(entry.id),
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
    complete = max((result for _, result in on_board), key=lambda result: result.docs)
    return Board(
        id=name,
        key=board,
        task=first.task,
        title=board_title(first.task),
        kind=first.kind,
        permuted=first.permuted,
        data=first.data,
        docs=complete.docs,
        metric=first.headline.metric,
        standings=tuple(standings),
        tests=tuple(tests),
        ps=tuple(ps),
        flips=tuple(flips),
        flip_ps=tuple(flip_ps),
        ranked=len(ranked),
        steady=len(turned),
        higher_is_better=higher,
        base_tests=tuple(base_tests),
        constant=complete.constant,
    )


def _measure_of(result: TaskResult, results: Sequence[TaskResult]) -> Measure:
    """Of a task that is not ours: binary if every score of the board is 0 or 1, else graded."""
    if result.kind:
        return measure_of(result.kind, permuted=result.permuted)
    metric = result.headline.metric
    return Binary(metric) if all(one.binary for one in results) else Graded(metric)


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


def board_title(task: str) -> str:
    """A task's name, short, for columns."""
    return task_title(task) if is_mimic(task) else task


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
            *(
                _test_row(test, p, names, len(board.tests), _verdict(board, test, p))
                for test, p in zip(board.tests, board.ps, strict=True)
            ),
            *_base_rows(board),
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


def _base_rows(board: Board) -> list[list[Any]]:
    """The tests against the base that are not among those of the ranks."""
    bases = [(standing.base, standing.entry.id) for standing in board.standings if standing.base is not None]
    return [
        [base.base.id, entry, *base[1:4], base.method, base.tested, base.verdict, base.said]
        for base, entry in bases
        if base.family > len(board.tests)
    ]


def _test_row(test: PairTest, p: float, names: Mapping[str, str], family: int, verdict: str) -> list[Any]:
    """The two entries, B - A in points with its interval, and the words of `leaderboard.sentences`."""
    tested = tested_words(test.test, test.pvalue, p, family, Docs(test.n, test.units))
    said = verdict_words(verdict, test.pvalue, p, test.detectable)
    return [names[test.a], names[test.b], test.delta, test.low, test.high, test.method, tested, verdict, said]
