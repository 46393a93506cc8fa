"""From a run to the rows of its table. Pure functions; the table only renders them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from leaderboard.runs import Run
from mimic_eval.records import TASK_KINDS, UserError
from stats import micro_f1, wilson


class Row(NamedTuple):
    """One metric of one task of one run.

    Attributes:
        task: lmms-eval's task name.
        metric: ``exact_match``, ``f1``, or one of them with ``_official``.
        n: scored docs.
        docs: docs that the task has; more than n + unscored if the run was limited.
        score: in [0, 1]; None when no doc was scored.
        low: lower end of the 95 % interval; None when the files do not allow one.
        high: upper end.
        interval: how it was made.
        unscored: docs without an answer, left out of n.
        data: the label of the data (``embedded`` for the packaged default).
        model: lmms-eval's model name.
        checkpoint: as given, or ``embedded`` and whether its weights are random or trained.
        mask: the intervention and its layers.
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


WILSON = "Wilson 95 %"
BOOTSTRAP = "bootstrap over docs 95 %"
NOT_LOGGED = "needs --log_samples"
ALIKE = "none: all docs score alike"


def summarize_run(run: Run) -> list[Row]:
    """The rows of a run's MIMIC tasks: Counting, Listing, Common, Odd-One.

    Intervals answer the question about this image pool: they are over docs (METHODS 9).

    Raises:
        UserError: the run's files are not in the form that lmms-eval and our tasks write.
    """
    try:
        return _rows(run)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.name} or its samples are not in lmms-eval's form ({error!r})") from error


def _rows(run: Run) -> list[Row]:
    stored = {
        (row["task"], row["metric"]): Row(**row) for row in run.results.get("mimic", {}).get("rows", ())
    }
    rows = []
    for task, scores in sorted(run.results["results"].items(), key=lambda item: _rank(item[0])):
        if not _is_mimic(task):
            continue
        for metric in _metrics(scores):
            if task in run.samples:
                rows.append(_from_samples(run, task, metric))
            elif (task, metric) in stored:
                rows.append(stored[task, metric])
            else:
                rows.append(_from_scores(run, task, metric))
    return rows


def unscored_reasons(run: Run) -> list[str]:
    """One line for each unscored doc that was logged."""
    return [
        f"{task} doc {sample['doc_id']}: {sample['mimic']['reason']}"
        for task, samples in run.samples.items()
        for sample in samples
        if sample.get("mimic", {}).get("status") == "unscored"
    ]


def _is_mimic(task: str) -> bool:
    parts = task.split("_")
    return parts[0] == "mimic" and any(kind in parts for kind in TASK_KINDS)


def _rank(task: str) -> tuple[int, str]:
    kinds = [TASK_KINDS.index(part) for part in task.split("_") if part in TASK_KINDS]
    return (kinds[0] if kinds else len(TASK_KINDS)), task


def _metrics(scores: dict[str, Any]) -> list[str]:
    names = [key.partition(",")[0] for key in scores if "," in key]
    wanted = ("exact_match", "exact_match_official", "class_accuracy", "f1", "f1_official")
    return [name for name in wanted if name in names]


def _from_samples(run: Run, task: str, metric: str) -> Row:
    items = [sample.get(metric, {}) for sample in run.samples[task]]
    scored = [item for item in items if item.get("score") is not None]
    unscored = sum(sample["unscored"] for sample in run.samples[task])
    if not scored:
        return _row(run, task, metric, 0, None, (None, None), "no doc was scored", unscored)
    if metric.startswith("f1"):
        counts = [item["counts"] for item in scored]
        f1 = micro_f1(*zip(*counts, strict=True))
        if f1.low == f1.high:  # resampling equal docs says nothing about other docs
            return _row(run, task, metric, len(scored), f1.estimate, (None, None), ALIKE, unscored)
        return _row(run, task, metric, len(scored), f1.estimate, (f1.low, f1.high), BOOTSTRAP, unscored)
    if metric == "class_accuracy":
        mean = sum(item["score"] for item in scored) / len(scored)
        return _row(run, task, metric, len(scored), mean, (None, None), "mean over docs", unscored)
    interval = wilson(round(sum(item["score"] for item in scored)), len(scored))
    return _row(
        run, task, metric, len(scored), interval.estimate, (interval.low, interval.high), WILSON, unscored
    )


def _from_scores(run: Run, task: str, metric: str) -> Row:
    """From the aggregated results alone."""
    scores = {key.partition(",")[0]: value for key, value in run.results["results"][task].items()}
    unscored = int(scores.get("unscored") or 0)
    n = int(run.results["n-samples"][task]["effective"]) - unscored
    score = scores[metric]
    if score is not None and not (isinstance(score, int | float) and 0 <= score <= 1):
        raise ValueError(f"{task} {metric} = {score!r}")
    if score is None or n < 1:
        return _row(run, task, metric, 0, None, (None, None), "no doc was scored", unscored)
    if metric.startswith("exact_match"):
        interval = wilson(round(score * n), n)
        return _row(run, task, metric, n, interval.estimate, (interval.low, interval.high), WILSON, unscored)
    return _row(run, task, metric, n, float(score), (None, None), NOT_LOGGED, unscored)


def _row(
    run: Run,
    task: str,
    metric: str,
    n: int,
    score: float | None,
    bounds: Sequence[float | None],
    interval: str,
    unscored: int,
) -> Row:
    settings = run.settings
    mask = str(settings.get("mask", "-"))
    layers = settings.get("layers")
    checkpoint = str(settings.get("checkpoint"))
    if settings.get("checkpoint_kind"):
        checkpoint = f"{checkpoint} ({settings['checkpoint_kind']})"
    return Row(
        task=task,
        metric=metric,
        n=n,
        docs=int(run.results.get("n-samples", {}).get(task, {}).get("original", n + unscored)),
        score=score,
        low=bounds[0],
        high=bounds[1],
        interval=interval,
        unscored=unscored,
        data=_label(run, task),
        model=run.model,
        checkpoint=checkpoint,
        mask=f"{mask} {layers}" if layers and layers != "none" else mask,
    )


def _label(run: Run, task: str) -> str:
    metadata = run.results.get("configs", {}).get(task, {}).get("metadata") or {}
    return str(metadata.get("label", "unknown"))
