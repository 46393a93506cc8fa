"""From the runs of a sweep to the records of its figure. Pure functions; `figure` only renders them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from leaderboard.constant_answers import constant_of
from leaderboard.doublings import slope_lines
from leaderboard.labels import checkpoint_label, mask_label, text, usual_settings
from leaderboard.runs import Run, is_mimic
from leaderboard.summary import NONE_SCORED, MetricScore, data_label, metrics, score_samples
from mimic_eval.records import Sample, UserError

Value = int | float | str

_HOW = ("batch_size", "device", "calibration")
"""Settings of the execution of a run, not of what was run."""

_PARTS = ("checkpoint_kind", "peft", "family", "depth", "layers")
"""Settings that belong to the checkpoint or to the mask, and are written with it."""


class SweepPoint(NamedTuple):
    """One metric of one cell under one run.

    Attributes:
        metric: as in `leaderboard.summary.Row`.
        run: the results file.
        model: lmms-eval's model name.
        checkpoint: as in the table.
        mask: the intervention and its layers.
        settings: the run's other settings, ``pool 4, order fixed, dtype float32``.
        series: the value of the figure's series, or None if it has none.
        line: what else distinguishes the point's line: the settings in which the runs differ, and keys of
            the cells that are neither x nor the series. Empty if nothing does.
        x: the value on the axis.
        cell: the cell's name.
        n: scored docs.
        unscored: docs without an answer, left out of n.
        score: in [0, 1], or None if no doc was scored.
        low: lower end of the 95 % interval, or None if there is none.
        high: upper end.
        interval: how it was made.
        constant: what the best constant answer would score on the cell's docs, or None for the official
            scores.
    """

    metric: str
    run: str
    model: str
    checkpoint: str
    mask: str
    settings: str
    series: Value | None
    line: str
    x: Value
    cell: str
    n: int
    unscored: int
    score: float | None
    low: float | None
    high: float | None
    interval: str
    constant: float | None


class SweepFigure(NamedTuple):
    """One sweep's figure.

    Attributes:
        task: lmms-eval's task name.
        name: the sweep's name.
        title: its title.
        metric: what the figure shows: ``exact_match`` or ``f1``. The points hold the other metrics too.
        x: the key on the axis.
        series: the key of the lines, or None.
        data: the data's label.
        common: the settings that all runs share, for the caption.
        points: run by run and cell by cell, in the grid's order, one for each metric.
        notes: what was left out, one line each.
        doublings: where N varies, the change of the score per doubling of N within matched sets, a sentence
            for each run.
    """

    task: str
    name: str
    title: str
    metric: str
    x: str
    series: str | None
    data: str
    common: dict[str, str]
    points: tuple[SweepPoint, ...]
    notes: tuple[str, ...]
    doublings: tuple[str, ...] = ()

    @property
    def drawn(self) -> list[SweepPoint]:
        """The points of the figure itself: the headline metric, cells with a score."""
        return [point for point in self.points if point.metric == self.metric and point.score is not None]


@dataclass(frozen=True)
class _Sweep:
    """The sweep in a task's metadata."""

    name: str
    title: str
    x: str
    series: str | None
    cells: dict[str, dict[str, Value]]


def summarize_sweeps(runs: Sequence[Run], names: Mapping[str, str] | None = None) -> list[SweepFigure]:
    """A figure for each sweep task in the runs, given oldest first.

    Of several runs with the same settings the newest counts.

    Args:
        runs: of one or several models.
        names: what the user calls runs, by `Run.name`; the others are called by what distinguishes them.

    Raises:
        UserError: a run's metadata or samples are not in the form that `mimic sweep` and our tasks write; a
            sweep run has no samples; runs of one name are of different builds.
    """
    tasks = sorted({task for run in runs for task in run.results["results"] if _holds(run, task)})
    return [_figure(task, [run for run in runs if _holds(run, task)], names or {}) for task in tasks]


def _holds(run: Run, task: str) -> bool:
    """Whether the run evaluated this task and the task is a sweep."""
    return task in run.results["results"] and is_mimic(task) and _metadata(run, task) is not None


def _metadata(run: Run, task: str) -> Any:
    return run.part("configs", task, "metadata").get("sweep")


