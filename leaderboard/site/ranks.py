"""The runs of a board against each other: every pair tested, and ranks as ranges (METHODS 9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from leaderboard.site.results import DRAWS, Answer
from stats import (
    drawn_micro_f1,
    f1_from_counts,
    holm,
    mcnemar_exact,
    mean_interval,
    micro_f1_difference,
    paired_risk_difference,
    wilcoxon_signed_rank,
)

ALPHA = 0.05

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SHARED = "percentile bootstrap over docs, paired, 10,000 draws shared by the board"


class PairTest(NamedTuple):
    """Two results of one board on the docs scored in both; `delta` is B - A, its interval paired."""

    a: str
    b: str
    n: int
    delta: float
    low: float | None
    high: float | None
    pvalue: float
    test: str
    method: str


class Rank(NamedTuple):
    """Where a result stands: `best` is 1 + the runs shown to be better, `worst` the runs not shown worse."""

    best: int
    worst: int


@dataclass(frozen=True)
class Scores:
    """One result by the docs of its board, in the order of their keys.

    Attributes:
        id: of the result.
        binary: a score is 1 or 0.
        scores: mean over orders, 0 for an unscored one, shape (docs,).
        counts: of Listing: recalled, generated, relevant, shape (docs, 3); all missed where unscored.
    """

    id: str
    binary: bool
    scores: Floats
    counts: Ints | None = None

    @property
    def score(self) -> float:
        """Over all docs of the board: the mean, or of Listing the F1 of the summed counts."""
        if self.counts is None:
            return float(self.scores.mean()) if self.scores.size else 0.0
        return f1_from_counts(*self.counts.sum(axis=0).tolist()).f1

    @property
    def whole(self) -> bool:
        """Every doc is scored."""
        return not np.isnan(self.scores).any()


def scores_of(name: str, kind: str, permuted: bool, answers: Sequence[Answer]) -> Scores:
    """What the tests of the score need of a result. An unscored answer counts as wrong, so that no entry can
    choose its docs by leaving some out."""
    held = _by_doc(answers)
    docs = sorted(held)
    scores = [[answer.score or 0.0 for answer in held[doc]] for doc in docs]
    counts = None
    if kind == "listing" and not permuted:
        counts = np.array([held[doc][0].counts or (0, 0, 0) for doc in docs], dtype=np.int64)
    binary = kind != "listing" and not permuted
    return Scores(name, binary, np.array([sum(own) / len(own) for own in scores]), counts)


def steadiness_of(name: str, answers: Sequence[Answer]) -> Scores:
    """What the tests of flips need of a result: 1 for a doc whose answer is the same in all its orders.

    Docs of one order are NaN; docs that are unscored in one are not steady.
    """
    held = _by_doc(answers)
    steady = [
        nan
        if len(own) < 2
        else float(len({a.answer for a in own}) == 1 and all(a.score is not None for a in own))
        for _, own in sorted(held.items())
    ]
    return Scores(name, True, np.array(steady))


def _by_doc(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    held: dict[str, list[Answer]] = {}
    for answer in answers:
        held.setdefault(answer.doc, []).append(answer)
    return held


def pair_tests(results: Sequence[Scores], known: Mapping[tuple[str, str], PairTest]) -> list[PairTest]:
    """The test of each pair, in the order given; pairs without a doc scored in both are left out.

    Args:
        results: of one board.
        known: tests of an earlier build by the ids of their results; they are taken as they are.
    """
    new = any((a.id, b.id) not in known for i, a in enumerate(results) for b in results[i + 1 :])
    drawn = _drawn_f1(results) if new else {}
    found = []
    for i, a in enumerate(results):
        for b in results[i + 1 :]:
            own = known.get((a.id, b.id)) or _test(a, b, drawn)
            if own is not None:
                found.append(own)
    return found


def _drawn_f1(results: Sequence[Scores]) -> dict[str, Floats]:
    """Of each Listing result that scored every doc: its F1 in the same resamples of the board's docs."""
    counts = {own.id: own.counts for own in results if own.counts is not None and own.whole}
    if len(counts) < 2:
        return {}
    drawn = drawn_micro_f1([_columns(own) for own in counts.values()])
    return dict(zip(counts, drawn.T, strict=True))


def _columns(counts: Ints) -> tuple[Ints, Ints, Ints]:
    return counts[:, 0], counts[:, 1], counts[:, 2]


def _test(a: Scores, b: Scores, drawn: Mapping[str, Floats]) -> PairTest | None:
    scored = ~(np.isnan(a.scores) | np.isnan(b.scores))
    n = int(scored.sum())
    if not n:
        return None
    before, after = a.scores[scored], b.scores[scored]
    if a.binary:
        right_a, right_b = before == 1, after == 1
        both, only_b = int((right_a & right_b).sum()), int((~right_a & right_b).sum())
        only_a = int((right_a & ~right_b).sum())
        change = paired_risk_difference(both, only_b, only_a, n - both - only_a - only_b)
        test = mcnemar_exact(only_a, only_b)
        told = (change.estimate, change.low, change.high, test.pvalue, test.method, change.method)
        return PairTest(a.id, b.id, n, *told)
    differences = after - before
    ranks = wilcoxon_signed_rank(differences)
    if a.id in drawn and b.id in drawn and a.counts is not None and b.counts is not None:
        f1_a, f1_b = (f1_from_counts(*own.sum(axis=0).tolist()).f1 for own in (a.counts, b.counts))
        low, high = np.quantile(drawn[b.id] - drawn[a.id], (0.025, 0.975))
        ends, method = (f1_b - f1_a, float(low), float(high)), _SHARED
    elif a.counts is not None and b.counts is not None:
        f1 = micro_f1_difference(_columns(b.counts[scored]), _columns(a.counts[scored]))
        ends, method = (f1.estimate, f1.low, f1.high), f"{f1.method}, 10,000 draws"
    else:
        mean = mean_interval(differences, bounds=(-1.0, 1.0), draws=DRAWS)
        ends, method = (mean.estimate, mean.low, mean.high), f"{mean.method}, {DRAWS} draws"
    return PairTest(a.id, b.id, n, *ends, ranks.pvalue, ranks.method, method)


def adjusted(tests: Sequence[PairTest]) -> list[float]:
    """Holm's p-values; all pairs of the board are one family."""
    return list(holm([test.pvalue for test in tests]).adjusted) if tests else []


def rank_ranges(ids: Sequence[str], tests: Sequence[PairTest], ps: Sequence[float]) -> dict[str, Rank]:
    """The ranks that paired tests allow: runs not told apart share a range, so ties look like ties.

    Args:
        ids: the results with a score.
        tests: of their pairs.
        ps: adjusted p-values of the tests.

    Returns:
        By result id; the ranges lie within 1 and the number of results.
    """
    better = dict.fromkeys(ids, 0)
    worse = dict.fromkeys(ids, 0)
    for test, p in zip(tests, ps, strict=True):
        if p < ALPHA and test.delta != 0:
            winner, loser = (test.b, test.a) if test.delta > 0 else (test.a, test.b)
            better[loser] += 1
            worse[winner] += 1
    return {name: Rank(1 + better[name], len(ids) - worse[name]) for name in ids}
