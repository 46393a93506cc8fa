"""The runs that are compared: all results of one model under one setting, by task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leaderboard.labels import Named, brief_labels, checkpoint_label, setting_label
from leaderboard.runs import Run, is_mimic, read_runs
from leaderboard.upstream import MEAN_OF_DOCS, DocScores, upstream_scores
from mimic_eval.records import Sample, UserError

_NOT_OF_THE_MODEL = ("batch_size", "device")
"""Announced settings that two runs of one model may differ in."""


@dataclass(frozen=True)
class Arm:
    """One model under one setting.

    Attributes:
        path: as the user gave it.
        model: lmms-eval's model name.
        settings: as `Run.settings`, without what does not belong to the model.
        samples: of each MIMIC task, sorted by doc id.
        notes: what was ignored while reading.
        upstream: of each task that is not ours, its metrics by name.
    """

    path: Path
    model: str
    settings: Mapping[str, Any]
    samples: Mapping[str, Sequence[Sample]]
    notes: tuple[str, ...] = ()
    upstream: Mapping[tuple[str, str], DocScores] = field(default_factory=dict)


def read_arm(path: Path) -> Arm:
    """The runs in a folder and below it as one model's; of several runs of a task, the newest.

    Raises:
        UserError: nothing there, runs of several models or settings, no MIMIC task and no other with a score
            for each doc, or a MIMIC task without logged samples.
    """
    notes = []
    upstream: dict[tuple[str, str], DocScores] = {}
    runs = []
    for run in read_runs(path):  # oldest first
        scores, left_out = upstream_scores(run)
        notes += left_out
        upstream |= {(one.task, one.metric.removesuffix(MEAN_OF_DOCS)): one for one in scores}
        if scores or any(map(is_mimic, run.results["results"])):
            runs.append(run)
    if not runs:
        raise UserError("; ".join([f"{path}: its runs evaluated no MIMIC task", *notes]))
    models = {_key(run): run for run in runs}
    if len(models) > 1:
        listed = "; ".join(f"{_description(run)} in {Path(run.name).parent}" for run in models.values())
        raise UserError(
            f"{path} holds runs of {len(models)} models or settings: give a folder of one ({listed})"
        )
    samples: dict[str, Sequence[Sample]] = {}
    for run in runs:  # oldest first
        for task in filter(is_mimic, run.results["results"]):
            if task not in run.samples:
                raise UserError(f"{run.name}: {task} has no samples beside it; run it with --log_samples")
            if task in samples:
                notes.append(f"{path}: {task} was run more than once; the newest run counts")
            samples[task] = run.samples_of(task)
    return Arm(path, runs[0].model, model_settings(runs[0]), samples, tuple(dict.fromkeys(notes)), upstream)


def arm_of(run: Run, task: str) -> Arm:
    """One task of one run.

    Raises:
        UserError: its samples are not in the form that our tasks write.
    """
    return Arm(Path(run.name).parent, run.model, run.settings, {task: run.samples_of(task)})


def arm_labels(arms: Sequence[Arm]) -> list[str]:
    """A short name for each: what distinguishes it from the others, or its folder.

    Returns:
        All different.
    """
    labels = brief_labels([Named(arm.model, arm.settings) for arm in arms])
    if len(set(labels)) < len(arms) or not all(labels):
        labels = [str(arm.path) for arm in arms]
    if len(set(labels)) < len(arms):
        raise UserError("the same run is given twice: give different ones")
    return labels


def model_settings(run: Run) -> dict[str, Any]:
    """The settings of a run that two runs of one model may not differ in.

    Of how it generated, only what is not plain greedy decoding: a task's length is the task's.
    """
    settings = {key: value for key, value in run.settings.items() if key not in _NOT_OF_THE_MODEL}
    generation = settings.get("generation")
    if isinstance(generation, Mapping):
        del settings["generation"]
        others = [settings_of for settings_of in map(_not_greedy, generation.values()) if settings_of]
        if others:
            settings["generation"] = [
                setting for i, setting in enumerate(others) if setting not in others[:i]
            ]
    return settings


def _not_greedy(generation: Any) -> Any:
    if not isinstance(generation, Mapping):
        return generation
    plain: dict[str, Any] = {
        "do_sample": False,
        "until": [],
        "max_new_tokens": generation.get("max_new_tokens"),
    }
    return {key: value for key, value in generation.items() if key not in plain or value != plain[key]}


def _key(run: Run) -> str:
    return repr((run.model, sorted(model_settings(run).items(), key=lambda item: item[0])))


def _description(run: Run) -> str:
    return f"{run.model} {setting_label(run.settings)} {checkpoint_label(run.settings)}"
