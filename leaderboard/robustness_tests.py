"""Robustness of two runs on the same docs and orders: one test for each task, and what describes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import NamedTuple

import numpy as np

from leaderboard.arms import Arm
from leaderboard.doc_orders import always_right, disagreement_of, points_of, positions_of
from leaderboard.measures import Binary, Change, Estimate, Graded, Measure
from leaderboard.pairing import Doc, PairedTask, answer_of, clusters_of, doc_score, pair_tasks
from leaderboard.sentences import (
    Docs,
    Side,
    difference_words,
    interval_words,
    points,
    task_title,
    verdict_words,
)
from stats import doc_slopes, holm


@dataclass(frozen=True)
class RobustnessTest:
    """One measure of one task under two runs on the same docs and orders; `delta` is B - A.

    The primary measure, pairwise disagreement, has the task's one test; `adjusted` and `family` are Holm's.
    The others describe: their `pvalue`, `adjusted` and `detectable` are None.

    Attributes:
        task: its name.
        measure: what is compared.
        a: label of A, the first run.
        b: label of B.
        n: docs with several orders scored in both.
        units: independent units among them: docs, or matched sets of a sweep.
        score_a: the measure under A.
        score_b: the measure under B.
        delta: B - A.
        test: its name, or ``describes``.
        verdict: ``steadier``, ``less steady`` (B than A), ``no difference shown`` or ``no verdict`` where the
            docs' signed ranks point the other way; empty for measures that describe.
        sentence: all of it in plain words, for a paper.
    """

    task: str
    measure: str
    a: str
    b: str
    n: int
    units: int
    score_a: Estimate
    score_b: Estimate
    delta: Estimate
    test: str
    sentence: str
    verdict: str = ""
    pvalue: float | None = None
    adjusted: float | None = None
    family: int = 0
    detectable: float | None = None


class _Compared(NamedTuple):
    """What is compared between runs: a number of each doc, and what kind of score it is."""

    name: str
    of: Callable[[Doc], float | None]
    measure: Measure


def _changes(doc: Doc) -> float:
    return float(len({answer_of(sample) for sample in doc.samples}) > 1)


def _doc_slope(doc: Doc) -> float | None:
    if not positions_of(doc):
        return None
    (slope,) = doc_slopes(points_of([doc])).slopes.tolist()
    return None if isnan(slope) else slope


PRIMARY = "pairwise disagreement"
"""The one measure of a task that is tested; the others describe (METHODS 9)."""

_MEASURES = (
    _Compared(PRIMARY, disagreement_of, Graded()),
    _Compared("any change", _changes, Binary()),
    _Compared("right under all orders", lambda doc: float(always_right(doc)), Binary()),
    _Compared("score", doc_score, Graded()),
)


def compared_runs(arms: Sequence[Arm], labels: Sequence[str], names: Sequence[str]) -> list[RobustnessTest]:
    """Each run against the first in every permuted task that both ran.

    Args:
        arms: the runs.
        labels: of the runs in a table.
        names: of the runs in a sentence.
    """
    differences = []
    for arm, label, name in zip(arms[1:], labels[1:], names[1:], strict=True):
        for task in pair_tasks(arms[0], arm)[0]:
            if task.permuted:
                slope = _Compared("slope over positions", _doc_slope, Graded(bounds=_slope_bounds(task)))
                runs = (labels[0], label, names[0], name)
                found = (_difference(task, one, *runs) for one in (*_MEASURES, slope))
                differences += [one for one in found if one is not None]
    tested = [one.change.pvalue for one in differences if one.of.name == PRIMARY]
    adjusted = iter(holm(tested).adjusted if tested else ())
    return [
        _tested(one, next(adjusted), len(tested)) if one.of.name == PRIMARY else _described(one, len(tested))
        for one in differences
    ]


def _slope_bounds(task: PairedTask) -> tuple[float, float]:
    placed = [pair.a for pair in task.pairs if len(pair.a.samples) > 1 and positions_of(pair.a)]
    steepest = doc_slopes(points_of(placed)).steepest if placed else 0.0
    return (-max(1.0, steepest), max(1.0, steepest))


class _Difference(NamedTuple):
    """One measure of one task under two runs, before Holm's family is known."""

    task: PairedTask
    of: _Compared
    a: str
    b: str
    side_a: Side
    side_b: Side
    change: Change


def _difference(
    task: PairedTask, compared: _Compared, a: str, b: str, name_a: str, name_b: str
) -> _Difference | None:
    found = [
        (pair.a, of_a, of_b)
        for pair in task.pairs
        if len(pair.a.samples) > 1
        if (of_a := compared.of(pair.a)) is not None and (of_b := compared.of(pair.b)) is not None
    ]
    if not found:
        return None
    before, after = (np.array([row[i] for row in found]) for i in (1, 2))
    clusters, measure = clusters_of([doc for doc, _, _ in found]), compared.measure
    change = measure.compare(before, after, clusters, power=compared.name == PRIMARY)
    sides = (
        Side(name_a, measure.estimate(before, clusters)),
        Side(name_b, measure.estimate(after, clusters)),
    )
    return _Difference(task, compared, a, b, *sides, change)


def _tested(one: _Difference, adjusted: float, family: int) -> RobustnessTest:
    change = one.change
    verdict = change.verdict(adjusted, higher_is_better=False)
    verdict = {"better": "steadier", "worse": "less steady"}.get(verdict, verdict)
    docs = Docs(change.n, change.units, one.task.docs - len(one.task.pairs))
    words = difference_words(
        _what(one), one.side_b, one.side_a, change, docs, adjusted=adjusted, family=family
    )
    said = verdict_words(verdict, change.pvalue, adjusted, change.detectable)
    return replace(
        _row(one, f"{words}: {said}", family),
        test=change.test,
        verdict=verdict,
        pvalue=change.pvalue,
        adjusted=adjusted,
        detectable=change.detectable,
    )


def _described(one: _Difference, family: int) -> RobustnessTest:
    delta = one.change.delta
    sentence = (
        f"{_what(one)} (describes): {points(delta.estimate, sign=True)} points for {one.side_b.name} against "
        f"{one.side_a.name} ({interval_words(delta)}; {Docs(one.change.n, one.change.units)})"
    )
    return _row(one, sentence, family)


def _what(one: _Difference) -> str:
    return f"{task_title(one.task.task)}, {one.of.name}"


def _row(one: _Difference, sentence: str, family: int) -> RobustnessTest:
    change = one.change
    return RobustnessTest(
        task=one.task.task,
        measure=one.of.name,
        a=one.a,
        b=one.b,
        n=change.n,
        units=change.units,
        score_a=one.side_a.score,
        score_b=one.side_b.score,
        delta=change.delta,
        test="describes",
        sentence=sentence,
        family=family,
    )
