"""Two runs on the same docs: each task's change, its one test, and what it means in words (METHODS 9)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from leaderboard.arms import Arm, arm_labels
from leaderboard.doublings import Doublings, doubling_sentence, per_doubling
from leaderboard.equivalence import Verdict, verdicts
from leaderboard.measures import (
    OF_A_DOC,
    SHIFT,
    WILCOXON,
    Binary,
    Change,
    CorpusF1,
    Estimate,
    Graded,
    Measure,
    doc_f1,
    estimated,
    verdict_of,
)
from leaderboard.pairing import PairedTask, answer_of, images_of, pair_tasks, paired_values
from leaderboard.sentences import (
    Docs,
    Side,
    difference_words,
    interval_words,
    p_text,
    p_words,
    percent,
    points,
    task_title,
    verdict_words,
)
from leaderboard.upstream import MEAN_OF_DOCS
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
        name_a: what sentences call A.
        name_b: what sentences call B.
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
        flip_bound: without a flip, the rule of three and the exact one-sided bound (for a sweep, of the sets
            with a flip), or None.
        sentence: all of it in plain words, for a paper.
        further: further sentences: Listing's F1 of a doc, the slopes of a sweep, new images.
        equivalence: the verdict of the two one-sided tests, where a margin was given.
        conflict: the signed ranks of the docs point the other way than `delta`.
        higher_is_better: else a lower score is.
    """

    task: str
    metric: str
    a: str
    b: str
    name_a: str
    name_b: str
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
    further: tuple[str, ...] = ()
    equivalence: Verdict | None = None
    conflict: bool = False
    higher_is_better: bool = True

    def in_family(self, adjusted: float, family: int) -> "TaskComparison":
        """The same comparison as one of another Holm family, with the verdict that goes with it."""
        verdict = verdict_of(
            self.delta.estimate, adjusted, conflict=self.conflict, higher_is_better=self.higher_is_better
        )
        return replace(self, adjusted=adjusted, family=family, verdict=verdict)

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


class _Runs(NamedTuple):
    """Two runs: their labels in a table, and their names in a sentence."""

    a: str
    b: str
    name_a: str
    name_b: str


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
    labels, names = arm_labels(arms), arm_labels(arms, prose=True)
    tested_tasks: list[tuple[_Runs, PairedTask, _Tested]] = []
    notes = [note for arm in arms for note in arm.notes]
    for arm, label, name in zip(arms[1:], labels[1:], names[1:], strict=True):
        tasks, left_out = pair_tasks(arms[0], arm)
        notes += left_out
        for task in tasks:
            if not task.pairs:
                raise UserError(f"{task.task}: no doc was scored in both {labels[0]} and {label}")
            runs = _Runs(labels[0], label, names[0], name)
            tested_tasks.append((runs, task, _tested(task, margin)))
    adjusted = holm([tested.change.pvalue for _, _, tested in tested_tasks])
    rows = [
        _row(runs, task, tested, p, adjusted.family)
        for (runs, task, tested), p in zip(tested_tasks, adjusted.adjusted, strict=True)
    ]
    judged = verdicts(
        [test for *_, tested in tested_tasks if (test := tested.equivalence)],
        [_scores(runs, task, tested) for runs, task, tested in tested_tasks if tested.equivalence],
    )
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
        measure.effects(a, b, task.clusters),
        None if margin is None else measure.equivalence(a, b, task.clusters, margin),
    )


def _row(runs: _Runs, task: PairedTask, tested: _Tested, adjusted: float, family: int) -> TaskComparison:
    change = tested.change
    flips, bound = _flips(task)
    verdict = change.verdict(adjusted, higher_is_better=task.higher_is_better)
    doublings, new = per_doubling(task.pairs), _for_new_images(task, tested)
    further = [_doc_f1(runs, task, tested)] if isinstance(tested.measure, CorpusF1) else []
    if doublings:
        further.append(doubling_sentence(task.task, task.kind, runs.name_a, runs.name_b, doublings))
    if new.low is not None:
        further.append(f"{_what(task)}, new images: {points(new.estimate, sign=True)} points "
                       f"({interval_words(new)}; {new.method})")  # fmt: skip
    return TaskComparison(
        task=task.task,
        metric=tested.measure.metric,
        a=runs.a,
        b=runs.b,
        name_a=runs.name_a,
        name_b=runs.name_b,
        n=len(task.pairs),
        units=change.units,
        unscored_a=task.unscored_a,
        unscored_b=task.unscored_b,
        score_a=tested.score_a,
        score_b=tested.score_b,
        delta=change.delta,
        new_images=new,
        test=f"{change.test}, {change.differing}",
        pvalue=change.pvalue,
        adjusted=adjusted,
        family=family,
        verdict=verdict,
        detectable=change.detectable,
        doublings=doublings,
        effects=tested.effects,
        flips=flips,
        flip_bound=bound,
        sentence=_sentence(runs, task, tested, verdict, adjusted, family),
        further=tuple(further),
        conflict=change.conflict,
        higher_is_better=task.higher_is_better,
    )


