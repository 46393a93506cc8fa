"""One task of one run, small enough to keep: its scores, its curves, and what was answered to each doc."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from leaderboard.arms import Arm, arm_of
from leaderboard.constant_answers import constant_of, constant_over_orders
from leaderboard.measures import Clusters, Graded, Measure, Values, measure_of
from leaderboard.pairing import Doc, answer_of, clusters_of, counts_of, docs_of, values_of
from leaderboard.robustness import robustness
from leaderboard.runs import Run, is_mimic
from leaderboard.site.answers import DocAnswer
from leaderboard.site.ranks import scores_of
from leaderboard.site.task_docs import DocFacts, SeenDocs, TaskDocs, board_id, cut
from leaderboard.site.texts import printable
from leaderboard.summary import Row, data_label, summarize_run, upstream_rows
from leaderboard.upstream import MEAN_OF_DOCS, DocScores, upstream_scores
from mimic_eval.records import Sample, UserError, measure_name, positional_of

HUMAN = "human"
"""The model name of a run whose answers a person gave."""


class Point(NamedTuple):
    """The score of the docs with one value of a control; unscored docs are left out and counted."""

    value: str
    n: int
    unscored: int
    score: float | None
    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True)
class TaskResult:
    """One task of one run.

    Attributes:
        id: names it by what it holds.
        task: lmms-eval's task name.
        kind: counting, listing, common or oddone; empty for a metric of a task that is not ours, whose `task`
            is lmms-eval's name and the metric.
        permuted: its docs have several image orders.
        data: the data's label.
        rows: the table's rows of it, the headline first.
        board: the id of the board: all runs of the same task on the same docs.
        statuses: how many answers were read how.
        curves: by control, the points in its order.
        robustness: as `leaderboard.robustness.Robustness`, of a permuted task.
        reasons: why docs are unscored, and how many.
        answers: the same for results that answer every doc alike, whatever the case and the spaces.
        constant: of a task of ours: the score of the best answer that is the same for all docs.
        docs: how many, the unscored ones too.
        counted: the score over all docs, unscored ones counted as wrong: what ranks go by.
        binary: every score is 0 or 1.
        higher_is_better: else a lower score is.
    """

    id: str
    task: str
    kind: str
    permuted: bool
    data: str
    rows: tuple[Row, ...]
    board: str
    statuses: dict[str, int]
    curves: dict[str, list[Point]]
    robustness: dict[str, Any] | None
    reasons: dict[str, int]
    answers: str
    constant: float | None
    docs: int
    counted: float
    binary: bool
    higher_is_better: bool = True

    def record(self) -> dict[str, Any]:
        """For JSON; `from_record` reads it."""
        return {**asdict(self), "rows": [list(row) for row in self.rows]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "TaskResult":
        """From what `record` gave, or JSON of it."""
        rows = tuple(Row(*row) for row in record["rows"])
        curves = {key: [Point(*point) for point in points] for key, points in record["curves"].items()}
        return cls(**{**record, "rows": rows, "curves": curves})

    @property
    def headline(self) -> Row:
        """Our score of it."""
        return self.rows[0]

    @property
    def official(self) -> Row | None:
        """The official score beside the headline."""
        return next((row for row in self.rows if row.metric == f"{self.rows[0].metric}_official"), None)


class Logged(NamedTuple):
    """A result with its docs and answers."""

    result: TaskResult
    docs: TaskDocs
    answers: list[DocAnswer]


def summarize_results(
    run: Run, fingerprint: str, seen: SeenDocs | None = None
) -> tuple[list[Logged], list[str]]:
    """Every task of a run with a score for each logged doc, and a note for each that is left out.

    Of tasks that are not ours, each metric is a result.

    Args:
        run: the run.
        fingerprint: of its files.
        seen: docs of runs before this one, or None.

    Raises:
        UserError: the files are not in the form that lmms-eval and our tasks write.
    """
    rows = summarize_run(run)
    seen = SeenDocs() if seen is None else seen
    logged, notes = [], []
    for number, task in enumerate(sorted(filter(is_mimic, run.results["results"]))):
        if not run.samples.get(task):
            notes.append(f"{run.name}: {task} has no samples; left out (run it with --log_samples)")
            continue
        rows_of_task = tuple(row for row in rows if row.task == task)
        if not rows_of_task:
            raise UserError(f"{run.name}: {task} has none of our metrics")
        logged.append(_summarized(run, task, rows_of_task, f"{fingerprint[:32]}-{number}", seen))
    others, left_out = upstream_scores(run)
    for number, (scores, row) in enumerate(zip(others, upstream_rows(run), strict=True)):
        logged.append(_upstream(scores, row, f"{fingerprint[:32]}-u{number}", seen))
    return logged, [*notes, *left_out]


def _upstream(scores: DocScores, row: Row, name: str, seen: SeenDocs) -> Logged:
    task = printable(f"{scores.task} {scores.metric.removesuffix(MEAN_OF_DOCS)}")
    data, docs = printable(row.data), docs_of(scores.samples)
    described = seen.of(task, docs)
    answers, identity = _answers(described, list(docs.values()))
    result = TaskResult(
        id=name,
        task=task,
        kind="",
        permuted=False,
        data=data,
        rows=(row,),
        board=board_id(task, data, described),
        statuses=dict(sorted(Counter(answer.status for answer in answers).items())),
        curves={},
        robustness=None,
        reasons=_reasons(answers),
        answers=identity,
        constant=None,
        docs=len(described.facts),
        counted=scores_of(name, Graded(), answers, higher_is_better=scores.higher_is_better).score,
        binary=_is_binary(answers),
        higher_is_better=scores.higher_is_better,
    )
    return Logged(result, described, answers)


def _reasons(answers: Sequence[DocAnswer]) -> dict[str, int]:
    unscored = (answer.response for answer in answers if answer.status == "unscored")
    return dict(Counter(unscored).most_common(20))


def _summarized(run: Run, task: str, rows: tuple[Row, ...], name: str, seen: SeenDocs) -> Logged:
    arm = arm_of(run, task)
    first = arm.samples[task][0]
    by_key = docs_of(arm.samples[task])
    described, docs = seen.of(task, by_key), list(by_key.values())
    answers, identity = _answers(described, docs)
    kind, permuted, metric = first.kind, first.ordering is not None, rows[0].metric
    data = printable(data_label(run, task))
    result = TaskResult(
        id=name,
        task=task,
        kind=kind,
        permuted=permuted,
        data=data,
        rows=rows,
        board=board_id(task, data, described),
        statuses=dict(sorted(Counter(answer.status for answer in answers).items())),
        curves=_curves(kind, permuted, docs, described),
        robustness=_robustness(arm, docs) if permuted else None,
        reasons=_reasons(answers),
        answers=identity,
        constant=described.constant(
            (kind, permuted, metric), lambda: _constant(kind, permuted, metric, docs, described.facts)
        ),
        docs=len(docs),
        counted=scores_of(name, measure_of(kind, permuted=permuted), answers).score,
        binary=_is_binary(answers),
    )
    return Logged(result, described, answers)


def _is_binary(answers: Sequence[DocAnswer]) -> bool:
    return all(answer.score in (None, 0, 1) for answer in answers)


def _constant(
    kind: str, permuted: bool, metric: str, docs: Sequence[Doc], facts: Sequence[DocFacts]
) -> float | None:
    if any(sample.gt is None for doc in docs for sample in doc.samples):
        return None
    if not permuted:
        return constant_of(metric, [doc.samples[0] for doc in docs])
    positional = positional_of(kind)
    if positional is not None:
        return positional.constant([[str(sample.gt) for sample in doc.samples] for doc in docs])
    return constant_over_orders(kind, [str(one.gt) for one in facts])


def _answers(described: TaskDocs, docs: Sequence[Doc]) -> tuple[list[DocAnswer], str]:
    """The answers of all docs, and a text that is the same for results that answer every doc alike."""
    answers, given = [], []
    for one, doc in zip(described.facts, docs, strict=True):
        scores: list[Any] = []
        for i, sample in enumerate(doc.samples):
            answer = None if sample.unscored else answer_of(sample)
            answers.append(_answer(one.doc, i, sample, answer, doc.matched_set))
            scores.append(None if answer is None else [answer, sample.score])
        given.append([one.doc, scores])
    text = json.dumps(sorted(given, key=lambda one: str(one[0])))
    return answers, hashlib.sha256(text.encode()).hexdigest()[:32]


def _answer(key: str, order: int, sample: Sample, answer: str | None, matched_set: int | None) -> DocAnswer:
    """`answer`: as `answer_of` gives it, None if there is none."""
    if answer is None:
        corpus = measure_name(sample.kind or "") == "corpus_f1"
        missed = [0, 0, len(sample.gt.split(", "))] if corpus and sample.gt else None
        reason = cut(sample.reason or "no reason given")
        return DocAnswer(key, order, sample.status, None, None, reason, "", missed, matched_set)
    counts = None
    if "f1" in sample.items and measure_name(sample.kind or "") == "corpus_f1":
        counts = list(counts_of(sample))
    status, response = sample.status[:40], cut(sample.response or "")
    official = sample.score_official
    return DocAnswer(key, order, status, sample.score, official, response, cut(answer), counts, matched_set)


def _curves(kind: str, permuted: bool, docs: Sequence[Doc], described: TaskDocs) -> dict[str, list[Point]]:
    measure = measure_of(kind, permuted=permuted)
    scored = np.array([doc.scored for doc in docs])
    values = values_of([doc for doc in docs if doc.scored], kind, permuted=permuted)
    row_of = np.cumsum(scored) - 1
    curves: dict[str, list[Point]] = {}
    for control, groups in described.groups.items():
        points = []
        for value, numbers in groups.items():
            here = numbers[scored[numbers]]
            clusters = clusters_of([docs[i] for i in here])
            points.append(_point(value, measure, values[row_of[here]], clusters, len(numbers) - len(here)))
        if len(points) > 1 and points not in curves.values():  # in Common the spread is N
            curves[control] = points
    return curves


def _point(value: str, measure: Measure, values: Values, clusters: Clusters, unscored: int) -> Point:
    if not len(values):
        return Point(value, 0, unscored, None, None, None, "no doc was scored")
    return Point(value, len(values), unscored, *measure.estimate(values, clusters))


def _robustness(arm: Arm, docs: Sequence[Doc]) -> dict[str, Any] | None:
    """None if no doc has two scored orders."""
    if not any(doc.scored and len(doc.samples) > 1 for doc in docs):
        return None
    (row,) = robustness([arm]).rows
    record = asdict(row)
    for name, value in record.items():
        if hasattr(value, "_asdict"):
            record[name] = value._asdict()
    record["places"] = [{**position._asdict(), "score": position.score._asdict()} for position in row.places]
    return record
