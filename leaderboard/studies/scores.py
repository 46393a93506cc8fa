"""Scores of a study's cells, beside the reported ones, and their changes against the reference."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from leaderboard.comparison import TaskComparison, compare
from leaderboard.measures import Estimate
from leaderboard.runs import is_mimic
from leaderboard.studies.cells import FinishedCell, groups
from leaderboard.studies.findings import Finding
from leaderboard.sub_tasks import summarize_sub_tasks
from leaderboard.summary import OFFICIAL_OVERALL, metrics, score_samples, summarize_run, upstream_rows
from leaderboard.upstream import MEAN_OF_DOCS
from mimic_eval.records import UserError
from mimic_eval.studies.outputs import Column, Output, Reported, ReportedRow
from stats import Attainability, attainable, overall_attainable


class Score(NamedTuple):
    """A score of a cell.

    Attributes:
        label: of the cell.
        column: of the table: a reported column, or the task (and sub-task).
        task: lmms-eval's.
        metric: its name.
        n: scored docs.
        unscored: left out of n.
        value: within 0-1, or None if there is none.
        low: of its interval, or None.
        high: of its interval, or None.
        interval: how it was made, or why there is no value.
    """

    label: str
    column: str
    task: str
    metric: str
    n: int
    unscored: int
    value: float | None
    low: float | None
    high: float | None
    interval: str


class Difference(NamedTuple):
    """A measured score against a printed one, in the unit that is printed.

    Attributes:
        label: of the cell.
        column: of the table.
        model: of the paper.
        printed: as printed.
        check: whether it can be what it claims.
        measured: the score, or None if it was not measured.
        difference: measured - printed, or None.
        low: of the measurement's interval, minus the printed number.
        high: of the same.
        why_not: why there is no difference.
    """

    label: str
    column: str
    model: str
    printed: str
    check: Attainability
    measured: Score | None
    difference: float | None
    low: float | None
    high: float | None
    why_not: str


CHECKPOINTS = {
    "LLaVA-OV-0.5B": ("llava-onevision-qwen2-0.5b", "llava-ov-0.5b"),
    "LLaVA-OV-7B": ("llava-onevision-qwen2-7b", "llava-ov-7b"),
    "LLaVA-Interleave-7B": ("llava-interleave-qwen-7b",),
    "Qwen2-VL-7B": ("qwen2-vl-7b",),
    "Idefics2-8B": ("idefics2-8b",),
    "Mantis-SigCLIP-8B": ("mantis-8b-siglip",),
    "Mantis-8B-Idefics2": ("mantis-8b-idefics2",),
    "InternVL2-8B": ("internvl2-8b",),
    "LLaVA-1.5-7B": ("llava-1.5-7b",),
}
"""What a checkpoint's name contains that is the model which a paper calls so."""


def is_model(name: str, checkpoint: str) -> bool:
    """Whether a checkpoint is the model of a paper, by its name; a user's rows may name it as it is."""
    given = checkpoint.lower().replace("_", "-")
    return any(part in given for part in CHECKPOINTS.get(name, (name.lower(),)))


def scores_of(cells: Sequence[FinishedCell], output: Output) -> Iterator[Score]:
    """The scores of an output's tasks, or of their sub-tasks; one metric of each task."""
    for one in cells:
        if output.kind == "sub_tasks":
            rows = summarize_sub_tasks([one.run])
        else:
            rows = [*summarize_run(one.run), *upstream_rows(one.run)]
        tasks, seen = one.tasks_of(output), set()
        for row in rows:
            task, metric = row.task.split(" / ")[0], row.metric.removesuffix(MEAN_OF_DOCS)
            wanted = metric == output.metric if output.metric else row.task not in seen
            if task in tasks and wanted and not metric.startswith("un"):
                seen.add(row.task)
                yield Score(
                    one.label, row.task, task, row.metric, row.n, row.unscored, row.score, row.low, row.high,
                    row.interval,
                )  # fmt: skip


