"""Reading the docs of a built task folder a few at a time (METHODS 13)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import TASK_KINDS, UserError

_BATCH = 16


def task_files(folder: Path) -> dict[str, Path]:
    """The parquet file of each task that a folder holds, by the task's short name; empty if it has none.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder!s:.200}: no such folder")
    files = {kind: folder / kind / "test.parquet" for kind in TASK_KINDS}
    return {kind: file for kind, file in files.items() if file.is_file()}


def count_docs(file: Path) -> int:
    """The number of docs of a task, from the file's footer.

    Raises:
        UserError: not a parquet file.
    """
    return int(_open(file).metadata.num_rows)


def read_docs(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the docs of a task in order, with these columns only; few are in memory at a time.

    Raises:
        UserError: not a parquet file, or one that lacks a column.
    """
    import pyarrow as pa

    opened = _open(file)
    lacking = [name for name in columns if name not in opened.schema_arrow.names]
    if lacking:
        raise UserError(f"{file}: holds no docs of a task: it has no column {', '.join(lacking)}")
    try:
        for batch in opened.iter_batches(batch_size=_BATCH, columns=list(columns)):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: is not a parquet file that can be read ({error})") from error
