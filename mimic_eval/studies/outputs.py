"""What a study draws, and what its paper reports: the keys ``output`` and ``reported`` of a study file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mimic_eval.records import UserError, check_integer
from mimic_eval.studies import fields
from mimic_eval.studies.fields import Value
from mimic_eval.studies.tables import expanded

KINDS = ("table", "sub_tasks", "sweep", "curve", "grid", "attention", "maps", "flips", "position")
"""Of outputs, which `leaderboard.studies` draws."""

PLOTS = (
    "inter_intra", "answer_by_place", "answer_by_role", "in_boxes", "recurrence", "sink_share", "entropy",
)  # fmt: skip
"""Figures of `mimic diagnose`."""

FINDINGS = ("sweep", "attention", "flips", "position", "change", "score")
"""What a claim of the paper may be compared with."""

_OUTPUT = ("kind", "title", "x", "y", "plot", "metric", "reference", "settings", "tasks")
_REPORTED = ("title", "source", "caveat", "metric", "unit", "columns", "rows", "overall")
_COLUMN = ("name", "task", "sub_task", "metric", "items", "where")
_ROW = ("model", "setting", "entry", "values", "where", "note")
_CLAIM = ("says", "source", "of", "name", "setting", "task", "expect")
_NEEDED = {"attention": ("plot",), "curve": ("x",), "grid": ("x", "y")}


@dataclass(frozen=True)
class Output:
    """A figure or table of the study.

    Attributes:
        kind: of `KINDS`. ``table``: scores with the reported ones and the changes to the reference.
            ``sub_tasks``: the scores by sub-task.
            ``sweep``: the figure of each sweep task. ``curve``, ``grid``: the score against one or two
            arguments that vary. ``attention``: a figure of `mimic diagnose`, with all settings in it.
            ``flips``: answers that differ from the reference's. ``position``: of permuted tasks, the score
            by the position of the image that holds the answer. ``maps``: attention over pictures.
        title: or empty for the study's.
        x: of ``curve`` and ``grid``: an argument that varies.
        y: of ``grid``: another one.
        plot: of ``attention``: of `PLOTS`.
        metric: of the tasks (``exact_match``, ``exact_match_official``), or empty for their headline.
        reference: the setting with which the others are compared, or None for the first.
        settings: the only settings in it, or empty for all.
        tasks: the only tasks in it, or empty for all.
    """

    kind: str
    title: str = ""
    x: str = ""
    y: str = ""
    plot: str = ""
    metric: str = ""
    reference: str | None = None
    settings: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """What the paper says in words, and the measurement that bears on it.

    Attributes:
        says: in our words.
        source: where.
        of: of `FINDINGS`.
        name: part of the name of the finding, or empty for all of this kind.
        setting: of the study, or empty for all.
        task: or empty for all.
        expect: ``below 0``, ``above 0`` (any number), or ``near 0``.
    """

    says: str
    source: str
    of: str
    name: str
    setting: str
    task: str
    expect: str


@dataclass(frozen=True)
class Column:
    """A column of a reported table, and the measurement that it is compared with.

    Attributes:
        name: as printed.
        task: of lmms-eval, or empty if nothing here is comparable.
        sub_task: of the task, or empty for all of it.
        metric: or empty for the table's.
        items: questions behind its numbers, or None if unknown (METHODS 16.3).
        where: values of what varies (a sweep's controls, arguments) that choose its cells.
    """

    name: str
    task: str = ""
    sub_task: str = ""
    metric: str = ""
    items: int | None = None
    where: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportedRow:
    """A row as its paper prints it.

    Attributes:
        model: as the paper names it.
        setting: of the study, which it is compared with, or empty if it has none.
        entry: the entry that it is compared with, or empty for the setting's.
        values: one for each column, as printed; None where nothing is.
        where: as of `Column`.
        note: or empty.
    """

    model: str
    setting: str
    entry: str
    values: tuple[str | None, ...]
    where: Mapping[str, Value]
    note: str = ""


@dataclass(frozen=True)
class Reported:
    """Numbers of the paper.

    Attributes:
        title: short.
        source: the paper and its figure or table.
        caveat: what a reader must know of the numbers.
        metric: of all columns that name none.
        unit: ``percent``, ``share`` or ``number``.
        columns: of the rows' values.
        rows: as printed.
        overall: the column that is a mean of the others, or empty.
    """

    title: str
    source: str
    caveat: str
    metric: str
    unit: str
    columns: tuple[Column, ...]
    rows: tuple[ReportedRow, ...]
    overall: str = ""


def read_output(where: str, one: Mapping[str, Any], settings: Sequence[str]) -> Output:
    """An output.

    Raises:
        UserError: an unknown key, kind or setting, or a key that the kind needs is missing.
    """
    fields.check_keys(where, one, _OUTPUT, needed=("kind",))
    texts = {
        key: fields.text(f"{where}: {key}", one[key])
        for key in one
        if key not in ("kind", "settings", "tasks", "reference")
    }
    named = [
        fields.one_of(f"{where}: settings", name, settings)
        for name in fields.items(where, one.get("settings"))
    ]
    reference = one.get("reference")
    for key in _NEEDED.get(str(one["kind"]), ()):
        if key not in texts:
            raise UserError(f"{where} of kind {one['kind']} needs '{key}'")
    if "plot" in texts:
        fields.one_of(f"{where}: plot", texts["plot"], PLOTS)
    return Output(
        kind=fields.one_of(f"{where}: kind", one["kind"], KINDS),
        reference=None if reference is None else fields.one_of(f"{where}: reference", reference, settings),
        settings=tuple(named),
        tasks=fields.tasks(f"{where}: tasks", one.get("tasks")),
        **texts,
    )


def read_reported(where: str, one: Mapping[str, Any], settings: Sequence[str]) -> Reported:
    """Numbers of the paper, written out or by ``table: NAME`` (`mimic_eval.studies.tables`).

    Raises:
        UserError: an unknown key or name, or a row that has not one number for each column.
    """
    one = expanded(where, one)
    fields.check_keys(where, one, _REPORTED, needed=("source", "columns", "rows"))
    columns = fields.each(f"{where}: columns", one["columns"], _column)
    rows = fields.each(
        f"{where}: rows", one["rows"], lambda label, row: _row(label, row, settings, len(columns))
    )
    source = fields.text(f"{where}: source", one["source"])
    overall = (
        fields.text(f"{where}: overall", one.get("overall", ""), default="") if one.get("overall") else ""
    )
    if overall:
        fields.one_of(f"{where}: overall", overall, [column.name for column in columns])
    return Reported(
        title=fields.text(f"{where}: title", one.get("title"), default=source),
        source=source,
        caveat=fields.text(f"{where}: caveat", one["caveat"]) if one.get("caveat") else "",
        metric=fields.text(f"{where}: metric", one["metric"]) if one.get("metric") else "",
        unit=fields.one_of(f"{where}: unit", one.get("unit", "percent"), ("percent", "share", "number")),
        columns=columns,
        rows=rows,
        overall=overall,
    )


def read_claim(where: str, one: Mapping[str, Any], settings: Sequence[str]) -> Claim:
    """A claim of the paper.

    Raises:
        UserError: an unknown key or value.
    """
    fields.check_keys(where, one, _CLAIM, needed=("says", "of", "expect"))
    texts = {key: fields.text(f"{where}: {key}", one[key]) if key in one else "" for key in _CLAIM}
    fields.one_of(f"{where}: of", texts["of"], FINDINGS)
    if texts["setting"]:
        fields.one_of(f"{where}: setting", texts["setting"], settings)
    if not re.fullmatch(r"(below|above|near) -?\d+(\.\d+)?", texts["expect"]):
        raise UserError(f"{where}: expect is 'below 0', 'above 0' or 'near 0', got '{texts['expect']:.80}'")
    return Claim(**texts)


def _column(where: str, one: Mapping[str, Any]) -> Column:
    fields.check_keys(where, one, _COLUMN, needed=("name",))
    texts = {key: fields.text(f"{where}: {key}", one[key]) for key in one if key not in ("items", "where")}
    count = one.get("items")
    if count is not None:
        check_integer(f"{where}: items", count, least=1, most=10**9)
    return Column(items=count, where=fields.arguments(f"{where}: where", one.get("where")), **texts)


def _row(where: str, one: Mapping[str, Any], settings: Sequence[str], columns: int) -> ReportedRow:
    fields.check_keys(where, one, _ROW, needed=("model", "values"))
    model = fields.text(f"{where}: model", one["model"])
    where = f"{where} ({model})"
    values = tuple(fields.printed(where, value) for value in fields.items(f"{where}: values", one["values"]))
    if len(values) != columns:
        raise UserError(f"{where} has {len(values)} values for {columns} columns")
    setting = one.get("setting")
    return ReportedRow(
        model=model,
        setting="" if setting is None else fields.one_of(f"{where}: setting", setting, settings),
        entry=fields.text(f"{where}: entry", one["entry"]) if one.get("entry") else "",
        values=values,
        where=fields.arguments(f"{where}: where", one.get("where")),
        note=fields.text(f"{where}: note", one["note"]) if one.get("note") else "",
    )
