"""Published numbers, shown beside ours and never ranked with them (METHODS 2.2), with what can be checked."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mimic_eval.studies.tables import PrintedRow, PrintedTable, printed_table
from stats import Attainability, attainable, overall_attainable

__all__ = ["OVERVIEW", "CheckedRow", "PrintedTable", "ReportedCell", "checked_rows", "printed_table"]

OVERVIEW = ("mimic", "mimic_others", "ar", "sofa")
"""The tables of a site's overview; pages of studies show theirs."""


class ReportedCell(NamedTuple):
    """One number and whether it can be what it claims; `printed` is None where the paper prints nothing."""

    column: str
    printed: str | None
    check: Attainability | None


class CheckedRow(NamedTuple):
    """A row with the check of each number."""

    row: PrintedRow
    cells: tuple[ReportedCell, ...]

    @property
    def verdict(self) -> str:
        """In words: how many numbers got which verdict; where one is not attainable, which and why."""
        words = [_words(cell.check) for cell in self.cells if cell.check]
        counts = [f"{words.count(word)} {word}" for word in _WORDS if word in words]
        reasons = [
            f"{cell.column} {cell.printed}: {cell.check.reason}"
            for cell in self.cells
            if cell.check and cell.check.verdict == "not attainable"
        ]
        return ", ".join(counts) + (f" ({'; '.join(reasons)})" if reasons else "")


_WORDS = ("attainable", "attainable as any number is", "not attainable", "cannot be said")


def _words(check: Attainability) -> str:
    return _WORDS[1] if check.verdict == "attainable" and check.chance == 1 else check.verdict


def checked_rows(table: PrintedTable) -> list[CheckedRow]:
    """Each row of a table with the attainability of each number (METHODS 16.3)."""
    return [CheckedRow(row, tuple(_cells(table, row))) for row in table.rows]


def _cells(table: PrintedTable, row: PrintedRow) -> Iterator[ReportedCell]:
    parts = [
        (value, column.items)
        for value, column in zip(row.values, table.columns, strict=True)
        if value is not None and column.name != table.overall
    ]
    for value, column in zip(row.values, table.columns, strict=True):
        if value is None:
            yield ReportedCell(column.name, None, None)
        elif column.name == table.overall:
            yield ReportedCell(column.name, value, _overall(value, parts, len(table.columns) - 1))
        else:
            yield ReportedCell(column.name, value, attainable(value, column.items))


def _overall(printed: str, parts: Sequence[tuple[str, int | None]], columns: int) -> Attainability:
    if len(parts) < columns:
        return Attainability("cannot be said", "its parts are not printed")
    sizes = [items for _, items in parts if items is not None]
    return overall_attainable(
        printed, [value for value, _ in parts], sizes if len(sizes) == len(parts) else None
    )
