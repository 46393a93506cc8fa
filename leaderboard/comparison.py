"""Two runs on the same docs: each task's change, its one test, and what it means in words (METHODS 9)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from leaderboard.arms import Arm, arm_labels
from leaderboard.pairing import PairedTask, answer_of, doc_score, pair_tasks
from mimic_eval.records import UserError
from stats import (
    NotEstimableError,
    cluster_bootstrap,
    connected_groups,
    discordant_odds_ratio,
    flip_rate,
    hodges_lehmann,
    holm,
    mcnemar_exact,
    mean_interval,
    micro_f1,
    micro_f1_difference,
    paired_risk_difference,
    rank_biserial,
    wilcoxon_signed_rank,
    wilson,
)

ALPHA = 0.05


class Estimate(NamedTuple):
    """A number with its 95 % interval, and how it was made; without `low` and `high`, `method` says why."""

    estimate: float
    low: float | None
    high: float | None
    method: str


class _Interval(Protocol):
    """A result of `stats`."""

    @property
    def estimate(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def estimated(found: _Interval, method: str | None = None) -> Estimate:
    """A result of `stats` as an `Estimate`; `method` where the result does not name its own."""
    told = str(getattr(found, "method", "")) if method is None else method
    return Estimate(found.estimate, found.low, found.high, told)


@dataclass(frozen=True)
class TaskComparison:
    """One task under two runs; A is the baseline, B the other.

    Attributes:
        task: its name.
        metric: what is compared.
        a: label of A.
        b: label of B.
        n: docs scored in both.
        unscored_a: docs that A left unscored; they are left out.
        unscored_b: docs that B left unscored.
        score_a: on the n docs.
        score_b: on the n docs.
        delta: B - A over docs of this image pool.
        new_images: B - A for images like these, from clusters of docs that share images.
        test: its exact name; of what.
        pvalue: two-sided.
        adjusted: after Holm.
        family: tests in Holm's family.
        effects: effect sizes by name.
        flips: share of docs whose answer changes between the runs.
        flip_bound: without a flip, the rule of three and the exact one-sided bound; else None.
        sentence: all of it in plain words.
    """

    task: str
    metric: str
    a: str
    b: str
    n: int
    unscored_a: int
    unscored_b: int
    score_a: Estimate
    score_b: Estimate
    delta: Estimate
    new_images: Estimate
    test: str
    pvalue: float
    adjusted: float
    family: int
    effects: dict[str, Estimate]
    flips: Estimate
    flip_bound: dict[str, float] | None
    sentence: str

    def record(self) -> dict[str, Any]:
        """For JSON."""
        estimates = ("score_a", "score_b", "delta", "new_images", "flips")
        return {
            **asdict(self),
            **{name: getattr(self, name)._asdict() for name in estimates},
            "effects": {name: effect._asdict() for name, effect in self.effects.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """All tasks of all pairs of runs.

    Attributes:
        baseline: label of the first run.
        others: labels of the others.
        rows: by task, then by run.
        notes: what was left aside.
    """

    baseline: str
    others: tuple[str, ...]
    rows: tuple[TaskComparison, ...]
    notes: tuple[str, ...]


class _Tested(NamedTuple):
    """A task before Holm's family is known."""

    metric: str
    score_a: Estimate
    score_b: Estimate
    delta: Estimate
    test: str
    pvalue: float
    effects: dict[str, Estimate]


def compare(arms: Sequence[Arm]) -> Comparison:
    """Compare each run with the first one, task by task; all tests are one family.

    Raises:
        UserError: fewer than two runs, runs on different docs, or a task without a doc scored in both.
    """
    if len(arms) < 2:
        raise UserError("compare needs two runs at least: the baseline first")
    labels = arm_labels(arms)
    found: list[tuple[str, PairedTask, _Tested]] = []
    notes = [note for arm in arms for note in arm.notes]
    for arm, label in zip(arms[1:], labels[1:], strict=True):
        tasks, left_out = pair_tasks(arms[0], arm)
        notes += left_out
        for task in tasks:
            if not task.pairs:
                raise UserError(f"{task.task}: no doc was scored in both {labels[0]} and {label}")
            found.append((label, task, _tested(task)))
    adjusted = holm([tested.pvalue for _, _, tested in found])
    rows = [
        _row(labels[0], label, task, tested, p, adjusted.family)
        for (label, task, tested), p in zip(found, adjusted.adjusted, strict=True)
    ]
    rows.sort(key=lambda row: row.task)
    return Comparison(labels[0], tuple(labels[1:]), tuple(rows), tuple(dict.fromkeys(notes)))


def _tested(task: PairedTask) -> _Tested:
    if task.permuted:
        return _graded(task, "mean over docs of the mean over orders")
    if task.kind == "listing":
        return _listing(task)
    return _binary(task)


def _binary(task: PairedTask) -> _Tested:
    """Right or wrong: McNemar's exact test and the paired risk difference."""
    right = [(bool(doc_score(pair.a)), bool(doc_score(pair.b))) for pair in task.pairs]
    both, only_a, only_b, neither = (
        right.count(case) for case in ((True, True), (True, False), (False, True), (False, False))
    )
    n = len(right)
    test = mcnemar_exact(only_a, only_b)
    difference = paired_risk_difference(both, only_b, only_a, neither)
    score_a, score_b = (wilson(both + only, n) for only in (only_a, only_b))
    effects = {"Cohen's h": Estimate(difference.cohens_h, None, None, "of the two shares")}
    if only_a + only_b:
        odds = discordant_odds_ratio(only_b, only_a)
        effects["odds ratio of discordant docs"] = estimated(odds)
    return _Tested(
        "exact match",
        estimated(score_a, "Wilson"),
        estimated(score_b, "Wilson"),
        estimated(difference),
        f"{test.method}, {only_b} docs right only in B, {only_a} only in A",
        test.pvalue,
        effects,
    )