def _figure(task: str, runs: Sequence[Run], given: Mapping[str, str]) -> SweepFigure:
    logged = [run for run in runs if task in run.samples]
    if not logged:
        raise UserError(
            f"{runs[0].name} has no samples of {task}; a figure needs them: run it again with --log_samples"
        )
    notes = [
        f"{run.name} has no samples: left out (run it again with --log_samples)"
        for run in runs
        if task not in run.samples
    ]
    runs = logged
    newest = {tuple(sorted(_description(run).items())): run for run in runs}
    for run in runs:
        if not any(run is newest_run for newest_run in newest.values()):
            notes.append(f"{run.name} is an older run with the same settings as a newer one: left out")
    runs = [run for run in runs if any(run is newest_run for newest_run in newest.values())]
    sweep = _sweep(runs[0], task)
    for run in runs:
        if _sweep(run, task) != sweep or data_label(run, task) != data_label(runs[0], task):
            raise _another_build(task, runs[0], run)
    samples = [run.samples_of(task) for run in runs]
    _check_same_docs(task, runs, samples)
    names = metrics(runs[0].results["results"][task])
    points = _points(task, sweep, runs, samples, names, given)
    for point in points:
        if point.metric == names[0] and point.score is None:
            where = ", ".join(part for part in (point.cell, point.line) if part)
            why = f"{point.unscored} unscored docs" if point.unscored else "its docs were not run"
            notes.append(f"{where}: left out, {NONE_SCORED} ({why})")
    if not any(point.metric == names[0] and point.score is not None for point in points):
        raise UserError(f"{task}: no doc was scored in any cell; there is nothing to draw")
    described = [_description(run, (sweep.x, sweep.series)) for run in runs]
    common = {
        key: value for key, value in described[0].items() if all(one.get(key) == value for one in described)
    }
    return SweepFigure(
        task=task,
        name=sweep.name,
        title=sweep.title,
        metric=names[0],
        x=sweep.x,
        series=sweep.series,
        data=data_label(runs[0], task),
        common=common,
        points=tuple(points),
        notes=tuple(notes),
        doublings=tuple(
            slope_lines(
                task, {given.get(run.name, ", ".join(_description(run).values())): run for run in runs}
            )
        ),
    )


def _points(
    task: str,
    sweep: _Sweep,
    runs: Sequence[Run],
    logged: Sequence[Sequence[Sample]],
    names: Sequence[str],
    given: Mapping[str, str],
) -> list[SweepPoint]:
    chosen = (sweep.x, sweep.series)
    described = [_description(run, chosen) for run in runs]
    axes = [tuple(_setting(run, key) for key in chosen if key and key not in _keys(sweep)) for run in runs]
    naming = _naming(described, axes)
    rest = [key for key in _keys(sweep) if key not in chosen and _varies(sweep, key)]
    points = []
    for run, samples_of_run, settings in zip(runs, logged, described, strict=True):
        cells = _samples_by_cell(samples_of_run, task, sweep)
        full = _description(run)
        for cell, values in sweep.cells.items():
            line = [_setting_text(key, settings[key]) for key in naming if key in settings]
            line = [given[run.name]] if run.name in given else line
            line += [f"{key} {values[key]}" for key in rest]
            samples = cells[cell]
            for metric in names:
                points.append(
                    SweepPoint(
                        metric=metric,
                        run=run.name,
                        model=run.model,
                        checkpoint=checkpoint_label(run.settings),
                        mask=mask_label(run.settings),
                        settings=", ".join(
                            _setting_text(key, value)
                            for key, value in full.items()
                            if key not in ("model", "checkpoint", "mask")
                        ),
                        series=_value(run, values, sweep.series) if sweep.series else None,
                        line=", ".join(line),
                        x=_value(run, values, sweep.x),
                        cell=cell,
                        constant=constant_of(metric, samples),
                        **_scored(samples, metric)._asdict(),
                    )
                )
    return points


def _scored(samples: Sequence[Sample], metric: str) -> MetricScore:
    return score_samples(samples, metric) if samples else MetricScore(0, None, None, None, NONE_SCORED, 0)


def _samples_by_cell(samples: Sequence[Sample], task: str, sweep: _Sweep) -> dict[str, list[Sample]]:
    cells: dict[str, list[Sample]] = {name: [] for name in sweep.cells}
    for sample in samples:
        if sample.cell is None:
            raise sample.missing("cell")
        if sample.cell not in cells:
            doc = f"doc {sample.doc_id} of {task}"
            raise UserError(f"{sample.where}: {doc} is in {sample.cell!r}, which is no cell of its sweep")
        cells[sample.cell].append(sample)
    return cells


