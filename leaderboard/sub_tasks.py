"""The scores of a run by sub-task: the parts that a benchmark's authors report, each with n and interval."""

from collections import defaultdict
from collections.abc import Sequence

from leaderboard.labels import Named, label, labels
from leaderboard.pairing import docs_of
from leaderboard.runs import Run, is_mimic
from leaderboard.summary import Row, data_label, estimated_row, metrics, score_samples
from leaderboard.upstream import measure_by
from mimic_eval.records import Sample


def summarize_sub_tasks(runs: Sequence[Run]) -> list[Row]:
    """A row for each sub-task and metric of the logged tasks of some runs; `task` is ``task / sub-task``.

    Only tasks with two sub-tasks or more have rows, and those whose answers name images by their position:
    one for each position (``task / image 2 of 4``), of the docs with a score there.

    Raises:
        UserError: the samples are not in the form that our tasks write.
    """
    run_labels = labels([Named(run.model, run.settings) for run in runs])
    rows = []
    for run, run_label in zip(runs, run_labels, strict=True):
        rows += [
            row._replace(model=run_label.model, checkpoint=run_label.checkpoint, mask=run_label.setting)
            for row in _rows(run)
        ]
    return rows


def _rows(run: Run) -> list[Row]:
    named = label(Named(run.model, run.settings))
    rows = []
    for task in sorted(task for task in run.samples if is_mimic(task)):
        parts: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in run.samples_of(task):
            if sample.sub_task:
                parts[sample.sub_task].append(sample)
        rows += _positions(run, task)
        if len(parts) < 2:
            continue
        for name, samples in sorted(parts.items()):
            for metric in metrics(run.part("results", task)):
                scored = score_samples(samples, metric)
                rows.append(
                    Row(
                        task=f"{task} / {name}",
                        metric=metric,
                        docs=scored.n + scored.unscored,
                        data=data_label(run, task),
                        model=named.model,
                        checkpoint=named.checkpoint,
                        mask=named.setting,
                        **scored._asdict(),
                    )
                )
    return rows


def _positions(run: Run, task: str) -> list[Row]:
    """A row for each number of images and position; a doc with several orders counts once."""
    named = label(Named(run.model, run.settings))
    headline = metrics(run.part("results", task))[:1]
    scores: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for doc in docs_of(run.samples_of(task)).values():
        of_doc: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
        for sample in doc.samples:
            for position, score in enumerate(sample.position_scores or ()):
                if score is not None:
                    of_doc[len(sample.position_scores or ()), position].append(score)
        for at, values in of_doc.items():
            scores[at].append(sum(values) / len(values))
    return [
        Row(
            task=f"{task} / image {position + 1} of {n}",
            metric=headline[0],
            docs=len(values),
            data=data_label(run, task),
            model=named.model,
            checkpoint=named.checkpoint,
            mask=named.setting,
            **estimated_row(measure_by(headline[0], values), values)._asdict(),
        )
        for (n, position), values in sorted(scores.items())
        if headline
    ]
