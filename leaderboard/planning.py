"""Docs that a comparison needs, and what it would show: from given numbers or two runs (METHODS 16.2)."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

from leaderboard.arms import Arm
from leaderboard.measures import Binary, Values
from leaderboard.pairing import PairedTask, images_of, pair_tasks, paired_values
from mimic_eval.records import UserError
from stats import (
    NotEstimableError,
    design_effect,
    detectable_mean,
    detectable_share,
    docs_for_equivalent_means,
    docs_for_equivalent_shares,
    docs_for_mean,
    docs_for_share,
    docs_for_wilcoxon,
    image_clusters,
)

MCNEMAR = "McNemar exact"
SIGN_FLIP = "paired sign-flip (noncentral t)"
WILCOXON = "Wilcoxon signed-rank (simulated)"


class Needed(NamedTuple):
    """Docs for one difference (a share), or None with the reason."""

    difference: float
    docs: int | None
    reason: str = ""


class Plan(NamedTuple):
    """What one test needs.

    Attributes:
        task: its name, or empty for given numbers.
        metric: what is compared, or empty.
        test: its name.
        n: docs that the plan is from; 0 for given numbers.
        docs: of which `detectable` is; 0 for none.
        discordant: share of docs right under one run alone, or None.
        spread: standard deviation of the docs' differences, or None.
        design: design effect of clusters, 1 for independent docs.
        detectable: smallest difference that `docs` show, or None if none.
        needed: docs for each difference.
        note: what else is to be known, or empty.
        equivalence: docs for the verdict "equivalent" where there is no difference, or None.
    """

    task: str
    metric: str
    test: str
    n: int
    docs: int
    discordant: float | None
    spread: float | None
    design: float
    detectable: float | None
    needed: tuple[Needed, ...]
    note: str = ""
    equivalence: Needed | None = None


class Goal(NamedTuple):
    """What a plan is for.

    Attributes:
        differences: as shares.
        alpha: of one two-sided test, already divided by the tests of a family.
        power: the chance to show a difference.
        docs: of which the smallest detectable difference is wanted; 0: those of the runs.
        seed: of the simulations.
        margin: of the equivalence test, a share; 0: docs for it are not wanted.
    """

    differences: tuple[float, ...]
    alpha: float = 0.05
    power: float = 0.8
    docs: int = 0
    seed: int = 0
    margin: float = 0.0


def plan_share(goal: Goal, discordant: float, *, design: float = 1.0) -> Plan:
    """From the share of docs that are right under one run alone.

    Args:
        goal: what the plan is for.
        discordant: the share; the difference itself where that is larger.
        design: design effect of clusters.
    """
    options = {"alpha": goal.alpha, "power": goal.power}
    effective = int(goal.docs / design)
    least = detectable_share(effective, round(discordant * effective), **options) if effective else None
    needed = [
        _needed(one, lambda d: docs_for_share(d, max(d, discordant), design=design, **options))
        for one in goal.differences
    ]
    plan = Plan("", "", MCNEMAR, 0, goal.docs, discordant, None, design, least, tuple(needed))
    if not goal.margin:
        return plan
    equivalence = _needed(
        goal.margin, lambda margin: docs_for_equivalent_shares(margin, discordant, design=design, **options)
    )
    return plan._replace(equivalence=equivalence)


def plan_spread(goal: Goal, spread: float, *, design: float = 1.0) -> list[Plan]:
    """From the standard deviation of the docs' differences: the test of `mimic compare`, and Wilcoxon's.

    Args:
        goal: what the plan is for.
        spread: a share.
        design: design effect of clusters.
    """
    level = {"alpha": goal.alpha, "power": goal.power}
    effective = int(goal.docs / design)
    least = detectable_mean(effective, spread, **level) if effective else None
    plain = [
        _needed(one, lambda d: docs_for_mean(d, spread, design=design, **level)) for one in goal.differences
    ]
    ranks = [_needed(one, lambda d: _ranked(goal, d, design, spread=spread)) for one in goal.differences]
    note = f"normal differences are drawn, seed {goal.seed}"
    first = Plan("", "", SIGN_FLIP, 0, goal.docs, None, spread, design, least, tuple(plain))
    second = first._replace(test=WILCOXON, docs=0, detectable=None, needed=tuple(ranks), note=note)
    return [first._replace(equivalence=_equivalent(goal, spread, design)), second]


def _equivalent(goal: Goal, spread: float, scale: float) -> Needed | None:
    """Docs for the verdict of graded scores; they are `scale` times the independent ones."""
    if not goal.margin:
        return None
    return _needed(
        goal.margin,
        lambda margin: docs_for_equivalent_means(
            margin, spread, alpha=goal.alpha, power=goal.power, design=scale
        ),
    )


def plan_runs(goal: Goal, arms: Sequence[Arm]) -> tuple[list[Plan], list[str]]:
    """From two runs on the same docs: every task and metric that they have in common, and notes.

    Raises:
        UserError: not two runs, runs on different docs, or a task without a doc scored in both.
    """
    if len(arms) != 2:
        raise UserError(f"mimic power reads two runs, got {len(arms)}: give the baseline and another")
    tasks, notes = pair_tasks(*arms)
    plans = [plan for task in tasks for plan in _plan_task(goal, task)]
    return plans, [*(note for arm in arms for note in arm.notes), *notes]


def _plan_task(goal: Goal, task: PairedTask) -> list[Plan]:
    if not task.pairs:
        raise UserError(f"{task.task}: no doc was scored in both runs")
    measure = task.measure
    a, b = paired_values(task)
    change, differences = measure.compare(a, b, task.clusters), measure.differences(a, b)
    effect = (None if task.clusters is None else design_effect(differences, task.clusters)) or 1.0
    design = max(1.0, effect)
    notes = [] if effect == design else [f"a design effect of {effect:.2f} is counted as 1"]
    notes += [line] if (line := _for_new_images(task, differences)) else []
    docs = goal.docs or change.n
    note = "; ".join(notes)
    if isinstance(measure, Binary):
        share = plan_share(goal._replace(docs=docs), float((differences != 0).mean()), design=design)
        return [share._replace(task=task.task, metric=measure.metric, n=change.n, note=note)]
    level = {"alpha": goal.alpha, "power": goal.power}
    per_unit, spread = change.n / change.units, change.spread or 0.0
    least = detectable_mean(max(1, int(docs / per_unit)), spread, **level)
    plan = Plan(
        task.task, measure.metric, SIGN_FLIP, change.n, docs, None, float(differences.std()), design, least,
        (), note,
    )  # fmt: skip
    if not differences.any():
        same = tuple(Needed(one, None, "no doc differs") for one in goal.differences)
        return [plan._replace(needed=same)]
    mean = [
        _needed(one, lambda d: ceil(docs_for_mean(d, spread, **level) * per_unit - 1e-9))
        for one in goal.differences
    ]
    ranks = [
        _needed(one, lambda d: _ranked(goal, d, design, differences=differences)) for one in goal.differences
    ]
    drawn = f"the observed differences are drawn, tilted to each mean, seed {goal.seed}"
    return [
        plan._replace(needed=tuple(mean), equivalence=_equivalent(goal, spread, per_unit)),
        plan._replace(test=WILCOXON, needed=tuple(ranks), docs=0, detectable=None, note=drawn),
    ]


def _ranked(
    goal: Goal,
    difference: float,
    design: float,
    *,
    spread: float | None = None,
    differences: Values | None = None,
) -> int:
    return docs_for_wilcoxon(
        difference, spread=spread, differences=differences, alpha=goal.alpha, power=goal.power,
        design=design, seed=goal.seed,
    ).docs  # fmt: skip


def _for_new_images(task: PairedTask, differences: Values) -> str:
    """What docs that share images cost a statement about new ones, or empty where that cannot be said."""
    shared = images_of(task)
    if shared is None:
        return ""
    try:
        groups = image_clusters(shared)
    except NotEstimableError:
        return ""
    effect = design_effect(differences, groups.labels)
    if effect is None or effect < 1.005:
        return ""
    return f"for new images: design effect {effect:.2f}, {groups.groups} groups of docs share images"


def _needed(difference: float, docs: Callable[[float], int]) -> Needed:
    try:
        return Needed(difference, docs(difference))
    except ValueError as error:  # however many docs there are; the message says why
        return Needed(difference, None, str(error).replace("`", ""))
