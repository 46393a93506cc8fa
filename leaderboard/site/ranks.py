"""The runs of a board against each other: every pair tested, and ranks as ranges (METHODS 9)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from leaderboard.measures import CorpusF1, Graded, Measure, verdict_of
from leaderboard.site.answers import DocAnswer
from leaderboard.site.workers import in_processes
from stats import f1_from_counts, holm, pairwise_disagreement

_CHUNK = 100
"""Pairs that one process tests at a time."""

_WORTH = 10
"""Chunks from which on several processes are faster."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class PairTest(NamedTuple):
    """Two results of one board on the docs scored in both; `delta` is B - A, with the test's interval.

    `units`: independent units among the docs (matched sets of a sweep).
    `conflict`: the docs' signed ranks point the other way than `delta`, so neither is ranked first.
    `detectable`: the smallest difference that the test would detect with power 0.8, or None.
    """

    a: str
    b: str
    n: int
    delta: float
    low: float | None
    high: float | None
    pvalue: float
    test: str
    method: str
    conflict: bool = False
    detectable: float | None = None
    units: int = 0

    def verdict(self, adjusted: float, *, higher_is_better: bool = True) -> str:
        """Of B against A, as the commands say it (`leaderboard.measures.verdict_of`)."""
        return verdict_of(self.delta, adjusted, conflict=self.conflict, higher_is_better=higher_is_better)


class Rank(NamedTuple):
    """A range of ranks: `best` is 1 + the runs shown to be better, `worst` the runs not shown to be worse."""

    best: int
    worst: int


@dataclass(frozen=True)
class ResultScores:
    """One result by the docs of its board, in the order of their keys.

    Attributes:
        id: of the result.
        measure: what is compared.
        scores: mean over orders, 0 for an unscored one, shape (docs,).
        counts: of Listing: recalled, generated, relevant, shape (docs, 3); all missed where unscored.
        clusters: of a sweep, the matched set of each doc, or None if docs are independent.
    """

    id: str
    measure: Measure
    scores: Floats
    counts: Ints | None = None
    clusters: tuple[int, ...] | None = None

    @property
    def score(self) -> float:
        """Over all docs of the board: the mean, or of Listing the F1 of the summed counts."""
        if self.counts is None:
            return float(self.scores.mean()) if self.scores.size else 0.0
        return f1_from_counts(*self.counts.sum(axis=0).tolist()).f1


def scores_of(
    name: str, measure: Measure, answers: Sequence[DocAnswer], *, higher_is_better: bool = True
) -> ResultScores:
    """What the tests of the score need of a result. An unscored answer counts as wrong, so that no entry can
    choose its docs by leaving some out.

    Args:
        name: of the result.
        measure: of the board.
        answers: of the result.
        higher_is_better: else the worst score is 1.
    """
    by_doc = _by_doc(answers)
    docs = sorted(by_doc)
    wrong = 0.0 if higher_is_better else 1.0
    scores = [[wrong if answer.score is None else answer.score for answer in by_doc[doc]] for doc in docs]
    counts = None
    if isinstance(measure, CorpusF1):
        counts = np.array([by_doc[doc][0].counts or (0, 0, 0) for doc in docs], dtype=np.int64)
    means = np.array([sum(of_doc) / len(of_doc) for of_doc in scores])
    return ResultScores(name, measure, means, counts, _sets(by_doc))


def steadiness_of(name: str, answers: Sequence[DocAnswer]) -> ResultScores:
    """What the tests of flips need of a result: of each doc the share of pairs of orders that agree.

    It is 1 less the primary measure of `mimic robustness`, pairwise disagreement. Docs of one order are NaN;
    an unscored answer agrees with no other.
    """
    by_doc = _by_doc(answers)
    steady = [
        nan if len(of_doc) < 2 else 1 - pairwise_disagreement([list(map(_distinct, of_doc))]).estimate
        for _, of_doc in sorted(by_doc.items())
    ]
    return ResultScores(name, Graded(), np.array(steady), None, _sets(by_doc))