def score_of_column(one: FinishedCell, column: Column, metric: str) -> Score | None:
    """The score of a cell that a reported column is compared with, or None if it did not run the task."""
    task = column.task
    if not task or task not in one.run.results["results"]:
        return None
    if any(one.cell.values.get(key, value) != value for key, value in column.where.items()):
        return None
    names = [name for name in (column.metric, metric) if name]
    if column.sub_task or (is_mimic(task) and task in one.run.samples and OFFICIAL_OVERALL not in names[:1]):
        name = names[0] if names else next(iter(metrics(one.run.part("results", task))), "")
        parts = [part.strip() for part in column.sub_task.split(",") if part.strip()]
        samples = [
            sample
            for sample in (one.run.samples_of(task) if task in one.run.samples else ())
            if not parts or sample.sub_task in parts
        ]
        if not samples:
            why = f"no docs of {column.sub_task}" if parts else "needs --log_samples"
            return Score(one.label, column.name, task, name, 0, 0, None, None, None, why)
        scored = score_samples(samples, name)
        return Score(
            one.label, column.name, task, name, scored.n, scored.unscored, scored.score, scored.low,
            scored.high, scored.interval,
        )  # fmt: skip
    for row in (*summarize_run(one.run), *upstream_rows(one.run)):
        name = row.metric.removesuffix(MEAN_OF_DOCS)
        if row.task == task and (not names or name == names[0]):
            return Score(
                one.label, column.name, task, row.metric, row.n, row.unscored, row.score, row.low, row.high,
                row.interval,
            )  # fmt: skip
    return None


def reported_scores(cells: Sequence[FinishedCell], reported: Reported) -> list[Score]:
    """The scores of all cells that stand beside a reported table, its overall column among them."""
    rows = []
    for one in cells:
        found = [score_of_column(one, column, reported.metric) for column in reported.columns]
        rows += [score for score in found if score is not None]
        parts = [
            score
            for column, score in zip(reported.columns, found, strict=True)
            if column.name != reported.overall
        ]
        values = [score.value for score in parts if score is not None and score.value is not None]
        index = (
            [column.name for column in reported.columns].index(reported.overall) if reported.overall else -1
        )
        if reported.overall and found[index] is None and len(values) == len(parts) > 0:
            mean = sum(values) / len(values)
            n = sum(score.n for score in parts if score)
            how = "mean of the columns"
            rows.append(Score(one.label, reported.overall, "", "mean", n, 0, mean, None, None, how))
    return rows


def differences(cells: Sequence[FinishedCell], reported: Reported, checkpoint: str) -> list[Difference]:
    """Each printed number that a setting of the study is compared with.

    Args:
        cells: the scored ones.
        reported: the table.
        checkpoint: of the study's first model: what is measured.
    """
    scores = {(score.label, score.column): score for score in reported_scores(cells, reported)}
    rows = []
    for row in reported.rows:
        label = _label_of(cells, row)
        for column, printed in zip(reported.columns, row.values, strict=True):
            if printed is not None and (row.setting or row.entry):
                check = check_of(reported, row, column, printed)
                score = scores.get((label, column.name)) if label else None
                rows.append(_difference(row, column, printed, check, score, label, reported.unit, checkpoint))
    return rows


def _label_of(cells: Sequence[FinishedCell], row: ReportedRow) -> str:
    """The cell that a reported row is compared with."""
    for one in cells:
        if (
            row.setting in ("", one.cell.setting)
            and row.entry in ("", one.cell.entry)
            and all(one.cell.values.get(key) == value for key, value in row.where.items())
        ):
            return one.label
    return ""


def check_of(reported: Reported, row: ReportedRow, column: Column, printed: str) -> Attainability:
    """Whether a printed number can be what it claims (METHODS 16.3)."""
    full = {"percent": 100, "share": 1}.get(reported.unit)
    if full is None:
        return Attainability("cannot be said", "it is no share")
    if column.name == reported.overall:
        parts = [
            (value, other.items)
            for other, value in zip(reported.columns, row.values, strict=True)
            if other.name != reported.overall and value is not None
        ]
        if len(parts) < len(reported.columns) - 1:
            return Attainability("cannot be said", "its parts are not printed")
        sizes = [items for _, items in parts if items is not None]
        known = sizes if len(sizes) == len(parts) else None
        return overall_attainable(printed, [value for value, _ in parts], known, full=full)
    return attainable(printed, column.items, full=full)


