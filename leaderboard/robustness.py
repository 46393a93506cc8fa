"""How far a run's answers depend on the order of the images: permuted tasks read (METHODS 9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from leaderboard.arms import Arm, arm_labels
from leaderboard.doc_orders import (
    always_right,
    deviation_of,
    disagreement_of,
    last_minus_first,
    others_minus_first,
    points_of,
    positions_of,
)
from leaderboard.equivalence import Verdict, verdicts
from leaderboard.measures import Binary, Estimate, Graded, estimated
from leaderboard.order_runs import SETTING, merge_orders
from leaderboard.pairing import Doc, answer_of, clusters_of, doc_score, docs_of, order_of
from leaderboard.robustness_tests import RobustnessTest, compared_runs
from leaderboard.sentences import task_title
from mimic_eval.records import Sample, UserError
from stats import (
    Equivalence,
    RelativeDeviation,
    equivalent_means,
    mean_interval,
    position_slope,
    spearman_per_doc,
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


IMAGE, LETTER, ENTRY = "image that holds the answer", "letter of the right option", "image of an entry"
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
        units: independent units among the n: docs, or matched sets of a sweep.
        score: mean over docs of the mean over orders.
        consistent: share of docs right under all orders.
        any_change: share of docs whose answer changes with the order.
        disagreement: mean over docs of the share of pairs of orders whose answers differ; of a task with an
            entry for each image, the mean of its images.
        placed: docs whose targets lie in exactly one image, or with an entry for each image; what follows is
            of these.
        spread_out: the others, left out there.
        slope: change of the score from the first position to the last, within docs, or None if no doc
            determines it.
        rho: Spearman's rho of position and score, within docs, or None if no score changes.
        recency: score with the image last minus score with it first, within docs.
        places: scores by position.
        about: what has the position.
        excluded: docs of the set that have no other order, by reason; empty for our own tasks.
        deviation: relative standard deviation of the score over positions, of tasks whose answers name
            images by their position.
    """

    run: str
    task: str
    orders: str
    n: int
    unscored: int
    single: int
    units: int
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
    deviation: RelativeDeviation | None = None


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
    labels = arm_labels(arms) if len(arms) > 1 else [arms[0].name or str(arms[0].path)]
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
    tests = compared_runs(arms, labels, arm_labels(arms, prose=True))
    effects = () if margin is None else _effects(measured, margin)
    notes = tuple(dict.fromkeys(note for arm in arms for note in arm.notes))
    return RobustnessReport(tuple(rows), tuple(tests), notes, effects)


def _measured(run: str, task: str, docs: Sequence[Doc]) -> Robustness:
    scored = [doc for doc in docs if doc.scored]
    several = [doc for doc in scored if len(doc.samples) > 1]
    if not several:
        raise UserError(f"{run}: {task} has no scored doc of two image or option orders")
    sets = clusters_of(several)
    answers = [[answer_of(sample) for sample in doc.samples] for doc in several]
    changed = np.array([float(len(set(of_doc)) > 1) for of_doc in answers])
    right = np.array([float(always_right(doc)) for doc in several])
    placed = [doc for doc in several if positions_of(doc)]
    return Robustness(
        run=run,
        task=task,
        orders=_rule(several[0].samples[0]),
        n=len(several),
        unscored=len(docs) - len(scored),
        single=len(scored) - len(several),
        units=len(several) if sets is None else len(set(sets)),
        score=Graded().estimate(np.array([doc_score(doc) for doc in several]), sets),
        consistent=Binary().estimate(right, sets),
        any_change=Binary().estimate(changed, sets),
        disagreement=estimated(mean_interval(list(map(disagreement_of, several)), clusters=sets)),
        placed=len(placed),
        spread_out=len(several) - len(placed),
        slope=_slope(placed),
        rho=_rho(placed),
        recency=_recency(placed),
        places=tuple(_curve(placed)),
        about=_about(task, several[0].samples[0]),
        excluded=dict(several[0].samples[0].excluded or {}),
        deviation=deviation_of(several),
    )


