"""How far a run's answers depend on the order of the images: permuted tasks read (METHODS 9)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import NamedTuple

import numpy as np

from leaderboard.arms import Arm, arm_labels
from leaderboard.equivalence import Verdict, verdicts
from leaderboard.measures import Binary, Estimate, Graded, Measure, estimated
from leaderboard.order_runs import SETTING, merge_orders
from leaderboard.pairing import Doc, PairedTask, answer_of, doc_score, docs_of, order_of, pair_tasks, score_of
from mimic_eval.records import Sample, UserError
from stats import (
    Equivalence,
    any_change,
    doc_slopes,
    equivalent_means,
    holm,
    mean_interval,
    pairwise_disagreement,
    position_slope,
    spearman_per_doc,
    wilson,
)

PLACES = ("first", "1/4", "middle", "3/4", "last")
"""Relative positions of an image among the images of its doc, to the nearest quarter."""


LAST_FIRST = "answer's image last - first"
OTHERS_FIRST = "other orders - first order"
"""Order effects: of the score, within docs."""


class PositionScore(NamedTuple):
    """Scores with the answer's image at one position: of docs of `n_images`, or of all docs if None."""

    n_images: int | None
    place: str
    docs: int
    score: Estimate


IMAGE, LETTER = "image that holds the answer", "letter of the right option"
"""What has a position."""


@dataclass(frozen=True)
class Robustness:
    """One permuted task of one run.

    Attributes:
        run: its label.
        task: the task.
        orders: the rule of the orders and its seed.
        n: docs with all orders scored, of two orders at least.
        unscored: docs left out because an order is unscored.
        single: docs left out because they have one order only.
        score: mean over docs of the mean over orders.
        consistent: share of docs right under all orders.
        any_change: share of docs whose answer changes with the order.
        disagreement: mean over docs of the share of pairs of orders whose answers differ.
        placed: docs whose targets lie in exactly one image; what follows is of these.
        spread_out: the others, left out there.
        slope: change of the score from the first position to the last, within docs, or None if no doc
            determines it.
        rho: Spearman's rho of position and score, within docs, or None if no score changes.
        recency: score with the image last minus score with it first, within docs.
        places: scores by position.
        about: what has the position.
        excluded: docs of the set that have no other order, by reason; empty for our own tasks.
    """

    run: str
    task: str
    orders: str
    n: int
    unscored: int
    single: int
    score: Estimate
    consistent: Estimate
    any_change: Estimate
    disagreement: Estimate
    placed: int
    spread_out: int
    slope: Estimate | None
    rho: Estimate | None
    recency: Estimate | None
    places: tuple[PositionScore, ...]
    about: str = IMAGE
    excluded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RobustnessTest:
    """One measure of one task under two runs on the same docs and orders; `delta` is B - A.

    The primary measure, pairwise disagreement, has the task's one test; `adjusted` and `family` are Holm's,
    known when all tests of a report are. The others describe: their `pvalue` and `adjusted` are None.
    """

    task: str
    measure: str
    a: str
    b: str
    n: int
    delta: Estimate
    test: str
    pvalue: float | None = None
    adjusted: float | None = None
    family: int = 0


@dataclass(frozen=True)
class OrderEffect:
    """Whether an order effect of one run on one task is smaller than a margin.

    `verdict` is None where no doc determines the effect; `reason` says why.
    """

    task: str
    run: str
    effect: str
    verdict: Verdict | None
    reason: str = ""


@dataclass(frozen=True)
class RobustnessReport:
    """All runs, and the others against the first; `effects` where a margin was given."""

    rows: tuple[Robustness, ...]
    tests: tuple[RobustnessTest, ...]
    notes: tuple[str, ...]
    effects: tuple[OrderEffect, ...] = ()


def robustness(arms: Sequence[Arm], *, margin: float | None = None) -> RobustnessReport:
    """Every permuted task of every run; with several runs, each against the first.

    Runs of one model that differ in `order=` only are one: each is an order of the docs (`merge_orders`).

    Args:
        arms: the runs.
        margin: of the equivalence tests of order effects, as a share, or None for none.

    Raises:
        UserError: a run without a permuted task, runs on different docs or orders, no doc to measure.
    """
    arms = merge_orders(arms)
    labels = arm_labels(arms) if len(arms) > 1 else [str(arms[0].path)]
    measured: list[tuple[str, str, Sequence[Doc]]] = []
    for arm, label in zip(arms, labels, strict=True):
        tasks = [task for task, samples in arm.samples.items() if samples and samples[0].ordering]
        if not tasks:
            raise UserError(
                f"{arm.path} holds no permuted task: run e.g. lmms_eval --tasks mimic_counting_permuted with "
                "--log_samples, or give runs of one model that differ in order= only (fixed, reversed)"
            )
        measured += [(label, task, list(docs_of(arm.samples[task]).values())) for task in tasks]
    rows = [_measured(*one) for one in measured]
    tests = _tests(arms, labels)
    effects = () if margin is None else _effects(measured, margin)
    notes = tuple(dict.fromkeys(note for arm in arms for note in arm.notes))
    return RobustnessReport(tuple(rows), tuple(tests), notes, effects)


