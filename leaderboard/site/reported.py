"""Published numbers, shown beside ours and never ranked with them (METHODS 2.2), with what can be checked."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stats import Attainability, attainable, overall_attainable


class Column(NamedTuple):
    """A column of a published table: its name, and the items behind its numbers, or None if unknown."""

    name: str
    items: int | None = None


class ReportedRow(NamedTuple):
    """A row as its paper prints it, in percent; None where it prints nothing."""

    model: str
    setting: str
    values: tuple[str | None, ...]
    note: str = ""


class ReportedTable(NamedTuple):
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
    columns: tuple[Column, ...]
    overall: str
    rows: tuple[ReportedRow, ...]


class ReportedCell(NamedTuple):
    """One number and whether it can be what it claims; `printed` is None where the paper prints nothing."""

    column: str
    printed: str | None
    check: Attainability | None


class CheckedRow(NamedTuple):
    """A row with the check of each number."""

    row: ReportedRow
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


def checked_rows(table: ReportedTable) -> list[CheckedRow]:
    """Each row of a table with the attainability of each number (METHODS 16.3)."""
    return [CheckedRow(row, tuple(_cells(table, row))) for row in table.rows]


def _cells(table: ReportedTable, row: ReportedRow) -> Iterator[ReportedCell]:
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


MIMIC = ReportedTable(
    "MIMIC",
    "arXiv 2601.07812, official scoring of the official data",
    "The official scores have the defects that docs/scores.md names. Listing is an F1, no share of docs.",
    (
        Column("common"),
        Column("counting (balanced)"),
        Column("odd-one"),
        Column("listing"),
        Column("average"),
    ),
    "average",
    (
        ReportedRow("LLaVA-OV-0.5B", "base", ("44.7", "29.7", "8.3", "22.8", "26.4")),
        ReportedRow("LLaVA-OV-0.5B", "full fine-tune", ("68.5", "37.8", "41.0", "34.5", "45.5")),
        ReportedRow("LLaVA-OV-0.5B", "block-masked LoRA", ("68.9", "35.8", "50.9", "42.0", "49.4")),
        ReportedRow("LLaVA-OV-7B", "base", ("71.5", "29.7", "58.1", "56.6", "54.0")),
        ReportedRow(
            "LLaVA-OV-7B", "block-masked", ("75.5", "51.2", "72.1", "55.0", "63.8"), "the four average 63.5"
        ),
        ReportedRow("LLaVA-OV-0.5B", "mask depth: none", (None, None, None, None, "46.1")),
        ReportedRow("LLaVA-OV-0.5B", "mask depth: layers 0-23", (None, None, None, None, "37.7")),
        ReportedRow("LLaVA-OV-0.5B", "mask depth: layers 0-11", (None, None, None, None, "38.1")),
        ReportedRow("LLaVA-OV-0.5B", "mask depth: layers 12-23", (None, None, None, None, "49.4")),
    ),
)

MUIRBENCH = 2600
"""Questions of MuirBench."""

MIMIC_OTHERS = ReportedTable(
    "MIMIC, other benchmarks",
    "arXiv 2601.07812",
    "NLVR2 is in the training mixture of the release: its row is in-distribution.",
    (
        Column("MuirBench", MUIRBENCH), Column("BLINK"), Column("MMIU"), Column("MIRB"), Column("MMT"),
        Column("NLVR2"),
    ),
    "",
    (
        ReportedRow("LLaVA-OV-0.5B", "base", ("26.8", None, None, None, None, None)),
        ReportedRow("LLaVA-OV-0.5B", "block-masked LoRA", ("32.5", None, None, None, None, None)),
        ReportedRow("LLaVA-OV-7B", "base", ("41.7", "50.4", "45.0", "47.2", "56.6", "84.2")),
        ReportedRow("LLaVA-OV-7B", "block-masked", ("51.3", "51.9", "45.5", "51.0", "55.3", "87.3")),
    ),
)  # fmt: skip

AR = ReportedTable(
    "Attention Remasking (AR), multi-image benchmarks",
    "its Table 1, from an anonymous submission that was withdrawn",
    "Not peer reviewed. Of its 432 numbers by sub-task of MuirBench, 91 are counts of the sub-task's "
    "questions, as many as chance gives. Table 1 and the appendix disagree (MMIU of Qwen2-VL: 27.3, 27.8 and "
    "33.0). VAR and SoFA are its authors' own runs.",
    (Column("MMIU"), Column("MuirBench", MUIRBENCH), Column("MIRB"), Column("LIBench"), Column("MIBench")),
    "",
    tuple(
        ReportedRow(model, setting, tuple(values.split()), note if setting == "base" else "")
        for model, note, settings in (
            (
                "LLaVA-Interleave-7B", "in the appendix: MuirBench base 41.0, MMIU base 33.5 and 32.4",
                ("32.9 30.3 33.9 52.5 51.8", "34.2 32.1 34.3 53.5 52.3", "34.7 33.0 35.0 53.6 52.8",
                 "37.3 35.2 36.4 56.3 55.5"),
            ),
            (
                "Qwen2-VL-7B", "in the appendix: MuirBench base 34.0, MMIU base 33.0 and 27.8",
                ("27.3 39.3 31.1 31.2 38.5", "28.1 40.9 32.2 32.1 39.6", "28.8 41.7 32.8 33.0 40.1",
                 "31.9 44.2 34.7 35.5 42.5"),
            ),
            (
                "Idefics2-8B", "in the appendix: MuirBench base 26.1",
                ("30.4 26.8 33.0 37.0 45.5", "30.3 27.3 33.7 37.1 45.5", "31.0 27.8 33.9 37.7 46.5",
                 "34.1 30.2 35.8 41.3 50.2"),
            ),
            (
                "Mantis-SigCLIP-8B", "in the appendix: MuirBench base 36.1, MMIU base 41.8 and 42.6",
                ("44.3 33.3 36.1 38.3 43.7", "45.4 33.6 37.2 39.2 44.0", "46.0 34.2 37.4 39.6 44.4",
                 "47.1 36.3 38.9 42.4 47.1"),
            ),
        )
        for setting, values in zip(("base", "VAR", "SoFA", "AR"), settings, strict=True)
    ),
)  # fmt: skip

SOFA = ReportedTable(
    "SoFA, multi-image benchmarks",
    "arXiv 2503.13792, by the listing of a third party (wizwand.com)",
    "Second-hand: the listing gives the best number of each benchmark and does not name the model. A number "
    "of MuirBench may be a mean over sub-tasks, which need not be a count.",
    (
        Column("MuirBench", MUIRBENCH), Column("MIRB"), Column("BLINK"), Column("Mantis-Eval", 217),
        Column("NLVR2"), Column("MVBench"),
    ),
    "",
    (ReportedRow("not named", "SoFA", ("57.14", "60.67", "55.92", "59.23", "90.26", "57.71")),),
)  # fmt: skip

TABLES = (MIMIC, MIMIC_OTHERS, AR, SOFA)
