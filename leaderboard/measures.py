"""What a score is, what it is worth, and how two runs differ in it: one class for each kind of score.

Verdict, interval and direction of a comparison come from one statistic, the one in the table (METHODS 9).
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mimic_eval.records import measure_name
from stats import (
    Equivalence,
    PairedDifference,
    detectable_mean,
    detectable_share,
    discordant_odds_ratio,
    equivalent_f1,
    equivalent_means,
    equivalent_shares,
    hodges_lehmann,
    mcnemar_exact,
    mean_interval,
    micro_f1,
    micro_f1_difference,
    paired_mean_difference,
    paired_risk_difference,
    rank_biserial,
    rank_direction,
    wilcoxon_signed_rank,
    wilson,
)

ALPHA = 0.05

OF_A_DOC = "F1 of a doc: "
"""Before the names of Listing's descriptive effect sizes."""

SHIFT, WILCOXON = "Hodges-Lehmann shift", "Wilcoxon signed-rank p (descriptive)"
"""Effect sizes of graded scores."""

Values = npt.NDArray[Any]
Clusters = Sequence[Hashable] | None


class Estimate(NamedTuple):
    """A number with its 95 % interval and method; without `low` and `high`, `method` gives the reason."""

    estimate: float
    low: float | None
    high: float | None
    method: str