def _measured(run: str, task: str, docs: Sequence[Doc]) -> Robustness:
    scored = [doc for doc in docs if doc.scored]
    several = [doc for doc in scored if len(doc.samples) > 1]
    if not several:
        raise UserError(f"{run}: {task} has no scored doc of two image or option orders")
    answers = [[answer_of(sample) for sample in doc.samples] for doc in several]
    changed, differing = any_change(answers), pairwise_disagreement(answers)
    consistent = wilson(sum(_always_right(doc) for doc in several), len(several))
    mean = mean_interval([doc_score(doc) for doc in several])
    placed = [doc for doc in several if _positions(doc)]
    return Robustness(
        run=run,
        task=task,
        orders=_rule(several[0].samples[0]),
        n=len(several),
        unscored=len(docs) - len(scored),
        single=len(scored) - len(several),
        score=estimated(mean),
        consistent=estimated(consistent, "Wilson"),
        any_change=estimated(changed, "Wilson"),
        disagreement=estimated(differing),
        placed=len(placed),
        spread_out=len(several) - len(placed),
        slope=_slope(placed),
        rho=_rho(placed),
        recency=_recency(placed),
        places=tuple(_curve(placed)),
        about=LETTER if task.endswith("_permuted_options") else IMAGE,
        excluded=dict(several[0].samples[0].excluded or {}),
    )


def _rule(sample: Sample) -> str:
    if sample.ordering is None:
        raise sample.missing("base_hash")
    rule = sample.ordering.orders
    return rule if rule.startswith(f"{SETTING}=") else f"{rule}, seed {sample.ordering.order_seed}"


def _always_right(doc: Doc) -> bool:
    return all(score_of(sample) == 1 for sample in doc.samples)


def _positions(doc: Doc) -> list[float]:
    """The position of the one image with the targets in each order, 0 first to 1 last; else empty."""
    positions = []
    for sample in doc.samples:
        ordering = sample.ordering
        if ordering is None or len(ordering.target_positions or ()) != 1 or len(ordering.order) < 2:
            return []
        positions.append((ordering.target_positions or (0,))[0] / (len(ordering.order) - 1))
    return positions


def _points(docs: Sequence[Doc]) -> list[list[tuple[float, float]]]:
    return [
        [(position, score_of(sample)) for position, sample in zip(_positions(doc), doc.samples, strict=True)]
        for doc in docs
    ]


def _slope(docs: Sequence[Doc]) -> Estimate | None:
    points = _points(docs)
    if not any(len({position for position, _ in of_doc}) > 1 for of_doc in points):
        return None
    slope = position_slope(points)
    return estimated(slope, f"{slope.method}, {slope.n} docs")


def _rho(docs: Sequence[Doc]) -> Estimate | None:
    points = _points(docs)
    if not any(len({p for p, _ in of_doc}) > 1 and len({s for _, s in of_doc}) > 1 for of_doc in points):
        return None
    rho = spearman_per_doc(points)
    how = f"{rho.method}, {rho.n} docs; {rho.constant_correct} have one score throughout"
    return estimated(rho, how)


def _recency(docs: Sequence[Doc]) -> Estimate | None:
    """Within each doc: the mean score with the image last, less that with it first."""
    differences = _last_minus_first(docs)
    if not differences:
        return None
    mean = mean_interval(differences, bounds=(-1.0, 1.0))
    return estimated(mean, f"{mean.method}, {mean.n} docs")


def _last_minus_first(docs: Sequence[Doc]) -> list[float]:
    differences = []
    for of_doc in _points(docs):
        last, first = ([score for position, score in of_doc if position == end] for end in (1.0, 0.0))
        if first and last:
            differences.append(sum(last) / len(last) - sum(first) / len(first))
    return differences


def _others_minus_stored(docs: Sequence[Doc]) -> list[float]:
    """Within each doc: the mean score over its other orders, less that in its first one."""
    scores = [[score_of(sample) for sample in doc.samples] for doc in docs]
    return [sum(of_doc[1:]) / (len(of_doc) - 1) - of_doc[0] for of_doc in scores]


