"""One task of one run, small enough to keep: its scores, its curves, and what was answered to each doc."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from leaderboard.arms import Arm, arm_of
from leaderboard.constant_answers import constant_of, constant_over_orders
from leaderboard.measures import Graded, measure_of
from leaderboard.pairing import Doc, answer_of, clusters_of, counts_of, docs_of, order_of, values_of
from leaderboard.robustness import robustness
from leaderboard.runs import Run, is_mimic
from leaderboard.site.answers import DocAnswer
from leaderboard.site.ranks import scores_of
from leaderboard.site.texts import printable
from leaderboard.summary import Row, data_label, summarize_run, upstream_rows
from leaderboard.upstream import MEAN_OF_DOCS, DocScores, upstream_scores
from mimic_eval.records import Sample, UserError, measure_name, positional_of

CONTROLS = {"n_images": "N", "spread": "s", "distractors": "d", "k": "k", "cell": "cell"}
"""The columns that a score is drawn against, and their short names (METHODS 1)."""

HUMAN = "human"
"""The model name of a run whose answers a person gave."""

LONGEST = 400
"""Characters of an answer or a question that a page shows."""


class DocFacts(NamedTuple):
    """A doc as described by a run's samples; `orders` holds the order of images of each answer."""

    doc: str
    number: int
    kind: str
    question: str
    gt: str
    controls: dict[str, str]
    image_ids: list[str]
    orders: list[list[int]]


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
    docs: list[DocFacts]
    answers: list[DocAnswer]


def summarize_results(run: Run, fingerprint: str) -> tuple[list[Logged], list[str]]:
    """Every task of a run with a score for each logged doc, and a note for each that is left out.

    Of tasks that are not ours, each metric is a result.

    Args:
        run: the run.
        fingerprint: of its files.

    Raises:
        UserError: the files are not in the form that lmms-eval and our tasks write.
    """
    rows = summarize_run(run)
    logged, notes = [], []
    for number, task in enumerate(sorted(filter(is_mimic, run.results["results"]))):
        if not run.samples.get(task):
            notes.append(f"{run.name}: {task} has no samples; left out (run it with --log_samples)")
            continue
        rows_of_task = tuple(row for row in rows if row.task == task)
        if not rows_of_task:
            raise UserError(f"{run.name}: {task} has none of our metrics")
        logged.append(_summarized(run, task, rows_of_task, f"{fingerprint[:32]}-{number}"))
    others, left_out = upstream_scores(run)
    for number, (scores, row) in enumerate(zip(others, upstream_rows(run), strict=True)):
        logged.append(_upstream(scores, row, f"{fingerprint[:32]}-u{number}"))
    return logged, [*notes, *left_out]


def _upstream(scores: DocScores, row: Row, name: str) -> Logged:
    task = printable(f"{scores.task} {scores.metric.removesuffix(MEAN_OF_DOCS)}")
    data, docs = printable(row.data), docs_of(scores.samples)
    facts = [_facts(_key(key), doc) for key, doc in docs.items()]
    answers = [_answer(one.doc, 0, doc.samples[0]) for one, doc in zip(facts, docs.values(), strict=True)]
    result = TaskResult(
        id=name,
        task=task,
        kind="",
        permuted=False,
        data=data,
        rows=(row,),
        board=board_id(task, data, facts),
        statuses=dict(sorted(Counter(answer.status for answer in answers).items())),
        curves={},
        robustness=None,
        reasons=_reasons(answers),
        answers=_identity(facts, docs.values()),
        constant=None,
        docs=len(facts),
        counted=scores_of(name, Graded(), answers, higher_is_better=scores.higher_is_better).score,
        binary=_is_binary(answers),
        higher_is_better=scores.higher_is_better,
    )
    return Logged(result, facts, answers)


def _reasons(answers: Sequence[DocAnswer]) -> dict[str, int]:
    unscored = (answer.response for answer in answers if answer.status == "unscored")
    return dict(Counter(unscored).most_common(20))