class _Interval(Protocol):
    """A result of `stats`."""

    @property
    def estimate(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def estimated(result: _Interval, method: str | None = None) -> Estimate:
    """A result of `stats` as an `Estimate`; `method` where the result names none."""
    name = str(getattr(result, "method", "")) if method is None else method
    return Estimate(result.estimate, result.low, result.high, name)


@dataclass(frozen=True)
class Change:
    """How run B differs from run A on the same docs.

    Attributes:
        n: docs.
        units: independent units among them: docs, or clusters of docs.
        delta: B - A with the interval that goes with the test.
        test: its name.
        differing: how many docs differ, and which way.
        pvalue: two-sided; below 0.05 exactly where the interval excludes 0.
        conflict: the signed ranks of the docs point the other way than `delta`: no verdict.
        detectable: the smallest difference that this comparison would detect with power 0.8, or None.
        spread: standard deviation over units behind it, or None where the test counts docs.
    """

    n: int
    units: int
    delta: Estimate
    test: str
    differing: str
    pvalue: float
    conflict: bool = False
    detectable: float | None = None
    spread: float | None = None

    def verdict(self, adjusted: float, *, higher_is_better: bool = True) -> str:
        """`verdict_of` this change; `adjusted`: the p-value after the adjustment for a family of tests."""
        return verdict_of(
            self.delta.estimate, adjusted, conflict=self.conflict, higher_is_better=higher_is_better
        )


def verdict_of(delta: float, adjusted: float, *, conflict: bool, higher_is_better: bool = True) -> str:
    """What a test says of B against A, in every command and on every page.

    Args:
        delta: B - A.
        adjusted: p-value after the adjustment for a family of tests.
        conflict: the signed ranks of the docs point the other way than `delta`.
        higher_is_better: else a lower score is.

    Returns:
        ``better`` or ``worse`` (B than A), ``no difference shown``, or ``no verdict`` where the test shows a
        difference but `conflict` is true.
    """
    if adjusted >= ALPHA or delta == 0:
        return "no difference shown"
    if conflict:
        return "no verdict"
    return "better" if (delta > 0) == higher_is_better else "worse"


class Measure(ABC):
    """A kind of score.

    Attributes:
        metric: its name in a table.
    """

    metric: str

    @abstractmethod
    def estimate(self, docs: Values, clusters: Clusters = None) -> Estimate:
        """The score of some docs with its interval.

        Args:
            docs: one row for each scored doc.
            clusters: of each doc, where docs are not independent.
        """

    @abstractmethod
    def compare(self, a: Values, b: Values, clusters: Clusters = None, *, power: bool = False) -> Change:
        """B - A on the same docs, in the same order.

        Args:
            a: as `estimate`.
            b: the same docs.
            clusters: of each doc, where docs are not independent.
            power: whether `detectable` is wanted; it takes longer than the test.
        """

    @abstractmethod
    def differences(self, a: Values, b: Values) -> Values:
        """B - A of each doc: what ranks are of, shape (docs,)."""

    @abstractmethod
    def equivalence(self, a: Values, b: Values, clusters: Clusters, margin: float) -> Equivalence:
        """Whether B and A differ by less than `margin` (a share): two one-sided tests."""

    @abstractmethod
    def effects(self, a: Values, b: Values, clusters: Clusters = None) -> dict[str, Estimate]:
        """Effect sizes that describe, by name; no verdict rests on them.

        Ranks are of the clusters' means, where docs are not independent.
        """


class Graded(Measure):
    """Scores between 0 and 1 (or within `bounds`), of which the mean counts."""

    def __init__(self, metric: str = "mean score", bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        self.metric = metric
        self.bounds = bounds

    def estimate(self, docs: Values, clusters: Clusters = None) -> Estimate:
        return estimated(mean_interval(docs, bounds=self.bounds, clusters=clusters))

    def compare(self, a: Values, b: Values, clusters: Clusters = None, *, power: bool = False) -> Change:
        width = self.bounds[1] - self.bounds[0]
        change = paired_mean_difference(b, a, bounds=(-width, width), clusters=clusters)
        return _change(change, self.differences(a, b), clusters, power)

    def differences(self, a: Values, b: Values) -> Values:
        return np.asarray(b - a)

    def equivalence(self, a: Values, b: Values, clusters: Clusters, margin: float) -> Equivalence:
        width = self.bounds[1] - self.bounds[0]
        return equivalent_means(b - a, margin=margin, bounds=(-width, width), clusters=clusters)

    def effects(self, a: Values, b: Values, clusters: Clusters = None) -> dict[str, Estimate]:
        width = self.bounds[1] - self.bounds[0]
        differences = _means(b - a, clusters)
        ranks = wilcoxon_signed_rank(differences)
        shift = hodges_lehmann(differences, bounds=(-width, width))
        return {
            SHIFT: estimated(shift)
            if shift.low < shift.high
            else Estimate(shift.estimate, None, None, "ties leave its interval no width"),
            "matched-pairs rank-biserial correlation": estimated(rank_biserial(differences)),
            WILCOXON: Estimate(ranks.pvalue, None, None, ranks.method),
        }


class Binary(Measure):
    """Right or wrong."""

    def __init__(self, metric: str = "exact match") -> None:
        self.metric = metric

    def estimate(self, docs: Values, clusters: Clusters = None) -> Estimate:
        if _single(clusters):
            return estimated(wilson(round(float(docs.sum())), len(docs)), "Wilson")
        return Graded().estimate(docs, clusters)

    def compare(self, a: Values, b: Values, clusters: Clusters = None, *, power: bool = False) -> Change:
        if not _single(clusters):
            return Graded().compare(a, b, clusters, power=power)
        both, only_a, only_b, neither = _table(a, b)
        difference = paired_risk_difference(both, only_b, only_a, neither)
        return Change(
            n=len(a),
            units=len(a),
            delta=estimated(difference),
            test=mcnemar_exact(only_a, only_b).method,
            differing=f"{only_b} docs right only in B, {only_a} only in A",
            pvalue=difference.pvalue,
            detectable=detectable_share(len(a), only_a + only_b) if power else None,
        )

    def differences(self, a: Values, b: Values) -> Values:
        return np.asarray(b - a)

    def equivalence(self, a: Values, b: Values, clusters: Clusters, margin: float) -> Equivalence:
        if not _single(clusters):
            return Graded().equivalence(a, b, clusters, margin)
        both, only_a, only_b, neither = _table(a, b)
        return equivalent_shares(both, only_b, only_a, neither, margin=margin)

    def effects(self, a: Values, b: Values, clusters: Clusters = None) -> dict[str, Estimate]:
        both, only_a, only_b, neither = _table(a, b)
        h = paired_risk_difference(both, only_b, only_a, neither).cohens_h
        effects = {"Cohen's h": Estimate(h, None, None, "of the two shares")}
        if only_a + only_b:
            odds = estimated(discordant_odds_ratio(only_b, only_a))
            if not _single(clusters):
                odds = Estimate(odds.estimate, None, None, "no interval: docs of a matched set are alike")
            effects["odds ratio of discordant docs"] = odds
        return effects


class CorpusF1(Measure):
    """Micro F1 over the corpus; docs are counts: recalled, generated, relevant, shape (docs, 3)."""

    metric = "micro F1"

    def estimate(self, docs: Values, clusters: Clusters = None) -> Estimate:
        return estimated(micro_f1(*docs.T, clusters=clusters))

    def compare(self, a: Values, b: Values, clusters: Clusters = None, *, power: bool = False) -> Change:
        change = micro_f1_difference(_columns(b), _columns(a), clusters=clusters)
        return _change(change, self.differences(a, b), clusters, power)

    def differences(self, a: Values, b: Values) -> Values:
        return np.asarray(doc_f1(b) - doc_f1(a))

    def equivalence(self, a: Values, b: Values, clusters: Clusters, margin: float) -> Equivalence:
        return equivalent_f1(_columns(b), _columns(a), margin=margin, clusters=clusters)

    def effects(self, a: Values, b: Values, clusters: Clusters = None) -> dict[str, Estimate]:
        effects = Graded().effects(doc_f1(a), doc_f1(b), clusters)
        return {f"{OF_A_DOC}{name}": effect for name, effect in effects.items()}


def measure_of(kind: str, *, permuted: bool) -> Measure:
    """The measure of a task's headline.

    Args:
        kind: the task's.
        permuted: its docs have several image orders; their scores are means over them.
    """
    if permuted:
        return Graded("mean over docs of the mean over orders")
    return _MEASURES[measure_name(kind)]


_MEASURES: dict[str, Measure] = {"binary": Binary(), "graded": Graded(), "corpus_f1": CorpusF1()}


def _change(change: PairedDifference, differences: Values, clusters: Clusters, power: bool) -> Change:
    """`differences`: of each doc; the signed ranks of their units give the direction."""
    return Change(
        n=change.n,
        units=change.units,
        delta=estimated(change),
        test=change.test,
        differing=f"{(differences > 0).sum()} docs higher in B, {(differences < 0).sum()} in A",
        pvalue=change.pvalue,
        conflict=bool(rank_direction(_means(differences, clusters)) * change.estimate < 0),
        detectable=detectable_mean(change.units, change.spread) if power else None,
        spread=change.spread,
    )


def _single(clusters: Clusters) -> bool:
    return clusters is None or len(set(clusters)) == len(clusters)


def _means(values: Values, clusters: Clusters) -> Values:
    """The mean of each cluster, or the values themselves."""
    if clusters is None:
        return values
    numbers: dict[Hashable, int] = {}
    of = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    return np.asarray(np.bincount(of, values) / np.bincount(of))


def _table(a: Values, b: Values) -> tuple[int, int, int, int]:
    """Docs right in both, only in A, only in B, in neither."""
    right_a, right_b = a == 1, b == 1
    both, of_a, of_b = (int(np.count_nonzero(right)) for right in (right_a & right_b, right_a, right_b))
    return both, of_a - both, of_b - both, len(a) - of_a - of_b + both


def _columns(counts: Values) -> tuple[Values, Values, Values]:
    return counts[:, 0], counts[:, 1], counts[:, 2]


def doc_f1(counts: Values) -> Values:
    """The F1 of each doc, shape (docs,), from its counts: recalled, generated, relevant, shape (docs, 3)."""
    recalled, generated, relevant = counts.T
    precision = recalled / np.maximum(generated, 1)  # nothing below the line: nothing above it
    recall = recalled / np.maximum(relevant, 1)
    both = precision + recall
    return np.asarray(2 * precision * recall / np.where(both == 0, 1.0, both))