def _difference(
    row: ReportedRow, column: Column, printed: str, check: Attainability, score: Score | None, label: str,
    unit: str, checkpoint: str,
) -> Difference:  # fmt: skip
    nothing = None, None, None
    if not column.task and column.name and score is None:
        return Difference(label, column.name, row.model, printed, check, None, *nothing, "not measured here")
    if score is None or score.value is None:
        why = "not run" if score is None else score.interval
        return Difference(label, column.name, row.model, printed, check, score, *nothing, why)
    if not is_model(row.model, checkpoint):
        why = f"another model ({checkpoint})"
        return Difference(label, column.name, row.model, printed, check, score, *nothing, why)
    scale = 100.0 if unit == "percent" else 1.0
    low, high = (None if end is None else scale * end - float(printed) for end in (score.low, score.high))
    return Difference(
        label, column.name, row.model, printed, check, score, scale * score.value - float(printed), low, high,
        "",
    )  # fmt: skip


class Changed(NamedTuple):
    """A cell against its reference on one task; `reported` is the same change of each model of the paper."""

    label: str
    reference: str
    setting: str
    row: TaskComparison
    reported: tuple[tuple[str, float], ...]


def changes(
    cells: Sequence[FinishedCell], output: Output, reported: Sequence[Reported]
) -> tuple[list[Changed], list[str]]:
    """Paired changes against the reference setting, and notes on what could not be compared."""
    rows: list[Changed] = []
    notes: list[str] = []
    for base, others in groups(cells, output.reference):
        for one in others:
            try:
                compared = compare([base.arm, one.arm])
            except UserError as error:
                notes.append(f"{one.label} is not compared with {base.label}: {error}")
                continue
            notes += compared.notes
            tasks = one.tasks_of(output)
            rows += [
                Changed(
                    one.label, base.label, one.cell.setting, row, tuple(_printed(base, one, row, reported))
                )
                for row in compared.rows
                if row.task in tasks
            ]
    return _in_one_family(rows), list(dict.fromkeys(notes))


def _in_one_family(rows: list[Changed]) -> list[Changed]:
    """The tests of a study are one Holm family."""
    from stats import holm

    if not rows:
        return rows
    adjusted = holm([one.row.pvalue for one in rows])
    found = []
    for one, p in zip(rows, adjusted.adjusted, strict=True):
        found.append(one._replace(row=one.row.in_family(p, adjusted.family)))
    return found


def _printed(
    base: FinishedCell, one: FinishedCell, row: TaskComparison, reported: Sequence[Reported]
) -> Iterator[tuple[str, float]]:
    """The change that a paper prints for the same pair of settings, model by model."""
    for table in reported:
        for index, column in enumerate(table.columns):
            if column.task != row.task or column.sub_task:
                continue
            before = {
                line.model: line.values[index] for line in table.rows if line.setting == base.cell.setting
            }
            for line in table.rows:
                first, value = before.get(line.model), line.values[index]
                if line.setting == one.cell.setting and value is not None and first is not None:
                    yield line.model, float(value) - float(first)


def change_findings(rows: Sequence[Changed]) -> Iterator[Finding]:
    """Changes and flips that a claim may be about."""
    for one in rows:
        row = one.row
        yield Finding(
            "change", f"change of {row.metric} against {one.reference}", one.setting, one.label, row.task,
            row.delta, row.n, row.pvalue,
        )  # fmt: skip
        yield flip_finding(one)


def flip_finding(one: Changed) -> Finding:
    """The share of answers that differ from the reference's."""
    name = f"answers that differ from {one.reference}"
    return Finding("flips", name, one.setting, one.label, one.row.task, one.row.flips, one.row.n)


def flip_bound(one: Changed) -> str:
    """The bounds that are given where no answer flips (METHODS 9)."""
    bound = one.row.flip_bound
    return "" if bound is None else "; ".join(f"{name}: at most {value:.4f}" for name, value in bound.items())


def as_estimate(score: Score) -> Estimate | None:
    """A score for a figure."""
    return None if score.value is None else Estimate(score.value, score.low, score.high, score.interval)