def _about(task: str, sample: Sample) -> str:
    if task.endswith("_permuted_options"):
        return LETTER
    return ENTRY if sample.position_scores and None not in sample.position_scores else IMAGE


def _rule(sample: Sample) -> str:
    if sample.ordering is None:
        raise sample.missing("base_hash")
    rule = sample.ordering.orders
    return rule if rule.startswith(f"{SETTING}=") else f"{rule}, seed {sample.ordering.order_seed}"


def _slope(docs: Sequence[Doc]) -> Estimate | None:
    points = points_of(docs)
    if not any(len({position for position, _ in of_doc}) > 1 for of_doc in points):
        return None
    slope = position_slope(points, clusters=clusters_of(docs))
    return estimated(slope, f"{slope.method}, {slope.n} docs")


def _rho(docs: Sequence[Doc]) -> Estimate | None:
    points = points_of(docs)
    if not any(len({p for p, _ in of_doc}) > 1 and len({s for _, s in of_doc}) > 1 for of_doc in points):
        return None
    rho = spearman_per_doc(points, clusters=clusters_of(docs))
    how = f"{rho.method}, {rho.n} docs; {rho.constant_correct} have one score throughout"
    return estimated(rho, how)


def _recency(docs: Sequence[Doc]) -> Estimate | None:
    """Within each doc: the mean score with the image last, less that with it first."""
    ends = [(doc, difference) for doc in docs if (difference := last_minus_first(doc)) is not None]
    if not ends:
        return None
    sets = clusters_of([doc for doc, _ in ends])
    mean = mean_interval([difference for _, difference in ends], bounds=(-1.0, 1.0), clusters=sets)
    return estimated(mean, f"{mean.method}, {mean.n} docs")


def _effects(measured: Sequence[tuple[str, str, Sequence[Doc]]], margin: float) -> tuple[OrderEffect, ...]:
    """Two order effects of each run and task, each a paired difference within docs; one Holm family."""
    effects: list[OrderEffect] = []
    tests: list[Equivalence] = []
    what: list[str] = []
    for run, task, docs in measured:
        several = [doc for doc in docs if doc.scored and len(doc.samples) > 1]
        placed = [doc for doc in several if positions_of(doc)]
        for name, docs_here, of in (
            (LAST_FIRST, placed, last_minus_first),
            (OTHERS_FIRST, several, others_minus_first),
        ):
            both = [(doc, difference) for doc in docs_here if (difference := of(doc)) is not None]
            reason = "" if both else "no doc has its targets in one image that comes first and last"
            effects.append(OrderEffect(task, run, name, None, reason))
            if both:
                sets = clusters_of([doc for doc, _ in both])
                values = [difference for _, difference in both]
                tests.append(equivalent_means(values, margin=margin, clusters=sets))
                what.append(f"{task_title(task)}, {run}, {name}")
    judged = iter(verdicts(tests, what))
    return tuple(effect if effect.reason else replace(effect, verdict=next(judged)) for effect in effects)


def _curve(docs: Sequence[Doc]) -> list[PositionScore]:
    """By relative position over all docs, then by position for each number of images."""
    all_scores: dict[tuple[int, int], list[tuple[Doc, float]]] = {}  # N (0: all, by quarter) and position
    for doc, of_doc in zip(docs, points_of(docs), strict=True):
        images = len(order_of(doc.samples[0]))
        scores_here: dict[tuple[int, int], list[float]] = {}
        for position, score in of_doc:
            scores_here.setdefault((0, round(4 * position)), []).append(score)
            scores_here.setdefault((images, round(position * (images - 1))), []).append(score)
        for key, scores in scores_here.items():
            all_scores.setdefault(key, []).append((doc, sum(scores) / len(scores)))
    places = []
    for (n, number), found in sorted(all_scores.items()):
        sets = clusters_of([doc for doc, _ in found])
        mean = mean_interval([score for _, score in found], clusters=sets)
        name = str(number + 1) if n else PLACES[number]
        places.append(PositionScore(n or None, name, len(found), estimated(mean)))
    return places
