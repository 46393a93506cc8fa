"""Equivalence verdicts of a report: two one-sided tests, one Holm family, and what they mean in words."""

from collections.abc import Sequence
from typing import NamedTuple

from leaderboard.measures import ALPHA
from leaderboard.sentences import p_text
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
        sentence: all of it in plain words.
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


def margin_of(points: float) -> float:
    """A margin in points, as a share.

    Raises:
        UserError: it is not above 0 and below 100.
    """
    if not 0 < points < 100:
        raise UserError(f"--margin must be above 0 and below 100 points, got {points:g}")
    return points / 100


def verdicts(tests: Sequence[Equivalence], what: str) -> list[Verdict]:
    """All equivalence tests of a report, judged as one Holm family.

    Args:
        tests: in the order of the report.
        what: the difference that was tested, for the sentence.
    """
    if not tests:
        return []
    adjusted = holm([test.pvalue for test in tests])
    return [
        _verdict(test, p, adjusted.family, what) for test, p in zip(tests, adjusted.adjusted, strict=True)
    ]


def _verdict(test: Equivalence, adjusted: float, family: int, what: str) -> Verdict:
    equivalent = adjusted < ALPHA
    points = f"{100 * test.margin:g}"
    within = f"within {points} point{'s' * (points != '1')}"
    verdict = f"equivalent {within}" if equivalent else f"not shown to be equivalent {within}"
    ends = ""
    if test.low is not None and test.high is not None:
        ends = f" [90 % interval {100 * test.low:+.1f}, {100 * test.high:+.1f}]"
    docs = f"{test.n} docs" if test.units == test.n else f"{test.units} matched sets ({test.n} docs)"
    both = p_text(adjusted) if family == 1 else f"{p_text(test.pvalue)}, {p_text(adjusted)}"
    how = f"p = {both} after Holm over {family} equivalence test{'s' * (family > 1)}"
    if test.pvalue < ALPHA and not equivalent:
        how += " (the interval lies inside, but the test fails in the family)"
    sentence = f"{verdict}: {what} {100 * test.estimate:+.1f} points{ends}, {test.method}, {how}, {docs}"
    return Verdict(
        test.margin, test.estimate, test.low, test.high, test.pvalue, adjusted, family, equivalent,
        test.method, sentence,
    )  # fmt: skip
