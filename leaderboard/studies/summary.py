"""All that the page of a study shows, from its finished cells. Pages and tables only render it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from leaderboard.studies.cells import BASE, FinishedCell, chosen, finished_cells, maps_of
from leaderboard.studies.figures import Drawing, draw, draw_flips, draw_scores
from leaderboard.studies.findings import CheckedClaim, Finding, checked_claims
from leaderboard.studies.scores import (
    Changed,
    Difference,
    Score,
    change_findings,
    changes,
    check_of,
    differences,
    reported_scores,
    scores_of,
)
from mimic_eval.studies.outputs import Output, Reported, ReportedRow
from mimic_eval.studies.results import Cost, StudyResult
from mimic_eval.studies.spec import Study
from stats import Attainability

_KINDS = {
    "trained": "tiny model, trained on glyph scenes: no evidence about other models",
    "random": "random weights: answers are noise, scores mean nothing",
}


class ScoreTable(NamedTuple):
    """Scores by cell and column; `rows` are the labels of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    scores: dict[tuple[str, str], Score]
    differences: dict[tuple[str, str], tuple[Difference, ...]]


class PrintedNumber(NamedTuple):
    """A number of a paper with its verdict; both None where nothing is printed."""

    printed: str | None
    check: Attainability | None


class ReportedTable(NamedTuple):
    """A table as its paper prints it."""

    reported: Reported
    rows: tuple[tuple[ReportedRow, tuple[PrintedNumber, ...]], ...]


class CellCost(NamedTuple):
    """What a cell cost, and what it ran."""

    label: str
    checkpoint: str
    model: str
    measure: str
    cost: Cost
    command: str


@dataclass
class StudyPage:
    """A study as it is shown.

    Attributes:
        result: what it was made from.
        figures: drawings, in the order of the outputs.
        tables: scores.
        changes: paired tests against the reference.
        claims: the paper's words with what was measured.
        findings: all other measurements.
        reported: the paper's tables.
        costs: of each cell.
        maps: pictures of attention, by label of a cell.
        missing: a line for each cell or model that was not run.
        notes: what was left out and why.
    """

    result: StudyResult
    figures: list[Drawing] = field(default_factory=list)
    tables: list[ScoreTable] = field(default_factory=list)
    changes: list[Changed] = field(default_factory=list)
    claims: list[CheckedClaim] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    reported: list[ReportedTable] = field(default_factory=list)
    costs: list[CellCost] = field(default_factory=list)
    maps: list[tuple[str, list[Path]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def study(self) -> Study:
        """The study's file."""
        return self.result.study

    @property
    def warnings(self) -> list[str]:
        """What the checkpoints are that the package brings."""
        names = {one.checkpoint for one in self.costs}
        return [text for kind, text in _KINDS.items() if any(f"({kind})" in name for name in names)]


def summarize_study(result: StudyResult) -> StudyPage:
    """Figures, tables, tests, claims and costs of a study, from all cells that are finished.

    Raises:
        UserError: a run folder is damaged.
    """
    cells = finished_cells(result)
    page = StudyPage(result, missing=list(_missing(result)))
    study = result.study
    runs = [one for one in cells if one.scored]
    checkpoint = _checkpoint(cells)
    compared = [one for table in study.reported for one in differences(runs, table, checkpoint)]
    for number, output in enumerate(study.outputs, start=1):
        if output.kind in ("table", "sub_tasks"):
            _tables(page, output, number, chosen(cells, output), compared)
        elif output.kind == "maps":
            page.maps += [(one.label, maps_of(one)) for one in chosen(cells, output)]
        elif output.kind != "flips":
            drawn = draw(output, number, study.title, cells)
            page.figures += drawn.figures
            page.findings += drawn.findings
            page.notes += drawn.notes
    _changes(page, cells)
    page.findings = list(dict.fromkeys(page.findings))
    page.claims = checked_claims(study.claims, page.findings)
    page.reported = [_as_printed(table) for table in study.reported]
    page.costs = [
        CellCost(one.label, one.checkpoint, one.model, one.cell.measure, one.cell.cost, one.cell.command)
        for one in cells
    ]
    page.notes = list(dict.fromkeys([*map(str, result.record.get("notes") or ()), *page.notes]))
    return page


def _checkpoint(cells: Sequence[FinishedCell]) -> str:
    """What the study's first model is loaded from, as its runs announced it."""
    ordered = sorted(cells, key=lambda one: one.cell.entry != BASE)
    names = [str(one.settings["checkpoint"]) for one in ordered if one.settings.get("checkpoint")]
    return names[0] if names else "unknown"


def _tables(
    page: StudyPage, output: Output, number: int, cells: Sequence[FinishedCell], compared: list[Difference]
) -> None:
    study = page.result.study
    title = output.title or study.title
    rows = list(scores_of(cells, output))
    own = rows
    if output.kind == "table" and study.reported:
        rows = [score for table in study.reported for score in reported_scores(cells, table)]
        shown = {(score.label, score.task) for score in rows}
        rows += [score for score in own if (score.label, score.task) not in shown]
    if not rows:
        page.notes.append(f"{title}: no scores")
        return
    beside: dict[tuple[str, str], tuple[Difference, ...]] = {}
    for one in compared:
        key = one.label, one.column
        beside[key] = (*beside.get(key, ()), one)
    page.tables.append(
        ScoreTable(
            f"{title}, by sub-task" if output.kind == "sub_tasks" else title,
            tuple(dict.fromkeys(score.column for score in rows)),
            tuple(dict.fromkeys(score.label for score in rows)),
            {(score.label, score.column): score for score in rows},
            beside,
        )
    )
    drawn = draw_scores(output, number, title, rows, compared)
    page.figures += drawn.figures
    page.notes += drawn.notes


def _changes(page: StudyPage, cells: Sequence[FinishedCell]) -> None:
    """The paired changes of the outputs that compare, each pair once, and the figures of flips."""
    study = page.result.study
    seen = set()
    for number, output in enumerate(study.outputs, start=1):
        if output.kind not in ("table", "flips"):
            continue
        rows, notes = changes(chosen(cells, output), output, study.reported)
        page.notes += notes
        for one in rows:
            key = one.label, one.reference, one.row.task, one.row.metric
            if key not in seen:
                seen.add(key)
                page.changes.append(one)
        page.findings += change_findings(rows)
        if output.kind == "flips":
            drawn = draw_flips(output, number, study.title, rows)
            page.figures += drawn.figures
            page.notes += drawn.notes


def _as_printed(table: Reported) -> ReportedTable:
    rows = []
    for row in table.rows:
        numbers = tuple(
            PrintedNumber(value, None if value is None else check_of(table, row, column, value))
            for column, value in zip(table.columns, row.values, strict=True)
        )
        rows.append((row, numbers))
    return ReportedTable(table, tuple(rows))


def _missing(result: StudyResult) -> Iterator[str]:
    """Cells that are planned and not finished, and models of the study that were not given."""
    yield from (f"cell {name} is not finished" for name in result.missing)
    given = {cell.entry for cell in result.cells}
    for name, what in result.study.entries.items():
        if name not in given:
            yield f"{name} was not given: {what}"
