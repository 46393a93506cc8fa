"""Equivalence verdicts of a report: two one-sided tests, one Holm family, and what they mean in words."""

from collections.abc import Sequence
from typing import NamedTuple

from leaderboard.measures import ALPHA, Estimate
from leaderboard.sentences import Docs, adjusted_words, interval_words, points
from mimic_eval.records import UserError
from stats import Equivalence, holm


class Verdict(NamedTuple):
    """One equivalence test of a report.

    Attributes:
        margin: as a share; the difference is tested to lie within -margin to margin.
        estimate: the difference.
        low: lower end of its 90 % interval, or None where there is none.
        high: upper end.
        pvalue: the larger of the two one-sided ones; below 0.05 exactly where the interval lies inside.
        adjusted: after Holm.
        family: tests in the Holm family, the equivalence tests of the report.
        equivalent: `adjusted` is below 0.05.
        test: its exact name.
        sentence: all of it in plain words, for a paper.
    """

    margin: float
    estimate: float
    low: float | None
    high: float | None
    pvalue: float
    adjusted: float
    family: int
    equivalent: bool
    test: str
    sentence: str

    @property
    def words(self) -> str:
        """``equivalent within 3 points``, or that it is not shown."""
        margin = f"{100 * self.margin:g}"
        within = f"equivalent within {margin} point{'s' * (margin != '1')}"
        return within if self.equivalent else f"not shown to be {within}"


def margin_of(points: float) -> float:
    """A margin in points, as a share.

    Raises:
        UserError: it is not above 0 and below 100.
    """
    if not 0 < points < 100:
        raise UserError(f"--margin must be above 0 and below 100 points, got {points:g}")
    return points / 100


def verdicts(tests: Sequence[Equivalence], what: Sequence[str]) -> list[Verdict]:
    """All equivalence tests of a report, judged as one Holm family.

    Args:
        tests: in the order of the report.
        what: of each, what was compared: the beginning of its sentence.
    """
    if not tests:
        return []
    adjusted = holm([test.pvalue for test in tests])
    return [
        _verdict(test, p, adjusted.family, of)
        for test, p, of in zip(tests, adjusted.adjusted, what, strict=True)
    ]


def _verdict(test: Equivalence, adjusted: float, family: int, what: str) -> Verdict:
    """``WHAT (+0.3 points, 90 % CI -0.5 to 1.2; two one-sided ..., p = 0.02; n = 300): equivalent ...``."""
    verdict = Verdict(
        test.margin, test.estimate, test.low, test.high, test.pvalue, adjusted, family, adjusted < ALPHA,
        test.method, "",
    )  # fmt: skip
    difference = Estimate(test.estimate, test.low, test.high, "no interval")
    delta = f"{points(test.estimate, sign=True)} points, {interval_words(difference, level=90)}"
    tested = f"{test.method}, {adjusted_words(test.pvalue, adjusted, family)}; {Docs(test.n, test.units)}"
    lost = test.pvalue < ALPHA and not verdict.equivalent
    after = " after the Holm correction (the interval is not adjusted)" if lost else ""
    return verdict._replace(sentence=f"{what} ({delta}; {tested}): {verdict.words}{after}")
