"""A study file: what is run, what is drawn of it, and what the paper reports (METHODS 17)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.order import parse_order
from mimic_eval.records.reading import read_yaml
from mimic_eval.studies import fields
from mimic_eval.studies.fields import Value

MEASURES = ("scores", "attention")
"""What a setting is run for: a run of `lmms_eval`, or one of `mimic diagnose`."""

KINDS = ("sweep", "curve", "table", "sub_tasks", "attention", "maps", "flips", "position", "heads", "cost")
"""Of outputs, which `leaderboard.studies` draws."""

_KEYS = (
    *("id", "title", "paper", "figure", "docs", "seed", "data", "tasks", "entries", "settings", "vary"),
    *("orders", "permuted_orders", "measure", "attention", "output", "reported", "caveats"),
)
_SETTING = ("name", "entry", "model_args", "vary", "orders", "tasks", "measure")
_ATTENTION = ("sinks", "maps", "map_rows", "map_layers")
_OUTPUT = (
    *("kind", "title", "x", "y", "series", "rows", "columns", "metric", "rows_of", "reference", "settings"),
    "tasks",
)
_REPORTED = ("title", "source", "caveat", "metric", "unit", "columns", "rows", "overall")
_COLUMN = ("name", "task", "sub_task", "metric", "items", "where")
_ROW = ("model", "setting", "entry", "values", "where", "note")
_ID = re.compile(r"[a-z0-9_.-]+:[a-z0-9_.-]+")
_MOST_DOCS = 1_000_000
_T = TypeVar("_T")


@dataclass(frozen=True)
class Setting:
    """An intervention with its arguments, which runs on the models that are given.

    Attributes:
        name: of the study's settings.
        entry: the only entry that it runs on, or None for all that are given.
        model_args: of `--model_args`, without the checkpoint's.
        vary: lists of further arguments; every combination is a cell.
        orders: values of ``order=``; each is a cell.
        tasks: of lmms-eval.
        measure: of `MEASURES`.
    """

    name: str
    entry: str | None
    model_args: Mapping[str, Value]
    vary: Mapping[str, tuple[Value, ...]]
    orders: tuple[str, ...]
    tasks: tuple[str, ...]
    measure: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """What is built for the study, as one task folder: either is None.

    Attributes:
        sweeps: as `mimic sweep` takes them: ready-made names, files beside the study, or mappings.
        build: options of `mimic build` by name (``tasks``, ``n_images``, ``total``, ...).
    """

    sweeps: tuple[str | Mapping[str, Any], ...] | None
    build: Mapping[str, Any] | None


@dataclass(frozen=True)
class Output:
    """A figure or table of the study.

    Attributes:
        kind: of `KINDS`.
        title: or empty for the study's.
        x: key on the axis: of a sweep's cells, an argument that varies, ``layer``, ``depth_quartile``.
        y: what is drawn: a metric, or a measure of `mimic diagnose`.
        series: key of the lines: ``setting``, ``entry``, or an argument.
        rows: key of a table's rows.
        columns: key of a table's columns.
        metric: of the tasks (``exact_match``, ``exact_match_official``), or empty for their headline.
        rows_of: whose attention: ``answer``, ``question``, ``image``.
        reference: the setting with which the others are compared, or None.
        settings: the only settings in it, or empty for all.
        tasks: the only tasks in it, or empty for all.
    """

    kind: str
    title: str = ""
    x: str = ""
    y: str = ""
    series: str = ""
    rows: str = ""
    columns: str = ""
    metric: str = ""
    rows_of: str = ""
    reference: str | None = None
    settings: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Study:
    """A study file.

    Attributes:
        id: ``mimic:fig4``.
        title: of the study.
        paper: where its figure is.
        figure: ``Fig. 4``, ``Table 2``.
        docs: of each task; in a sweep, of each cell.
        seed: of what is built.
        data: what is built, or None: the task folder that applies (`MIMIC_DATA`, else the embedded one).
        entries: the models that the study wants beside the first: what each is, by name.
        settings: what is run.
        permuted_orders: of permuted tasks: `MIMIC_ORDERS`, or empty for the default.
        attention: arguments of `mimic diagnose`: ``sinks``, ``maps``, ``map_rows``, ``map_layers``.
        outputs: what is drawn.
        reported: the paper's numbers.
        caveats: what is not comparable, and why; a sentence each.
        source: the mapping that the file holds.
        path: of the file, or None.
    """

    id: str
    title: str
    paper: str
    figure: str
    docs: int
    seed: int
    data: Data | None
    entries: Mapping[str, str]
    settings: tuple[Setting, ...]
    permuted_orders: str
    attention: Mapping[str, Any]
    outputs: tuple[Output, ...]
    reported: tuple[Reported, ...]
    caveats: tuple[str, ...]
    source: Mapping[str, Any]
    path: Path | None = None


def packaged() -> dict[str, Path]:
    """The files of the packaged studies by id: ``mimic:fig4`` is ``mimic_fig4.yaml``."""
    folder = Path(str(files("mimic_eval.studies") / "files"))
    return {path.stem.replace("_", ":", 1): path for path in sorted(folder.glob("*.yaml"))}


def read_study(study: str) -> Study:
    """A packaged study by its id, or one from a YAML file.

    Raises:
        UserError: no such id or file, or a wrong value; the message names file and key.
    """
    ready = packaged()
    path = ready.get(study, Path(study).expanduser())
    if study not in ready and not path.exists():
        raise UserError(f"{nearest('study', study, ready)} Or give a YAML file: there is none at {path}")
    data = read_yaml(path)
    try:
        return parse_study(data, path=path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def parse_study(data: Any, *, path: Path | None = None) -> Study:
    """A study from the mapping that its YAML holds.

    Raises:
        UserError: an unknown key or a wrong value.
    """
    if not isinstance(data, dict):
        raise UserError(f"is no study: it must map {', '.join(_KEYS)} to values")
    fields.check_keys("the study", data, _KEYS, needed=("id", "settings"))
    id_ = fields.text("id", data["id"])
    if not _ID.fullmatch(id_):
        raise UserError(
            f"id must read paper:figure, in lower-case letters, digits, '.', '_' and '-', got '{id_:.80}'"
        )
    entries = {
        fields.name("entries", key): fields.text(f"entries: {key}", value)
        for key, value in fields.mapping("entries", data.get("entries")).items()
    }
    settings = _settings(data, entries)
    names = [setting.name for setting in settings]
    return Study(
        id=id_,
        title=fields.text("title", data.get("title"), default=id_),
        paper=fields.text("paper", data.get("paper"), default="not named"),
        figure=fields.text("figure", data.get("figure"), default=id_.partition(":")[2]),
        docs=check_integer("docs", data.get("docs", 100), least=1, most=_MOST_DOCS),
        seed=check_integer("seed", data.get("seed", 0), least=0, most=2**63 - 1),
        data=_data(data.get("data")),
        entries=entries,
        settings=settings,
        permuted_orders=_permuted_orders(data.get("permuted_orders")),
        attention=_attention(data.get("attention")),
        outputs=_each("output", data.get("output"), lambda where, one: _output(where, one, names)),
        reported=_each("reported", data.get("reported"), lambda where, one: _reported(where, one, names)),
        caveats=tuple(
            fields.text(f"caveats: {number}", caveat)
            for number, caveat in enumerate(fields.items("caveats", data.get("caveats")), start=1)
        ),
        source=data,
        path=path,
    )


def _each(where: str, value: Any, read: Callable[[str, dict[str, Any]], _T]) -> tuple[_T, ...]:
    """Each mapping of a list; one mapping is a list of one."""
    listed = [value] if isinstance(value, dict) else fields.items(where, value)
    labels = [where if len(listed) == 1 else f"{where} {number}" for number in range(1, len(listed) + 1)]
    return tuple(read(label, fields.mapping(label, one)) for label, one in zip(labels, listed, strict=True))


def _settings(data: Mapping[str, Any], entries: Mapping[str, str]) -> tuple[Setting, ...]:
    settings = _each("settings", data["settings"], lambda where, one: _setting(where, one, data, entries))
    names = [setting.name for setting in settings]
    if not names:
        raise UserError("settings must list at least one")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two settings are called {name}")
    return settings


def _setting(
    where: str, one: Mapping[str, Any], study: Mapping[str, Any], entries: Mapping[str, str]
) -> Setting:
    fields.check_keys(where, one, _SETTING, needed=("name",))
    name = fields.name(f"{where}: name", one["name"])
    where = f"setting {name}"
    given = {**{key: study.get(key) for key in ("vary", "orders", "tasks", "measure")}, **one}
    tasks = fields.tasks(f"{where}: tasks", given["tasks"])
    if not tasks:
        raise UserError(f"{where} has no tasks: give tasks: in it, or in the study")
    entry = one.get("entry")
    if entry is not None and entry not in entries:
        raise UserError(
            f"{where}: entry: {nearest('entry', str(entry), entries)} The study lists them in entries:"
        )
    model_args = fields.arguments(f"{where}: model_args", one.get("model_args"))
    vary = fields.grid(f"{where}: vary", given["vary"])
    both = sorted(set(model_args) & set(vary))
    if both:
        raise UserError(f"{where}: {both[0]} is both in model_args and in vary")
    for key in ("pretrained", "peft"):
        if key in model_args or key in vary:
            raise UserError(
                f"{where}: {key} belongs to the command line (--pretrained, --entry): leave it out"
            )
    if "order" in model_args or "order" in vary:
        raise UserError(f"{where}: order is said by orders: [fixed, reversed]")
    orders = tuple(
        parse_order(fields.text(f"{where}: orders", order))
        for order in fields.items(f"{where}: orders", given["orders"] or ["fixed"])
    )
    measure = tuple(
        _one_of(f"{where}: measure", measure, MEASURES)
        for measure in fields.items(f"{where}: measure", given["measure"] or ["scores"], least=1)
    )
    return Setting(name, entry, model_args, vary, orders, tasks, measure)


def _one_of(where: str, value: Any, valid: Sequence[str]) -> str:
    if value not in valid:
        raise UserError(nearest(f"value of {where}", str(value), valid))
    return str(value)


def _data(value: Any) -> Data | None:
    given = fields.mapping("data", value)
    if not given:
        return None
    fields.check_keys("data", given, ("sweeps", "build"))
    if len(given) != 1:
        raise UserError("data holds sweeps: or build:, not both: one task folder is made")
    if "build" in given:
        return Data(None, fields.mapping("data: build", given["build"]))
    sweeps = fields.items("data: sweeps", given["sweeps"], least=1)
    for sweep in sweeps:
        if not isinstance(sweep, str | dict):
            raise UserError(f"data: sweeps must list names, files or sweeps, got {sweep!r:.80}")
    return Data(tuple(sweeps), None)


def _permuted_orders(value: Any) -> str:
    return "" if value is None else fields.text("permuted_orders", value)


def _attention(value: Any) -> dict[str, Any]:
    given = fields.mapping("attention", value)
    fields.check_keys("attention", given, _ATTENTION)
    read: dict[str, Any] = {
        key: fields.text(f"attention: {key}", given[key]) for key in given if key != "maps"
    }
    if "maps" in given:
        maps = fields.items("attention: maps", given["maps"])
        read["maps"] = tuple(fields.text("attention: maps", doc) for doc in maps)
    return read


def _output(where: str, one: Mapping[str, Any], settings: Sequence[str]) -> Output:
    fields.check_keys(where, one, _OUTPUT, needed=("kind",))
    texts = {
        key: fields.text(f"{where}: {key}", one[key])
        for key in one
        if key not in ("kind", "settings", "tasks", "reference")
    }
    named = [
        _one_of(f"{where}: settings", name, settings) for name in fields.items(where, one.get("settings"))
    ]
    reference = one.get("reference")
    return Output(
        kind=_one_of(f"{where}: kind", one["kind"], KINDS),
        reference=None if reference is None else _one_of(f"{where}: reference", reference, settings),
        settings=tuple(named),
        tasks=fields.tasks(f"{where}: tasks", one.get("tasks")),
        **texts,
    )


def _reported(where: str, one: Mapping[str, Any], settings: Sequence[str]) -> Reported:
    fields.check_keys(where, one, _REPORTED, needed=("source", "columns", "rows"))
    columns = _each(f"{where}: columns", one["columns"], _column)
    rows = _each(f"{where}: rows", one["rows"], lambda label, row: _row(label, row, settings, len(columns)))
    source = fields.text(f"{where}: source", one["source"])
    overall = (
        fields.text(f"{where}: overall", one.get("overall", ""), default="") if one.get("overall") else ""
    )
    if overall:
        _one_of(f"{where}: overall", overall, [column.name for column in columns])
    return Reported(
        title=fields.text(f"{where}: title", one.get("title"), default=source),
        source=source,
        caveat=fields.text(f"{where}: caveat", one["caveat"]) if one.get("caveat") else "",
        metric=fields.text(f"{where}: metric", one["metric"]) if one.get("metric") else "",
        unit=_one_of(f"{where}: unit", one.get("unit", "percent"), ("percent", "share", "number")),
        columns=columns,
        rows=rows,
        overall=overall,
    )


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
        setting="" if setting is None else _one_of(f"{where}: setting", setting, settings),
        entry=fields.text(f"{where}: entry", one["entry"]) if one.get("entry") else "",
        values=values,
        where=fields.arguments(f"{where}: where", one.get("where")),
        note=fields.text(f"{where}: note", one["note"]) if one.get("note") else "",
    )
