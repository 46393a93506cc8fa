"""The scores of a run by sub-task: the parts that a benchmark's authors report, each with n and interval."""

from collections import defaultdict
from collections.abc import Sequence

from leaderboard.labels import Named, label, labels
from leaderboard.runs import Run, is_mimic
from leaderboard.summary import Row, data_label, metrics, score_samples
from mimic_eval.records import Sample


def summarize_sub_tasks(runs: Sequence[Run]) -> list[Row]:
    """A row for each sub-task and metric of the logged tasks of some runs; `task` is ``task / sub-task``.

    Only tasks with two sub-tasks or more have rows.

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
