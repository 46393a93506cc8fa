"""Two runs on the same docs: each task's change, its one test, and what it means in words (METHODS 9)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from leaderboard.arms import Arm, arm_labels
from leaderboard.doublings import Doublings, per_doubling
from leaderboard.equivalence import Verdict, verdicts
from leaderboard.measures import ALPHA, Change, Estimate, Measure, estimated, p_text
from leaderboard.pairing import PairedTask, answer_of, images_of, pair_tasks, paired_values
from mimic_eval.records import UserError
from stats import Equivalence, NotEstimableError, flip_rate, holm, image_clusters


@dataclass(frozen=True)
class TaskComparison:
    """One task under two runs; A is the baseline, B the other.

    Attributes:
        task: its name.
        metric: what is compared.
        a: label of A.
        b: label of B.
        n: docs scored in both.
        units: independent units among them: docs, or matched sets of a sweep.
        unscored_a: docs that A left unscored; they are left out.
        unscored_b: docs that B left unscored.
        score_a: on the n docs.
        score_b: on the n docs.
        delta: B - A over docs of this image pool.
        new_images: B - A for images like these, from clusters of docs that share images.
        test: its exact name, and what it tests.
        pvalue: two-sided; below 0.05 exactly where the interval of `delta` excludes 0.
        adjusted: after Holm.
        family: tests in Holm's family.
        verdict: ``better``, ``worse`` (B than A), ``no difference shown``, or ``no verdict`` where the signed
            ranks of the docs point the other way than `delta`.
        detectable: the smallest difference that the test would detect with power 0.8, or None if there is
            none.
        doublings: of a sweep over N, the change of the score per doubling of N, or None.
        effects: effect sizes by name; they describe.
        flips: share of docs whose answer changes between the runs.
        flip_bound: without a flip, the rule of three and the exact one-sided bound, or None.
        sentence: all of it in plain words.
        equivalence: the verdict of the two one-sided tests, where a margin was given.
    """

    task: str
    metric: str
    a: str
    b: str
    n: int
    units: int
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
    verdict: str
    detectable: float | None
    doublings: Doublings | None
    effects: dict[str, Estimate]
    flips: Estimate
    flip_bound: dict[str, float] | None
    sentence: str
    equivalence: Verdict | None = None

    def record(self) -> dict[str, Any]:
        """For JSON."""
        estimates = ("score_a", "score_b", "delta", "new_images", "flips")
        return {
            **asdict(self),
            **{name: getattr(self, name)._asdict() for name in estimates},
            "doublings": self.doublings
            and {
                name: value._asdict() if isinstance(value, Estimate) else value
                for name, value in self.doublings._asdict().items()
            },
            "equivalence": self.equivalence and self.equivalence._asdict(),
            "effects": {name: effect._asdict() for name, effect in self.effects.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """All tasks of all pairs of runs.

    Attributes:
        baseline: label of the first run.
        others: labels of the others.
        rows: by task, then by run.
        notes: what was ignored.
    """

    baseline: str
    others: tuple[str, ...]
    rows: tuple[TaskComparison, ...]
    notes: tuple[str, ...]


class _Tested(NamedTuple):
    """A task before Holm's family is known."""

    measure: Measure
    score_a: Estimate
    score_b: Estimate
    change: Change
    effects: dict[str, Estimate]
    equivalence: Equivalence | None


def compare(arms: Sequence[Arm], *, margin: float | None = None) -> Comparison:
    """Compare each run with the first one, task by task; all tests are one family.

    Args:
        arms: the runs, the baseline first.
        margin: of the equivalence tests, as a share, or None for none; they are a second family.

    Raises:
        UserError: fewer than two runs, runs on different docs, or a task without a doc scored in both.
    """
    if len(arms) < 2:
        raise UserError("compare needs two runs at least: the baseline first")
    labels = arm_labels(arms)
    tested_tasks: list[tuple[str, PairedTask, _Tested]] = []
    notes = [note for arm in arms for note in arm.notes]
    for arm, label in zip(arms[1:], labels[1:], strict=True):
        tasks, left_out = pair_tasks(arms[0], arm)
        notes += left_out
        for task in tasks:
            if not task.pairs:
                raise UserError(f"{task.task}: no doc was scored in both {labels[0]} and {label}")
            tested_tasks.append((label, task, _tested(task, margin)))
    adjusted = holm([tested.change.pvalue for _, _, tested in tested_tasks])
    rows = [
        _row(labels[0], label, task, tested, p, adjusted.family)
        for (label, task, tested), p in zip(tested_tasks, adjusted.adjusted, strict=True)
    ]
    judged = verdicts([test for *_, tested in tested_tasks if (test := tested.equivalence)], "B - A")
    if judged:
        rows = [replace(row, equivalence=one) for row, one in zip(rows, judged, strict=True)]
    rows.sort(key=lambda row: row.task)
    return Comparison(labels[0], tuple(labels[1:]), tuple(rows), tuple(dict.fromkeys(notes)))