def _flips(task: PairedTask) -> tuple[Estimate, dict[str, float] | None]:
    """The share of docs whose answer changes; without one, bounds: of a sweep, on the share of its sets."""
    before, after = ([answer_of(doc.samples[0]) for doc in docs] for docs in zip(*task.pairs, strict=True))
    flips = flip_rate(before, after)
    estimate, bounds = estimated(flips, "Wilson, first image order"), flips
    if task.clusters is not None and len(set(task.clusters)) < len(before):
        changed = np.array([a != b for a, b in zip(before, after, strict=True)], dtype=float)
        estimate = Binary().estimate(changed, task.clusters)
        units = [0] * len(set(task.clusters))
        bounds = flip_rate(units, units)
    if flips.flips or bounds.rule_of_three is None or bounds.exact_upper is None:
        return estimate, None
    return estimate, {"rule of three": bounds.rule_of_three, "exact one-sided 95 %": bounds.exact_upper}


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


def _what(task: PairedTask) -> str:
    """What a sentence is about: the task, and the measure where it is not the accuracy of one of ours."""
    if not task.kind:
        return f"{task.task} {task.measure.metric.removesuffix(MEAN_OF_DOCS)}"
    return (
        f"{task_title(task.task)}, micro F1" if isinstance(task.measure, CorpusF1) else task_title(task.task)
    )


def _scores(runs: _Runs, task: PairedTask, tested: _Tested) -> str:
    """``Counting: B 36.2 % vs A 33.1 %``."""
    scores = (percent(score) for score in (tested.score_b, tested.score_a))
    b, a = (f"{name} {score}" for name, score in zip((runs.name_b, runs.name_a), scores, strict=True))
    return f"{_what(task)}: {b} vs {a}"


def _sentence(
    runs: _Runs, task: PairedTask, tested: _Tested, verdict: str, adjusted: float, family: int
) -> str:
    """Scores, interval, p-value and verdict of one statistic, about this image pool."""
    change = tested.change
    docs = Docs(change.n, change.units, task.docs - change.n)
    b, a = Side(runs.name_b, tested.score_b), Side(runs.name_a, tested.score_a)
    words = difference_words(_what(task), b, a, change, docs, adjusted=adjusted, family=family)
    lower = "" if task.higher_is_better or verdict not in ("better", "worse") else " (lower is better)"
    return f"{words}: {verdict_words(verdict, change.pvalue, adjusted, change.detectable)}{lower}"


def _doc_f1(runs: _Runs, task: PairedTask, tested: _Tested) -> str:
    """Listing's second line: the mean F1 of a doc, and what ranks say of it; it describes."""
    (a, b), measure = paired_values(task), Graded()
    mean_a, mean_b = (measure.estimate(doc_f1(counts), task.clusters) for counts in (a, b))
    shift, ranks = tested.effects[f"{OF_A_DOC}{SHIFT}"], tested.effects[f"{OF_A_DOC}{WILCOXON}"]
    units = "docs" if tested.change.units == tested.change.n else "means of matched sets"
    return (
        f"{task_title(task.task)}, F1 of a doc (describes): {runs.name_b} {percent(mean_b)} vs {runs.name_a} "
        f"{percent(mean_a)}; Hodges-Lehmann shift {points(shift.estimate, sign=True)} points "
        f"({interval_words(shift)}; Wilcoxon signed-rank over {units}, {p_words(ranks.estimate)})"
    )
