"""The runs that are compared: all results of one model under one setting, by task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leaderboard.labels import Named, brief_labels, checkpoint_label, setting_label
from leaderboard.runs import Run, is_mimic, read_runs
from leaderboard.upstream import MEAN_OF_DOCS, DocScores, upstream_scores
from mimic_eval.records import Sample, UserError

_NOT_OF_THE_MODEL = ("batch_size", "device", "calibration")
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
        name: what the user calls it, or empty.
    """

    path: Path
    model: str
    settings: Mapping[str, Any]
    samples: Mapping[str, Sequence[Sample]]
    notes: tuple[str, ...] = ()
    upstream: Mapping[tuple[str, str], DocScores] = field(default_factory=dict)
    name: str = ""


def read_arm(path: Path, name: str = "") -> Arm:
    """The runs in a folder and below it as one model's; of several runs of a task, the newest.

    Args:
        path: the folder.
        name: what the user calls it, or empty.

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
        raise UserError("; ".join([f"{path}: its runs with scores evaluated no MIMIC task", *notes]))
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
    settings = model_settings(runs[0])
    return Arm(path, runs[0].model, settings, samples, tuple(dict.fromkeys(notes)), upstream, name)


def arm_of(run: Run, task: str) -> Arm:
    """One task of one run.

    Raises:
        UserError: its samples are not in the form that our tasks write.
    """
    return Arm(Path(run.name).parent, run.model, run.settings, {task: run.samples_of(task)})


def arm_labels(arms: Sequence[Arm], *, prose: bool = False) -> list[str]:
    """A short name for each: the user's, or what distinguishes it from the others, or its folder.

    Args:
        arms: the runs.
        prose: for a sentence (`leaderboard.labels.brief_labels`).

    Returns:
        All different.

    Raises:
        UserError: a run is given twice, or two have one name.
    """
    labels = brief_labels([Named(arm.model, arm.settings) for arm in arms], prose=prose)
    if len(set(labels)) < len(arms) or not all(labels):
        labels = [str(arm.path) for arm in arms]
    if len(set(labels)) < len(arms):
        raise UserError("the same run is given twice: give different ones")
    labels = [arm.name or label for arm, label in zip(arms, labels, strict=True)]
    if len(set(labels)) < len(arms):
        raise UserError(f"two runs have one name: {', '.join(labels)}; give each its own with --label")
    return labels


def names_given(given: Sequence[str], paths: Sequence[Path]) -> dict[Path, str]:
    """The names of runs that the user gave, by the run's path as on the command line.

    Args:
        given: ``RUN=NAME`` each.
        paths: of the runs.

    Raises:
        UserError: not of this form, or no such run.
    """
    names = {}
    for text in given:
        splits = [(Path(text[:at]), text[at + 1 :].strip()) for at, sign in enumerate(text) if sign == "="]
        path, name = next(((path, name) for path, name in splits if path in paths), (None, ""))
        if path is None or not name:
            raise UserError(f"--label is RUN=NAME, RUN one of {', '.join(map(str, paths))}; got {text!r}")
        names[path] = name
    return names


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