def _effects(measured: Sequence[tuple[str, str, Sequence[Doc]]], margin: float) -> tuple[OrderEffect, ...]:
    """Two order effects of each run and task, each a paired difference within docs; one Holm family."""
    effects: list[OrderEffect] = []
    tests: list[Equivalence] = []
    for run, task, docs in measured:
        several = [doc for doc in docs if doc.scored and len(doc.samples) > 1]
        placed = [doc for doc in several if _positions(doc)]
        for name, differences in (
            (LAST_FIRST, _last_minus_first(placed)),
            (OTHERS_FIRST, _others_minus_stored(several)),
        ):
            reason = "" if differences else "no doc has its targets in one image that comes first and last"
            effects.append(OrderEffect(task, run, name, None, reason))
            if differences:
                tests.append(equivalent_means(differences, margin=margin))
    judged = iter(verdicts(tests, "effect"))
    return tuple(effect if effect.reason else replace(effect, verdict=next(judged)) for effect in effects)


def _curve(docs: Sequence[Doc]) -> list[PositionScore]:
    """By relative position over all docs, then by position for each number of images."""
    all_scores: dict[tuple[int, int], list[float]] = {}  # N (0: all docs, by quarter) and position
    for doc, of_doc in zip(docs, _points(docs), strict=True):
        images = len(order_of(doc.samples[0]))
        scores_here: dict[tuple[int, int], list[float]] = {}
        for position, score in of_doc:
            scores_here.setdefault((0, round(4 * position)), []).append(score)
            scores_here.setdefault((images, round(position * (images - 1))), []).append(score)
        for key, scores in scores_here.items():
            all_scores.setdefault(key, []).append(sum(scores) / len(scores))
    places = []
    for (n, number), scores in sorted(all_scores.items()):
        mean = mean_interval(scores)
        name = str(number + 1) if n else PLACES[number]
        places.append(PositionScore(n or None, name, len(scores), estimated(mean)))
    return places


class _Compared(NamedTuple):
    """What is compared between runs: a number of each doc, and what kind of score it is."""

    name: str
    of: Callable[[Doc], float | None]
    measure: Measure


def _changes(doc: Doc) -> float:
    return float(len({answer_of(sample) for sample in doc.samples}) > 1)


def _disagreement(doc: Doc) -> float:
    return pairwise_disagreement([[answer_of(sample) for sample in doc.samples]]).estimate


def _doc_slope(doc: Doc) -> float | None:
    if not _positions(doc):
        return None
    (slope,) = doc_slopes(_points([doc])).slopes.tolist()
    return None if isnan(slope) else slope


PRIMARY = "pairwise disagreement"
"""The one measure of a task that is tested; the others describe (METHODS 9)."""

_MEASURES = (
    _Compared(PRIMARY, _disagreement, Graded()),
    _Compared("any change", _changes, Binary()),
    _Compared("right under all orders", lambda doc: float(_always_right(doc)), Binary()),
    _Compared("score", doc_score, Graded()),
)


def _tests(arms: Sequence[Arm], labels: Sequence[str]) -> list[RobustnessTest]:
    rows = []
    for arm, label in zip(arms[1:], labels[1:], strict=True):
        for task in pair_tasks(arms[0], arm)[0]:
            if task.permuted:
                slope = _Compared("slope over positions", _doc_slope, Graded(bounds=_slope_bounds(task)))
                compared = (*_MEASURES, slope)
                rows += [row for one in compared if (row := _test(task, one, labels[0], label))]
    tested = [row.pvalue for row in rows if row.pvalue is not None]
    adjusted = iter(holm(tested).adjusted if tested else ())
    return [
        replace(row, adjusted=None if row.pvalue is None else next(adjusted), family=len(tested))
        for row in rows
    ]


def _slope_bounds(task: PairedTask) -> tuple[float, float]:
    placed = [pair.a for pair in task.pairs if len(pair.a.samples) > 1 and _positions(pair.a)]
    steepest = doc_slopes(_points(placed)).steepest if placed else 0.0
    return (-max(1.0, steepest), max(1.0, steepest))


def _test(task: PairedTask, compared: _Compared, a: str, b: str) -> RobustnessTest | None:
    pairs = [
        (of_a, of_b)
        for pair in task.pairs
        if len(pair.a.samples) > 1
        if (of_a := compared.of(pair.a)) is not None and (of_b := compared.of(pair.b)) is not None
    ]
    if not pairs:
        return None
    before, after = np.array(pairs).T
    change = compared.measure.compare(before, after)
    row = RobustnessTest(task.task, compared.name, a, b, len(pairs), change.delta, "describes")
    return replace(row, test=change.test, pvalue=change.pvalue) if compared.name == PRIMARY else row
