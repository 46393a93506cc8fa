"""How often answers change (METHODS 9): between two conditions, and over several orders of a doc."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from stats._checks import open_unit
from stats.means import Clusters, MeanInterval, mean_interval
from stats.proportions import clopper_pearson, rule_of_three, wilson

Answers = Sequence[Hashable]


@dataclass(frozen=True)
class FlipRate:
    """`flips` of `n` docs changed: the share with its Wilson interval.

    With no flip at all, `rule_of_three` is the 95 % upper bound 3 / n (whatever `confidence` is) and
    `exact_upper` the one-sided Clopper-Pearson bound at `confidence`; with flips both are None.
    """

    estimate: float
    low: float
    high: float
    n: int
    flips: int
    rule_of_three: float | None
    exact_upper: float | None
    confidence: float


def flip_rate(before: Answers, after: Answers, *, confidence: float = 0.95) -> FlipRate:
    """Share of docs whose normalised answer differs between two conditions (METHODS 9).

    Args:
        before: one normalised answer per doc, hashable; docs unscored in either condition are left out
            (and counted) by the caller.
        after: the same docs in the same order under the other condition.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; lengths differ; an answer is None, NaN or not hashable; a bare string.
    """
    _checked("before", before)
    _checked("after", after)
    if len(before) != len(after):
        raise ValueError(f"`before` and `after` must hold the same docs, got {len(before)} and {len(after)}")
    return _rate(sum(a != b for a, b in zip(before, after, strict=True)), len(before), confidence)


def any_change(answers: Sequence[Answers], *, confidence: float = 0.95) -> FlipRate:
    """Share of docs whose answer is not the same in all their orders (METHODS 9), as `flip_rate`.

    Args:
        answers: per doc its normalised answers, one per order; docs may have unequal numbers of orders.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; a doc with fewer than 2 answers; an answer is None, NaN or not hashable.
    """
    _checked_orders(answers)
    return _rate(sum(len(set(given)) > 1 for given in answers), len(answers), confidence)


def pairwise_disagreement(
    answers: Sequence[Answers], *, clusters: Clusters = None, confidence: float = 0.95
) -> MeanInterval:
    """Mean over docs of the share of unordered pairs of orders whose answers differ (METHODS 9).

    The interval is `mean_interval`'s over docs or clusters of them (none below 8).

    Args:
        answers: per doc its normalised answers, one per order; docs may have unequal numbers of orders.
        clusters: the cluster of each doc, or None if each doc is one.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; a doc with fewer than 2 answers; an answer is None, NaN or not hashable.
    """
    _checked_orders(answers)
    shares = [_disagreeing(given) for given in answers]
    return mean_interval(shares, clusters=clusters, confidence=confidence)


def _disagreeing(given: Answers) -> float:
    """Share of pairs that differ: all pairs less those within a group of equal answers."""
    pairs = len(given) * (len(given) - 1)
    return (pairs - sum(count * (count - 1) for count in Counter(given).values())) / pairs


def _rate(flips: int, n: int, confidence: float) -> FlipRate:
    confidence = open_unit("confidence", confidence)
    share = wilson(flips, n, confidence=confidence)
    three = None if flips else rule_of_three(n)
    exact = None if flips else clopper_pearson(0, n, confidence=confidence, side="upper").high
    return FlipRate(share.estimate, share.low, share.high, n, flips, three, exact, confidence)


def _checked_orders(answers: Sequence[Answers]) -> None:
    if not len(answers):
        raise ValueError("`answers` needs at least 1 doc, got 0")
    for doc, given in enumerate(answers):
        _checked(f"answers[{doc}]", given)
        if len(given) < 2:
            raise ValueError(f"each doc needs at least 2 answers to compare, got {len(given)} at doc {doc}")


def _checked(name: str, answers: Answers) -> None:
    if isinstance(answers, str | bytes):
        raise ValueError(f"`{name}` must be a sequence of answers, got the text {answers!r}")
    if not len(answers):
        raise ValueError(f"`{name}` needs at least 1 answer, got 0")
    for at, answer in enumerate(answers):
        if not isinstance(answer, Hashable):
            raise ValueError(f"`{name}` must hold hashable answers, got {answer!r} at {at}")
        if answer is None or answer != answer:
            raise ValueError(f"`{name}` must hold scored answers only, got {answer} (unscored) at {at}")