def _summarized(run: Run, task: str, rows: tuple[Row, ...], name: str) -> Logged:
    arm = arm_of(run, task)
    first = arm.samples[task][0]
    docs = docs_of(arm.samples[task])
    facts = [_facts(_key(key), doc) for key, doc in docs.items()]
    answers = [
        _answer(one.doc, i, sample, doc.matched_set)
        for one, doc in zip(facts, docs.values(), strict=True)
        for i, sample in enumerate(doc.samples)
    ]
    kind, permuted = first.kind, first.ordering is not None
    data = printable(data_label(run, task))
    result = TaskResult(
        id=name,
        task=task,
        kind=kind,
        permuted=permuted,
        data=data,
        rows=rows,
        board=board_id(task, data, facts),
        statuses=dict(sorted(Counter(answer.status for answer in answers).items())),
        curves=_curves(kind, permuted, list(docs.values()), facts),
        robustness=_robustness(arm, list(docs.values())) if permuted else None,
        reasons=_reasons(answers),
        answers=_identity(facts, docs.values()),
        constant=_constant(kind, permuted, rows[0].metric, list(docs.values()), facts),
        docs=len(facts),
        counted=scores_of(name, measure_of(kind, permuted=permuted), answers).score,
        binary=_is_binary(answers),
    )
    return Logged(result, facts, answers)


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


def _identity(facts: Sequence[DocFacts], docs: Iterable[Doc]) -> str:
    answers = [
        [one.doc, [None if sample.unscored else [answer_of(sample), sample.score] for sample in doc.samples]]
        for one, doc in zip(facts, docs, strict=True)
    ]
    return hashlib.sha256(json.dumps(sorted(answers, key=lambda one: str(one[0]))).encode()).hexdigest()[:32]


def board_id(task: str, data: str, docs: Sequence[DocFacts]) -> str:
    """What runs must have in common to be compared: the task, its data, its docs and their orders."""
    identity = [task, data, sorted([one.doc, one.orders] for one in docs)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _key(key: tuple[Any, ...]) -> str:
    text, number = str(key[0])[:80], key[1]
    return text if number == 1 else f"{text}~{number}"


def _facts(key: str, doc: Doc) -> DocFacts:
    sample = doc.samples[0]
    controls = {
        name: str(value)[:80] for name in CONTROLS if (value := sample.controls.get(name)) is not None
    }
    return DocFacts(
        doc=key,
        number=doc.doc_id,
        kind=sample.kind,
        question=_cut(sample.question or ""),
        gt=_cut(sample.gt or ""),
        controls=controls,
        image_ids=[str(image)[:80] for image in sample.image_ids or ()],
        orders=[list(order_of(sample)) for sample in doc.samples],
    )


def _answer(key: str, order: int, sample: Sample, matched_set: int | None = None) -> DocAnswer:
    if sample.unscored:
        corpus = measure_name(sample.kind or "") == "corpus_f1"
        missed = [0, 0, len(sample.gt.split(", "))] if corpus and sample.gt else None
        reason = _cut(sample.reason or "no reason given")
        return DocAnswer(key, order, sample.status, None, None, reason, "", missed, matched_set)
    counts = None
    if "f1" in sample.items and measure_name(sample.kind or "") == "corpus_f1":
        counts = list(counts_of(sample))
    return DocAnswer(
        doc=key,
        order=order,
        status=sample.status[:40],
        score=sample.score,
        official=sample.score_official,
        response=_cut(sample.response or ""),
        answer=_cut(answer_of(sample)),
        counts=counts,
        matched_set=matched_set,
    )


def _cut(text: Any) -> str:
    """At most `LONGEST` characters, none of them unprintable."""
    cut = printable(str(text)[: LONGEST + 1])
    return cut if len(cut) <= LONGEST else cut[:LONGEST] + " …"


def _curves(
    kind: str, permuted: bool, docs: Sequence[Doc], facts: Sequence[DocFacts]
) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {}
    for control in CONTROLS:
        groups: dict[str, list[Doc]] = {}
        for doc, one in zip(docs, facts, strict=True):
            if control in one.controls:
                groups.setdefault(one.controls[control], []).append(doc)
        points = [_point(value, kind, permuted, groups[value]) for value in in_order(groups)]
        if len(points) > 1 and points not in curves.values():  # in Common the spread is N
            curves[control] = points
    return curves


def in_order(values: Iterable[str]) -> list[str]:
    """Numbers by size, also the numbers in the names of cells; then texts."""
    return sorted(values, key=lambda value: [_sign(part) for part in value.replace("=", ",").split(",")])


def _sign(part: str) -> tuple[int, float, str]:
    try:
        return (0, float(part), "")
    except ValueError:
        return (1, 0.0, part)


def _point(value: str, kind: str, permuted: bool, docs: Sequence[Doc]) -> Point:
    scored = [doc for doc in docs if doc.scored]
    n, unscored = len(scored), len(docs) - len(scored)
    if not scored:
        return Point(value, 0, unscored, None, None, None, "no doc was scored")
    values = values_of(scored, kind, permuted=permuted)
    estimate = measure_of(kind, permuted=permuted).estimate(values, clusters_of(scored))
    return Point(value, n, unscored, *estimate)


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
