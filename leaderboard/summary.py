"""From a run to the rows of its table. Pure functions; the table only renders them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from leaderboard.labels import Label, Named, label, labels
from leaderboard.matched_sets import matched_sets
from leaderboard.measures import Binary, CorpusF1, Graded, Measure, Values
from leaderboard.runs import Run, is_mimic
from leaderboard.upstream import measure_by, upstream_scores
from mimic_eval.records import METRICS, OVER_ORDERS, Item, Sample, UserError, doc_means, task_kinds
from stats import wilson


class Row(NamedTuple):
    """One metric of one task of one run.

    Attributes:
        task: lmms-eval's task name.
        metric: ``exact_match``, ``f1``, or one of them with ``_official``; of a permuted task, a mean over
            docs of the mean over orders: ``exact_match_over_orders``, ``doc_f1_over_orders``.
        n: scored docs.
        docs: docs that the task has; more than n + unscored if the run was limited.
        score: in [0, 1], or None if no doc was scored.
        low: lower end of the 95 % interval, or None if the files do not allow one.
        high: upper end.
        interval: how it was made.
        unscored: docs without an answer, left out of n.
        data: the label of the data (``embedded`` for the packaged default).
        model: lmms-eval's model name.
        checkpoint: as given, or ``embedded`` and whether its weights are random or trained; the adapter.
        mask: the intervention, its layers, and each setting that is not the default (`leaderboard.labels`).
    """

    task: str
    metric: str
    n: int
    docs: int
    score: float | None
    low: float | None
    high: float | None
    interval: str
    unscored: int
    data: str
    model: str
    checkpoint: str
    mask: str


class MetricScore(NamedTuple):
    """One metric over some samples; the fields are as in `Row`."""

    n: int
    score: float | None
    low: float | None
    high: float | None
    interval: str
    unscored: int


WILSON = "Wilson 95 %"
NOT_LOGGED = "needs --log_samples"
NONE_SCORED = "no doc was scored"
OFFICIAL_OVERALL = "official_overall"
"""A metric of `mimic_tasks.benchmarks`: an unweighted mean over the parts of a set."""


def summarize_runs(runs: Sequence[Run]) -> list[Row]:
    """The rows of several runs in one table, tasks that are not ours after the run's MIMIC tasks.

    Runs with different settings never read the same.

    Raises:
        UserError: as `summarize_run`.
    """
    run_labels = labels([Named(run.model, run.settings) for run in runs])
    return [
        _labelled(row, run_label)
        for run, run_label in zip(runs, run_labels, strict=True)
        for row in (*summarize_run(run), *upstream_rows(run))
    ]


def _labelled(row: Row, run_label: Label) -> Row:
    return row._replace(model=run_label.model, checkpoint=run_label.checkpoint, mask=run_label.setting)


def summarize_run(run: Run) -> list[Row]:
    """The rows of a run's MIMIC tasks: Counting, Listing, Common, Odd-One.

    Intervals answer the question about this image pool: they are over docs (METHODS 9).

    Raises:
        UserError: the run's files are not in the form that lmms-eval and our tasks write.
    """
    stored = _stored(run)
    rows = []
    for task in sorted(filter(is_mimic, run.results["results"]), key=_rank):
        scores = run.part("results", task)
        samples = run.samples_of(task) if task in run.samples else None
        for metric in metrics(scores):
            if samples is not None:
                rows.append(_row(run, task, metric, score_samples(samples, metric)))
            elif (task, metric) in stored:
                rows.append(_labelled(stored[task, metric], label(Named(run.model, run.settings))))
            else:
                rows.append(_row(run, task, metric, _from_scores(run, task, metric)))
        rows += _overall(run, task, rows[-1:])
    return rows


def _overall(run: Run, task: str, last: Sequence[Row]) -> list[Row]:
    """The official score of a benchmark that reports an unweighted mean of parts, without an interval."""
    for key, value in run.part("results", task).items():
        if key.partition(",")[0] == OFFICIAL_OVERALL and isinstance(value, int | float) and last:
            (row,) = last
            method = "mean of parts (report --sub-tasks)"
            named = row._replace(metric=OFFICIAL_OVERALL, interval=method)
            return [named._replace(score=float(value), low=None, high=None)]
    return []


def _stored(run: Run) -> dict[tuple[str, str], Row]:
    """The rows that our command wrote into the results."""
    rows = run.part("mimic").get("rows") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _is_row(row) for row in rows):
        raise _wrong(run, "mimic / rows are not rows of this version's table")
    return {(row["task"], row["metric"]): Row(**row) for row in rows}


def _is_row(row: Mapping[str, Any]) -> bool:
    counts, numbers = ("n", "docs", "unscored"), ("score", "low", "high")
    return set(row) == set(Row._fields) and all(
        isinstance(value, int)
        if name in counts
        else value is None or (isinstance(value, int | float) and 0 <= value <= 1)
        if name in numbers
        else isinstance(value, str)
        for name, value in row.items()
    )


def _wrong(run: Run, what: str) -> UserError:
    return UserError(f"{run.name} is not in lmms-eval's form: {what}")


def unscored_reasons(run: Run) -> list[str]:
    """One line for each unscored doc that was logged."""
    return [
        f"{task} doc {sample.doc_id}: {sample.reason}"
        for task in filter(is_mimic, run.samples)
        for sample in run.samples_of(task)
        if sample.unscored
    ]


def _rank(task: str) -> tuple[int, str]:
    order = task_kinds()
    kinds = [order.index(part) for part in task.split("_") if part in order]
    return (kinds[0] if kinds else len(order)), task


def metrics(scores: Mapping[str, Any]) -> list[str]:
    """The metrics of ours among a task's scores, the headline first."""
    names = {key.partition(",")[0] for key in scores if "," in key}
    return [name for name in METRICS if name in names]