def _listing(task: PairedTask) -> _Tested:
    """Micro F1 over the corpus is the headline; the test is on the F1 of each doc."""
    counts = [[own.samples[0]["f1"]["counts"] for own in pair] for pair in task.pairs]
    (ra, ga, wa), (rb, gb, wb) = (tuple(zip(*(own[i] for own in counts), strict=True)) for i in (0, 1))
    scores = [micro_f1(ra, ga, wa), micro_f1(rb, gb, wb)]
    delta = micro_f1_difference((rb, gb, wb), (ra, ga, wa))
    graded = _graded(task, "F1 of a doc")
    return graded._replace(
        metric="micro F1 (tested: F1 of each doc)",
        score_a=estimated(scores[0], "percentile bootstrap over docs"),
        score_b=estimated(scores[1], "percentile bootstrap over docs"),
        delta=estimated(delta),
    )


def _graded(task: PairedTask, metric: str) -> _Tested:
    """Scores between 0 and 1: Wilcoxon's signed ranks and the Hodges-Lehmann shift."""
    values = [(doc_score(pair.a), doc_score(pair.b)) for pair in task.pairs]
    differences = [b - a for a, b in values]
    test = wilcoxon_signed_rank(differences)
    mean_a, mean_b = (mean_interval([own[i] for own in values]) for i in (0, 1))
    delta = mean_interval(differences, bounds=(-1.0, 1.0))
    shift = hodges_lehmann(differences, bounds=(-1.0, 1.0))
    rank = rank_biserial(differences)
    return _Tested(
        metric,
        estimated(mean_a),
        estimated(mean_b),
        estimated(delta),
        f"{test.method}, {test.zeros} docs without a difference",
        test.pvalue,
        {
            "Hodges-Lehmann shift": estimated(shift),
            "matched-pairs rank-biserial correlation": estimated(rank),
        },
    )


def _row(a: str, b: str, task: PairedTask, tested: _Tested, adjusted: float, family: int) -> TaskComparison:
    before, after = ([answer_of(own.samples[0]) for own in docs] for docs in zip(*task.pairs, strict=True))
    flips = flip_rate(before, after)
    bound = None
    if flips.rule_of_three is not None and flips.exact_upper is not None:
        bound = {"rule of three": flips.rule_of_three, "exact one-sided 95 %": flips.exact_upper}
    return TaskComparison(
        task=task.task,
        metric=tested.metric,
        a=a,
        b=b,
        n=len(task.pairs),
        unscored_a=task.unscored_a,
        unscored_b=task.unscored_b,
        score_a=tested.score_a,
        score_b=tested.score_b,
        delta=tested.delta,
        new_images=_for_new_images(task),
        test=tested.test,
        pvalue=tested.pvalue,
        adjusted=adjusted,
        family=family,
        effects=tested.effects,
        flips=estimated(flips, "Wilson, first image order"),
        flip_bound=bound,
        sentence=_sentence(a, b, task, tested, adjusted, family),
    )


def _for_new_images(task: PairedTask) -> Estimate:
    """The change of the mean doc score, by a bootstrap over groups of docs that share images."""
    differences = [doc_score(pair.b) - doc_score(pair.a) for pair in task.pairs]
    mean = sum(differences) / len(differences)
    images = [pair.a.samples[0]["mimic"].get("image_ids") for pair in task.pairs]
    if not all(images):
        return Estimate(mean, None, None, "not estimable: the samples do not name their images")
    groups = connected_groups([[str(image) for image in own] for own in images])
    try:
        found = cluster_bootstrap(differences, groups.labels, bounds=(-1.0, 1.0))
    except NotEstimableError as error:
        return Estimate(mean, None, None, str(error))
    return estimated(found, f"{found.method}, {found.clusters} groups of docs")


def _sentence(a: str, b: str, task: PairedTask, tested: _Tested, adjusted: float, family: int) -> str:
    delta = tested.delta
    test = tested.test.split(",")[0].split(" (")[0]
    proof = (
        f"{test} p = {p_text(adjusted)} after Holm over {family} test{'s' * (family > 1)}, "
        f"{len(task.pairs)} docs of this image pool"
    )
    ends = [] if delta.low is None or delta.high is None else [100 * delta.low, 100 * delta.high]
    if adjusted >= ALPHA:
        points = f"{100 * delta.estimate:+.1f} points{_interval(ends)}"
        return f"no difference shown between {b} and {a}: {points}, {proof}"
    if delta.estimate > 0:
        return f"{b} is better than {a} by {100 * delta.estimate:.1f} points{_interval(ends)}, {proof}"
    turned = [-end for end in reversed(ends)]
    return f"{b} is worse than {a} by {-100 * delta.estimate:.1f} points{_interval(turned)}, {proof}"


def _interval(ends: Sequence[float]) -> str:
    return f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""


def p_text(value: float) -> str:
    """A p-value for a reader."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