def _distinct(answer: DocAnswer) -> tuple[str, int]:
    return (answer.answer, -1) if answer.score is not None else ("", answer.order)


def _sets(by_doc: Mapping[str, Sequence[DocAnswer]]) -> tuple[int, ...] | None:
    sets = [of_doc[0].matched_set for _, of_doc in sorted(by_doc.items())]
    return tuple(one for one in sets if one is not None) if None not in sets else None


def _by_doc(answers: Sequence[DocAnswer]) -> dict[str, list[DocAnswer]]:
    by_doc: dict[str, list[DocAnswer]] = {}
    for answer in answers:
        by_doc.setdefault(answer.doc, []).append(answer)
    return by_doc


def tests_of(
    ids: Sequence[str], known: Mapping[tuple[str, str], PairTest], scores: Callable[[str], ResultScores]
) -> list[PairTest]:
    """`pair_tests` of results by their ids; scores are only read where a test is not known."""
    pairs = list(combinations(ids, 2))
    if all(pair in known for pair in pairs):
        return [known[pair] for pair in pairs]
    return pair_tests([scores(name) for name in ids], known)


def pair_tests(results: Sequence[ResultScores], known: Mapping[tuple[str, str], PairTest]) -> list[PairTest]:
    """The test of each pair, in the order given; pairs without a doc scored in both are left out.

    Args:
        results: of one board.
        known: tests of an earlier build by the ids of their results; they are taken as they are.
    """
    pairs = list(combinations(results, 2))
    missing = [pair for pair in pairs if (pair[0].id, pair[1].id) not in known]
    first = [_test(a, b) for a, b in missing[:1]]  # here: each process would import what it needs
    chunks = [missing[at : at + _CHUNK] for at in range(1, len(missing), _CHUNK)]
    rest = in_processes(lambda chunk: [_test(a, b) for a, b in chunk], chunks, least=_WORTH)
    made = chain(first, chain.from_iterable(rest))
    tests = (known[key] if (key := (a.id, b.id)) in known else next(made) for a, b in pairs)
    return [test for test in tests if test is not None]


def _test(a: ResultScores, b: ResultScores) -> PairTest | None:
    scored = ~(np.isnan(a.scores) | np.isnan(b.scores))
    if not scored.any():
        return None
    before, after = (scores.scores if scores.counts is None else scores.counts for scores in (a, b))
    clusters = None if a.clusters is None else np.array(a.clusters)[scored].tolist()
    change = a.measure.compare(before[scored], after[scored], clusters, power=True)
    delta, low, high, method = change.delta
    return PairTest(
        a.id, b.id, change.n, delta, low, high, change.pvalue, change.test, method, change.conflict,
        change.detectable, change.units,
    )  # fmt: skip


def adjusted(tests: Sequence[PairTest]) -> list[float]:
    """Holm's p-values; all pairs of the board are one family."""
    return list(holm([test.pvalue for test in tests]).adjusted) if tests else []


def rank_ranges(
    ids: Sequence[str], tests: Sequence[PairTest], ps: Sequence[float], *, higher_is_better: bool = True
) -> dict[str, Rank]:
    """The ranks that paired tests allow: runs that no test separates share a range, so ties look like ties.

    Args:
        ids: the results with a score.
        tests: of their pairs.
        ps: adjusted p-values of the tests.
        higher_is_better: else a lower score is.

    Returns:
        By result id; the ranges lie within 1 and the number of results.
    """
    better = dict.fromkeys(ids, 0)
    worse = dict.fromkeys(ids, 0)
    for test, p in zip(tests, ps, strict=True):
        verdict = test.verdict(p, higher_is_better=higher_is_better)
        if verdict in ("better", "worse"):
            winner, loser = (test.b, test.a) if verdict == "better" else (test.a, test.b)
            better[loser] += 1
            worse[winner] += 1
    return {name: Rank(1 + better[name], len(ids) - worse[name]) for name in ids}