def score_samples(samples: Sequence[Sample], metric: str) -> MetricScore:
    """The score of some logged samples, unscored ones left out and counted.

    The docs of a matched set of a sweep are one observation.
    """
    none = Item()
    items = [sample.items.get(metric, none) for sample in samples]
    if OVER_ORDERS in metric:
        values, unscored = doc_means(item.to_json() for item in items)
        return _estimated(Graded(), np.array(values), _sets_of_docs(samples, items), unscored)
    sets = matched_sets(samples)
    scored = [item for item in items if item.score is not None]
    clusters = sets and [number for item, number in zip(items, sets, strict=True) if item.score is not None]
    unscored = sum(sample.unscored for sample in samples)
    if metric.startswith("f1"):
        counts = np.array([item.counts for item in scored], dtype=np.int64)
        return _estimated(CorpusF1(), counts, clusters, unscored)
    measure = Binary() if metric.startswith(("exact_match", "exact_list")) else Graded()
    return _estimated(measure, np.array([item.score for item in scored]), clusters, unscored)


def _sets_of_docs(samples: Sequence[Sample], items: Sequence[Item]) -> list[int] | None:
    """The matched set of each doc of a permuted sweep that has all orders scored, by doc, as `doc_means`."""
    sets = matched_sets(samples)
    if sets is None:
        return None
    of_doc = {item.doc: number for item, number in zip(items, sets, strict=True)}
    unscored = {item.doc for item in items if item.score is None}
    return [number for doc, number in sorted(of_doc.items()) if doc not in unscored]


def upstream_rows(run: Run) -> list[Row]:
    """The rows of the tasks that are not ours, in the order of `upstream_scores`."""
    rows = []
    for one in upstream_scores(run)[0]:
        scored = _estimated(
            measure_by(one.metric, one.values), np.array(one.values), None, len(one.samples) - len(one.values)
        )
        source = run.part("configs", one.task).get("dataset_path")
        named = label(Named(run.model, run.settings))
        data = source if isinstance(source, str) else "unknown"
        rows.append(
            Row(
                one.task, one.metric, docs=one.docs, data=data, model=named.model,
                checkpoint=named.checkpoint, mask=named.setting, **scored._asdict(),
            )
        )  # fmt: skip
    return rows


def estimated_row(measure: Measure, values: Sequence[float]) -> MetricScore:
    """The score of some independent docs."""
    return _estimated(measure, np.array(values), None, 0)


def _estimated(
    measure: Measure, values: Values, clusters: Sequence[int] | None, unscored: int
) -> MetricScore:
    if not len(values):
        return MetricScore(0, None, None, None, NONE_SCORED, unscored)
    score, low, high, method = measure.estimate(values, clusters)
    units = len(values) if clusters is None else len(set(clusters))
    over = "" if units == len(values) else f", over {units} matched sets"
    if low is not None:
        method = WILSON if method == "Wilson" else f"{method} 95 %"
    return MetricScore(len(values), score, low, high, method + over, unscored)


def _from_scores(run: Run, task: str, metric: str) -> MetricScore:
    """From the aggregated results alone."""
    scores = {key.partition(",")[0]: value for key, value in run.part("results", task).items()}
    unscored = scores.get("unscored") or 0
    docs = scores.get("docs") if OVER_ORDERS in metric else run.count(task, "effective")
    if not isinstance(docs, int) or not isinstance(unscored, int):
        raise _wrong(run, f"the number of docs of {task} is missing")
    n = docs - unscored
    score = scores[metric]
    if score is not None and not (isinstance(score, int | float) and 0 <= score <= 1):
        raise _wrong(run, f"{metric} of {task} must be within 0-1, got {score!r:.60}")
    if score is None or n < 1:
        return MetricScore(0, None, None, None, NONE_SCORED, unscored)
    if metric.startswith(("exact_match", "exact_list")):
        interval = wilson(round(score * n), n)
        return MetricScore(n, interval.estimate, interval.low, interval.high, WILSON, unscored)
    return MetricScore(n, float(score), None, None, NOT_LOGGED, unscored)


def _row(run: Run, task: str, metric: str, scored: MetricScore) -> Row:
    named = label(Named(run.model, run.settings))
    return Row(
        task=task,
        metric=metric,
        docs=_docs(run, task, metric, scored.n + scored.unscored),
        data=data_label(run, task),
        model=named.model,
        checkpoint=named.checkpoint,
        mask=named.setting,
        **scored._asdict(),
    )


def _docs(run: Run, task: str, metric: str, at_least: int) -> int:
    """How many docs a task has; upstream counts the rows of permuted ones, which record it themselves."""
    if OVER_ORDERS in metric:
        declared = run.part("configs", task, "metadata").get("docs")
        return declared if isinstance(declared, int) and declared >= at_least else at_least
    declared = run.count(task, "original")
    return at_least if declared is None else declared


def data_label(run: Run, task: str) -> str:
    """What the task's data calls itself."""
    return str(run.part("configs", task, "metadata").get("label", "unknown"))