def _tested(task: PairedTask, margin: float | None) -> _Tested:
    measure = task.measure
    a, b = paired_values(task)
    return _Tested(
        measure,
        measure.estimate(a, task.clusters),
        measure.estimate(b, task.clusters),
        measure.compare(a, b, task.clusters, power=True),
        measure.effects(a, b),
        None if margin is None else measure.equivalence(a, b, task.clusters, margin),
    )


def _row(a: str, b: str, task: PairedTask, tested: _Tested, adjusted: float, family: int) -> TaskComparison:
    before, after = ([answer_of(doc.samples[0]) for doc in docs] for docs in zip(*task.pairs, strict=True))
    flips = flip_rate(before, after)
    bound = None
    if flips.rule_of_three is not None and flips.exact_upper is not None:
        bound = {"rule of three": flips.rule_of_three, "exact one-sided 95 %": flips.exact_upper}
    change = tested.change
    verdict = _verdict(change, adjusted, task.higher_is_better)
    return TaskComparison(
        task=task.task,
        metric=tested.measure.metric,
        a=a,
        b=b,
        n=len(task.pairs),
        units=change.units,
        unscored_a=task.unscored_a,
        unscored_b=task.unscored_b,
        score_a=tested.score_a,
        score_b=tested.score_b,
        delta=change.delta,
        new_images=_for_new_images(task, tested),
        test=f"{change.test}, {change.differing}",
        pvalue=change.pvalue,
        adjusted=adjusted,
        family=family,
        verdict=verdict,
        detectable=change.detectable,
        doublings=per_doubling(task.pairs),
        effects=tested.effects,
        flips=estimated(flips, "Wilson, first image order"),
        flip_bound=bound,
        sentence=_sentence(a, b, verdict, change, adjusted, family),
    )


def _verdict(change: Change, adjusted: float, higher_is_better: bool) -> str:
    if adjusted < ALPHA and change.conflict:
        return "no verdict"
    direction = change.direction(adjusted) * (1 if higher_is_better else -1)
    return {1: "better", -1: "worse", 0: "no difference shown"}[direction]


def _for_new_images(task: PairedTask, tested: _Tested) -> Estimate:
    """The same change and test over groups of docs that share images (or a matched set)."""
    change = tested.change.delta.estimate
    shared = images_of(task)
    if shared is None:
        return Estimate(change, None, None, "not estimable: the samples do not name their images")
    try:
        groups = image_clusters(shared)
    except NotEstimableError as error:
        return Estimate(change, None, None, str(error))
    new = tested.measure.compare(*paired_values(task), groups.labels)
    how = f"{new.delta.method}, {groups.groups} groups of docs, p = {p_text(new.pvalue)} outside the family"
    return new.delta._replace(method=how)


def _sentence(a: str, b: str, verdict: str, change: Change, adjusted: float, family: int) -> str:
    """Verdict, interval and p-value of one statistic, about this image pool."""
    delta = change.delta
    test = change.test.split(",")[0].split(" (")[0]
    units = (
        f"{change.n} docs" if change.units == change.n else f"{change.units} matched sets ({change.n} docs)"
    )
    both = p_text(adjusted) if family == 1 else f"{p_text(change.pvalue)}, {p_text(adjusted)}"
    proof = f"{test} p = {both} after Holm over {family} test{'s' * (family > 1)}, {units} of this image pool"
    if delta.low is None:
        proof += f" ({delta.method})"
    ends = [] if delta.low is None or delta.high is None else [100 * delta.low, 100 * delta.high]
    points = f"{100 * delta.estimate:+.1f} points{_interval(ends)}"
    if verdict == "no verdict":
        but = "but the docs' signed ranks point the other way"
        return f"no verdict between {b} and {a}: {points}, {but}, {proof}"
    if verdict == "no difference shown":
        least = "" if change.detectable is None else f" of at least {100 * change.detectable:.1f} points"
        power = f"power 0.8 for a difference{least}" if least else "too few docs to detect any difference"
        return f"no difference shown between {b} and {a}: {points}, {proof}; {power}"
    if delta.estimate < 0:
        ends = [-end for end in reversed(ends)]
    return f"{b} is {verdict} than {a} by {abs(100 * delta.estimate):.1f} points{_interval(ends)}, {proof}"


def _interval(ends: Sequence[float]) -> str:
    return f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""
