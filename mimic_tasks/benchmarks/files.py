"""MMIU and MIBench in the files that their authors publish: a table of texts, and images in zip archives."""

import json
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from mimic_eval.records import UserError

MIBENCH = ("multi_image_instruction.json", "multimodal_knowledge_seeking.json")
_MMIU_COLUMNS = ("task", "options", "question", "context", "input_image_path", "output")
_MIBENCH_COLUMNS = ("id", "image", "question", "options", "answer", "task")


class NoSuchImage(Exception):
    """An image that is neither in a set's folder nor in its archives."""


def read_mmiu(folder: Path) -> list[dict[str, Any]]:
    """The rows of MMIU's ``all.parquet`` with ``files`` and ``number``.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    import pyarrow.parquet

    file = folder / "all.parquet"
    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({str(error).splitlines()[0]:.160})") from error
    _check(file, table.column_names, _MMIU_COLUMNS)
    rows = table.select(list(_MMIU_COLUMNS)).to_pylist()
    return [
        {**row, "number": str(number), "files": [_relative(name) for name in row["input_image_path"]]}
        for number, row in enumerate(rows)
    ]


def read_mibench(folder: Path) -> list[dict[str, Any]]:
    """The rows of MIBench's two multi-image files with ``files``.

    Raises:
        UserError: a file cannot be read, or is in another form.
    """
    rows = []
    for name in MIBENCH:
        file = folder / name
        try:
            docs = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read ({str(error).splitlines()[0]:.160})") from error
        if not isinstance(docs, list) or not all(isinstance(doc, dict) for doc in docs):
            raise UserError(f"{file} must be a list of docs")
        for doc in docs:
            _check(file, list(doc), _MIBENCH_COLUMNS)
            context = doc.get("context")
            rows.append(
                {
                    **{column: doc[column] for column in _MIBENCH_COLUMNS},
                    "answer": str(doc["answer"]),
                    "context": context if isinstance(context, str) else None,
                    "files": [_relative(one) for one in doc["image"]],
                }
            )
    return rows


def _check(file: Path, columns: list[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in columns]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}; it has {', '.join(columns)}")


def _relative(name: str) -> str:
    """``./Low-level/x.png`` below the set's folder."""
    return str(PurePosixPath(name))


def read_image(folder: Path, name: str) -> bytes:
    """The bytes of an image: from the extracted folder, else from the archive that holds it.

    An archive may hold paths from the set's folder or from a folder of its name.

    Raises:
        NoSuchImage: it is nowhere, or its path leaves the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise NoSuchImage(f"{name} is outside of the set's folder")
    if (folder / path).is_file():
        return (folder / path).read_bytes()
    for archive in sorted(folder.glob("*.zip")):
        names = _archive(archive)
        inside = [name, str(PurePosixPath(*path.parts[1:]))] if path.parts[0] == archive.stem else [name]
        for entry in inside:
            if entry in names.NameToInfo:
                try:
                    return names.read(entry)
                except (zipfile.BadZipFile, OSError, EOFError) as error:
                    raise NoSuchImage(f"{name} in {archive} cannot be read ({error})") from error
    raise NoSuchImage(f"{name} is neither in {folder} nor in an archive there")


@lru_cache(maxsize=16)
def _archive(path: Path) -> zipfile.ZipFile:
    """An archive, opened once: MMIU's have up to 40,000 entries."""
    return zipfile.ZipFile(path)