def _description(run: Run, without: Sequence[str | None] = ()) -> dict[str, str]:
    """A run in the table's words, without what the figure shows anyway."""
    settings = {**run.settings, **usual_settings(run.settings)}
    mask = str(settings.get("mask", "-")) if "layers" in without else mask_label(settings)
    described = {"model": run.model, "checkpoint": checkpoint_label(settings), "mask": mask}
    rest = {key: value for key, value in settings.items() if key not in (*described, *_HOW, *_PARTS)}
    described |= {key: text(value) for key, value in rest.items() if value is not None}
    if "mask" in without and mask != str(settings.get("mask")):
        described["layers"] = str(settings["layers"])
    return {key: value for key, value in described.items() if key not in without}


def _naming(described: Sequence[Mapping[str, str]], axes: Sequence[tuple[Value, ...]]) -> list[str]:
    """The settings that distinguish the runs: those that all of them announce, if these are enough.

    Settings of one intervention alone (``prefix`` of ``block``) are so named only where they matter.

    Args:
        described: the settings of each run.
        axes: its values of x and series, where these are settings.
    """
    every = list(dict.fromkeys(key for settings in described for key in settings))
    values = {key: [settings[key] for settings in described if key in settings] for key in every}
    differing = [key for key in every if len(set(values[key])) > 1]
    everywhere = [key for key in differing if len(values[key]) == len(described)]
    for keys in (everywhere, differing):
        apart = {
            (*chosen, *map(settings.get, keys)) for settings, chosen in zip(described, axes, strict=True)
        }
        if len(apart) == len(described):
            return keys
    return [key for key in every if key in differing or len(values[key]) < len(described)]


def _setting_text(key: str, value: str) -> str:
    return value if key in ("model", "checkpoint") else f"{key} {value}"


def _value(run: Run, values: Mapping[str, Value], key: str) -> Value:
    return values[key] if key in values else _setting(run, key)


def _setting(run: Run, key: str) -> Value:
    settings = {**run.settings, **usual_settings(run.settings)}
    if key not in settings and key != "model":
        raise UserError(f"{run.name}: '{key}' is neither a key of the sweep's cells nor a setting of the run")
    value = settings.get(key, run.model)
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)


def _keys(sweep: _Sweep) -> list[str]:
    return list(next(iter(sweep.cells.values())))


def _varies(sweep: _Sweep, key: str) -> bool:
    return len({values[key] for values in sweep.cells.values()}) > 1


def _sweep(run: Run, task: str) -> _Sweep:
    metadata = _metadata(run, task)
    wrong = _wrong(metadata)
    if not re.fullmatch(r"[\w.-]+", task):
        wrong = "a task's name holds letters, digits and _"
    if wrong:
        raise UserError(f"{run.name}: the metadata of {task!r} are not those of a sweep: {wrong}")
    cells = {name: dict(values) for name, values in metadata["cells"].items()}
    return _Sweep(metadata["name"], metadata["title"], metadata["x"], metadata.get("series"), cells)


def _wrong(metadata: Any) -> str | None:
    """What is wrong with a sweep's metadata."""
    if not isinstance(metadata, dict):
        return f"'sweep' must be a mapping, got {metadata!r:.60}"
    for key in ("name", "title", "x", "series"):
        value = metadata.get(key)
        if not isinstance(value, str) and not (key == "series" and value is None):
            return f"'{key}' must be a text, got {value!r:.60}"
    cells = metadata.get("cells")
    if not isinstance(cells, dict) or not cells or not all(isinstance(one, dict) for one in cells.values()):
        return f"'cells' must map names to values, got {cells!r:.60}"
    first = next(iter(cells.values()))
    for name, values in cells.items():
        if values.keys() != first.keys():
            return f"cell {name!r} has not the keys of the others"
        for value in values.values():
            if not isinstance(value, str) and not (isinstance(value, int | float) and abs(value) < 1e15):
                return f"cell {name!r} must hold numbers and texts, got {value!r:.60}"
    if len({tuple(values[key] for key in first) for values in cells.values()}) < len(cells):
        return "two of its cells hold the same values"
    return None


def _check_same_docs(task: str, runs: Sequence[Run], logged: Sequence[Sequence[Sample]]) -> None:
    """Runs of one figure saw the same docs, or some of them."""
    docs: dict[int | None, str] = {}
    for run, samples in zip(runs, logged, strict=True):
        for sample in samples:
            if docs.setdefault(sample.doc_id, sample.content_hash) != sample.content_hash:
                raise _another_build(task, runs[0], run)


def _another_build(task: str, first: Run, other: Run) -> UserError:
    return UserError(
        f"{first.name} and {other.name} hold {task} of different builds: draw them from separate folders"
    )
