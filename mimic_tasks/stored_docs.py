"""Reading the docs of a built task folder a few at a time (METHODS 13)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import TASK_KINDS, UserError

_BATCH = 16


def task_kind(name: str) -> str | None:
    """Which of the four tasks a task like ``counting_spread`` is; None if it is none."""
    first = name.split("_")[0]
    return first if first in TASK_KINDS else None


def task_files(folder: Path) -> dict[str, Path]:
    """The parquet file of each task that a folder holds, by the task's name; empty if it has none.

    Names are the short ones: ``counting``, or ``counting_spread`` of a sweep.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder!s:.200}: no such folder")
    found = {file.parent.name: file for file in folder.glob("*/test.parquet") if file.is_file()}
    names = [name for name in found if task_kind(name)]
    return {name: found[name] for name in sorted(names, key=lambda n: (TASK_KINDS.index(n.split("_")[0]), n))}


def count_docs(file: Path) -> int:
    """The number of docs of a task, from the file's footer.

    Raises:
        UserError: not a parquet file.
    """
    return int(_open(file).metadata.num_rows)


def names_pictures(file: Path) -> bool:
    """Whether the docs name their pictures (`image_files`) instead of holding them (`images`).

    Raises:
        UserError: not a parquet file.
    """
    return "image_files" in _open(file).schema_arrow.names


def read_docs(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the docs of a task in order, with these columns only; few are in memory at a time.

    `images` is a list of mappings with `bytes` and `path` in either form of storage; the bytes of a named
    picture that is missing are None.

    Raises:
        UserError: not a parquet file, or one that lacks a column.
    """
    import pyarrow as pa

    opened = _open(file)
    stored = opened.schema_arrow.names
    named = "images" in columns and "images" not in stored and "image_files" in stored
    wanted = [name for name in columns if name != "images"] if named else list(columns)
    if named and "image_files" not in wanted:
        wanted.append("image_files")
    lacking = [name for name in wanted if name not in stored]
    if lacking:
        raise UserError(f"{file}: holds no docs of a task: it has no column {', '.join(lacking)}")
    try:
        for batch in opened.iter_batches(batch_size=_BATCH, columns=wanted):
            for doc in batch.to_pylist():
                if named:
                    doc["images"] = [_named(file.parent.parent / name) for name in doc["image_files"] or ()]
                yield doc
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error


def _named(path: Path) -> dict[str, Any]:
    return {"bytes": path.read_bytes() if path.is_file() else None, "path": path.name}


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: is not a parquet file that can be read ({error})") from error
