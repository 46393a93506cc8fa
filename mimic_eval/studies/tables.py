"""Published tables, the one place of each number: for studies, and for the overview of a leaderboard."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.reading import read_yaml

_FOLDER = Path(__file__).parent / "published"
_KEYS = ("title", "source", "caveat", "columns", "overall", "rows")
_OF_A_STUDY = ("table", "settings", "columns", "models", "metric", "unit")


class PrintedColumn(NamedTuple):
    """A column of a published table: its name, and the items behind its numbers, or None if unknown."""

    name: str
    items: int | None = None


class PrintedRow(NamedTuple):
    """A row as its paper prints it, in percent; None where it prints nothing."""

    model: str
    setting: str
    values: tuple[str | None, ...]
    note: str = ""


class PrintedTable(NamedTuple):
    """A published table.

    Attributes:
        title: short.
        source: the paper and table.
        caveat: what a reader must know of its numbers.
        columns: of its numbers; `overall` is one of the names, or empty.
        overall: the column that is a mean of the others.
        rows: as printed.
    """

    title: str
    source: str
    caveat: str
    columns: tuple[PrintedColumn, ...]
    overall: str
    rows: tuple[PrintedRow, ...]


@cache
def printed_table(name: str) -> PrintedTable:
    """A published table by the name of its file in ``published/``.

    Raises:
        UserError: there is none of this name, or its file is damaged.
    """
    names = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    if name not in names:
        raise UserError(nearest("published table", name, names))
    return _read(_FOLDER / f"{name}.yaml")


def expanded(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The key `reported` of a study with ``table: NAME`` in it, written out.

    Args:
        where: for messages.
        given: ``table``; ``settings``, from the table's setting to the study's; ``columns``, from the
            table's column to what is measured (``task``, ``sub_task``, ``metric``, ``where``); ``models``,
            the only ones that are taken; ``metric``, ``unit``. Without ``table`` it is returned as it is.

    Raises:
        UserError: a key, column, setting or model that the table does not have.
    """
    if "table" not in given:
        return dict(given)
    for key in given:
        if key not in _OF_A_STUDY:
            raise UserError(nearest(f"key of {where} beside table", str(key), _OF_A_STUDY))
    table = printed_table(str(given["table"]))
    where = f"{where} ({given['table']})"
    columns = _known(where, "columns", given.get("columns"), [column.name for column in table.columns])
    settings = _known(where, "settings", given.get("settings"), [row.setting for row in table.rows])
    models = given.get("models") or [row.model for row in table.rows]
    for model in models:
        if model not in {row.model for row in table.rows}:
            raise UserError(nearest(f"model of {where}", str(model), {row.model for row in table.rows}))
    rows = []
    for row in table.rows:
        if row.model in models:
            setting = settings.get(row.setting)
            named = row.model if setting else f"{row.model}, {row.setting}"
            one = {"model": named, "values": list(row.values), "note": row.note or None}
            rows.append(one | ({"setting": setting} if setting else {}))
    return {
        **{key: getattr(table, key) for key in ("title", "source", "caveat", "overall")},
        **{key: given[key] for key in ("metric", "unit") if key in given},
        "columns": [
            {"name": column.name, "items": column.items, **(columns.get(column.name) or {})}
            for column in table.columns
        ],
        "rows": rows,
    }


def _known(where: str, key: str, given: Any, valid: list[str]) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: {key} must hold `name: value` lines, got {given!r:.80}")
    for name in given:
        if name not in valid:
            raise UserError(nearest(f"name in {key} of {where}", str(name), dict.fromkeys(valid)))
    return dict(given)


def _read(path: Path) -> PrintedTable:
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("columns"), Mapping):
        raise UserError(f"{path}: a published table has the keys {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path}: {nearest('key', str(key), _KEYS)}")
    columns = tuple(PrintedColumn(str(name), items) for name, items in content["columns"].items())
    for column in columns:
        if column.items is not None:
            check_integer(f"{path}: items of {column.name}", column.items, least=1, most=10**9)
    rows = tuple(_row(path, given, len(columns)) for given in content.get("rows") or ())
    overall = str(content.get("overall", ""))
    if overall and overall not in {column.name for column in columns}:
        raise UserError(f"{path}: {nearest('column as overall', overall, [c.name for c in columns])}")
    title, source, caveat = (str(content.get(key, "")) for key in ("title", "source", "caveat"))
    return PrintedTable(title, source, caveat, columns, overall, rows)


def _row(path: Path, given: Any, columns: int) -> PrintedRow:
    if not isinstance(given, list) or not 3 <= len(given) <= 4:
        raise UserError(f"{path}: a row is [model, setting, numbers] and maybe a note, got {given!r:.80}")
    values = str(given[2]).split()
    if len(values) != columns or not all(re.fullmatch(r"-|\d+(\.\d+)?", value) for value in values):
        raise UserError(
            f"{path}: {given[0]}, {given[1]}: {columns} numbers are needed ('-' where none is printed), got "
            f"{given[2]!r:.80}"
        )
    printed = tuple(None if value == "-" else value for value in values)
    return PrintedRow(str(given[0]), str(given[1]), printed, str(given[3]) if len(given) == 4 else "")
