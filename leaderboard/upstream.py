"""Tasks that are not ours: every metric of lmms-eval whose samples hold a score for each doc."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

from leaderboard.aggregated import scored_rows
from leaderboard.measures import Binary, Graded, Measure
from leaderboard.runs import Run, is_mimic
from mimic_eval.records import UNSCORED, Sample

MEAN_OF_DOCS = " (mean of docs)"
"""In the name of a metric whose reported value is not the mean of its docs' scores."""

_SAME = 1e-4
_LARGEST = 1e300  # beyond it an integer of JSON is no float


class DocScores(NamedTuple):
    """One metric of one task.

    Attributes:
        task: lmms-eval's task name.
        metric: its name; with `MEAN_OF_DOCS` if the reported value is another aggregate.
        samples: of the docs that have the metric. Their `content_hash` is of number and target (without a
            target: of number and prompt); `question` is the prompt.
        higher_is_better: as the task declares.
        docs: docs that the task has.
    """

    task: str
    metric: str
    samples: tuple[Sample, ...]
    higher_is_better: bool
    docs: int

    @property
    def values(self) -> list[float]:
        """The scores of the scored docs."""
        return [sample.score for sample in self.samples if sample.score is not None]


def measure_by(metric: str, values: Sequence[float]) -> Measure:
    """Binary if every score is 0 or 1, else graded."""
    return Binary(metric) if set(values) <= {0.0, 1.0} else Graded(metric)


def upstream_scores(run: Run) -> tuple[list[DocScores], list[str]]:
    """The metrics of a run's other tasks, and one line for each that has no score for each doc.

    Metrics that log the same object for every doc (POPE's accuracy, precision and recall) are one: the first.
    """
    metrics: list[DocScores] = []
    notes: list[str] = []
    for task in sorted(run.results["results"]):
        names = _metrics(run.part("results", task))
        if is_mimic(task) or not names or run.part("group_subtasks").get(task):
            continue
        rows = run.samples.get(task)
        if not rows:
            notes.append(f"{task}: has no samples (run it with --log_samples)")
        elif len({row["doc_id"] for row in rows}) < len(rows):
            notes.append(f"{task}: a doc is logged more than once (by several filters)")
        else:
            _add(run, task, rows, names, metrics, notes)
    return metrics, [f"{run.name}: left out: {note}" for note in notes]


def _metrics(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The reported value of each metric."""
    named = {key.partition(",")[0]: value for key, value in scores.items() if "," in key}
    return {name: value for name, value in named.items() if "_stderr" not in name}


def _add(
    run: Run,
    task: str,
    rows: Sequence[Mapping[str, Any]],
    names: Mapping[str, Any],
    metrics: list[DocScores],
    notes: list[str],
) -> None:
    seen: dict[str, str] = {}
    given = len(rows)
    rows, merged = scored_rows(task, rows, run.file_of(task))
    for name, reported in names.items():
        logged = [row for row in rows if name in row]
        scores = [_score(row[name]) for row in logged]
        wrong = next((entry for entry in scores if isinstance(entry, str)), None)
        values = [score for score in scores if isinstance(score, float)]
        if not logged or wrong is not None:
            notes.append(f"{task} {name}: {wrong or 'its samples do not hold it'}: no score for each doc")
            continue
        if any(not 0 <= value <= 1 for value in values):
            notes.append(f"{task} {name}: scores from {min(values):g} to {max(values):g}, not within 0-1")
            continue
        samples = tuple(_sample(run, task, row, name) for row in logged)
        objects = [(row["doc_id"], row[name]) for row in logged if isinstance(row[name], Mapping)]
        first = seen.setdefault(json.dumps(objects) if objects else name, name)
        if first != name:
            notes.append(f"{task} {name}: logs the same for each doc as {first}")
            continue
        original = run.count(task, "original") if len(logged) == len(rows) else None
        if merged and original == given:
            original = None  # all docs ran, several of them as one
        higher = run.part("higher_is_better", task).get(name)
        label = name if _is_mean(reported, values) else name + MEAN_OF_DOCS
        metrics.append(DocScores(task, label, samples, higher is not False, original or len(logged)))


def _is_mean(reported: Any, values: Sequence[float]) -> bool:
    number = isinstance(reported, int | float) and abs(reported) < _LARGEST
    return bool(number and values and abs(reported - sum(values) / len(values)) < _SAME)


def _score(entry: Any) -> float | str | None:
    """The score in a metric's entry, None if the doc has none, or a text about what is there instead."""
    if isinstance(entry, Mapping):
        if "score" not in entry:
            return f"its samples hold {', '.join(map(str, entry))[:80] or 'nothing'}"
        entry = entry["score"]
    if entry is None:
        return None
    if not isinstance(entry, int | float) or abs(entry) > _LARGEST:
        return f"its samples hold {entry!r:.40}"
    return None if isnan(entry) else float(entry)


def _sample(run: Run, task: str, row: Mapping[str, Any], name: str) -> Sample:
    score = _score(row[name])
    number, target, prompt = int(row["doc_id"]), str(row.get("target") or ""), str(row.get("input") or "")
    identity = json.dumps([number, target, "" if target.strip() else prompt])
    answer = row.get("filtered_resps")
    return Sample(
        doc_id=number,
        items={},
        kind="",
        content_hash=hashlib.sha256(identity.encode()).hexdigest(),
        gt=target,
        question=prompt,
        response=answer if isinstance(answer, str) else json.dumps(answer, default=str),
        status="parsed" if isinstance(score, float) else UNSCORED,
        reason=None if isinstance(score, float) else f"{name} has no score",
        score=score if isinstance(score, float) else None,
        where=str(run.file_of(task)),
    )
