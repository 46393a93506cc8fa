"""A diagnosed run on the disk: one file a doc while it goes on, tables at its end."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from model_adapters.diagnostics.groups import key_groups, row_groups
from model_adapters.diagnostics.measures import DocRecord, Measured, measured

DOCS = "docs"
"""The folder of docs that are done, while the run goes on."""

TABLES = ("diagnose", "entropy", "sinks", "measures")
"""The parquet files."""

_ARRAYS = ("mass", "rows", "entropy", "entropy_rows", "tokens_of")
_MAYBE = ("targets", "sinks", "recurrence")
_FACTS = ("task", "doc", "content_hash", "key", "answer", "layers", "boxes")


def doc_path(folder: Path, task: str, doc: int) -> Path:
    """Where the record of a doc is."""
    return folder / DOCS / f"{task}-{doc:06d}.npz"


def write_doc(folder: Path, record: DocRecord) -> None:
    """Store a doc, atomically."""
    arrays = {name: getattr(record, name) for name in _ARRAYS}
    arrays |= {name: getattr(record, name) for name in _MAYBE if getattr(record, name) is not None}
    facts = json.dumps({name: getattr(record, name) for name in _FACTS})
    out = io.BytesIO()
    np.savez_compressed(out, facts=np.array(facts), **arrays)
    write_atomically(doc_path(folder, record.task, record.doc), out.getvalue())


def read_doc(path: Path) -> DocRecord:
    """A stored doc.

    Raises:
        UserError: the file is damaged.
    """
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            arrays = {name: file[name] for name in _ARRAYS}
            arrays |= {name: file.get(name) for name in _MAYBE}
        return DocRecord(**{**facts, "layers": tuple(facts["layers"])}, **arrays)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and run the same command again") from error


def write_tables(folder: Path, docs: Sequence[tuple[str, int]]) -> None:
    """The tables of all docs; each file appears complete, with a row group for each doc.

    Args:
        folder: of the run.
        docs: task and number, in order.
    """
    import pyarrow.parquet as pq

    writers: dict[str, Any] = {}
    partial = {name: folder / f".{name}.parquet.partial" for name in TABLES}
    try:
        for task, number in docs:
            record = read_doc(doc_path(folder, task, number))
            for name, table in _tables(record).items():
                if name not in writers:
                    writers[name] = pq.ParquetWriter(partial[name], table.schema)
                writers[name].write_table(table)
    finally:
        for writer in writers.values():
            writer.close()
    for name in writers:
        partial[name].replace(folder / f"{name}.parquet")


def _tables(record: DocRecord) -> dict[str, Any]:
    import pyarrow as pa

    def table(rows: int, columns: Mapping[str, tuple[Any, Any]]) -> Any:
        arrays: dict[str, Any] = {
            "task": pa.repeat(record.task, rows).dictionary_encode(),
            "doc": pa.repeat(pa.scalar(record.doc, pa.int32()), rows),
        }
        for name, (values, kind) in columns.items():
            made = pa.array(values, type=pa.string() if kind == "text" else kind)
            arrays[name] = made.dictionary_encode() if kind == "text" else made
        return pa.table(arrays)

    rows, keys = row_groups(record.images), key_groups(record.images)
    at = np.nonzero(record.mass)
    layer, head, q, g = at

    def of(groups: Sequence[Any], which: Any, field: str, kind: Any) -> tuple[Any, Any]:
        values = np.array([getattr(group, field) for group in groups], dtype=object)
        return values[which], kind

    boxes = [key if record.boxes else key._replace(inside=None) for key in keys]
    boxes = [key if record.sinks is not None else key._replace(sink=None) for key in boxes]
    tables = {
        "diagnose": table(
            len(layer),
            {
                "layer": (layer, pa.int16()),
                "head": (head, pa.int16()),
                "query": of(rows, q, "name", "text"),
                "query_image": of(rows, q, "image", pa.int16()),
                "key": of(keys, g, "name", "text"),
                "key_image": of(keys, g, "image", pa.int16()),
                "key_sink": of(boxes, g, "sink", pa.bool_()),
                "key_in_box": of(boxes, g, "inside", pa.bool_()),
                "rows": (record.rows[q], pa.int32()),
                "mass": (record.mass[at], pa.float64()),
            },
        )
    }
    layer, q = (x.flatten() for x in np.indices(record.entropy.shape))
    tables["entropy"] = table(
        len(layer),
        {
            "layer": (layer, pa.int16()),
            "query": of(rows, q, "name", "text"),
            "query_image": of(rows, q, "image", pa.int16()),
            "rows": (record.rows[q], pa.int32()),
            "rows_with_visual_mass": (record.entropy_rows.flatten(), pa.int32()),
            "entropy_sum": (record.entropy.flatten(), pa.float64()),
        },
    )
    sinks = np.zeros((0, 5)) if record.sinks is None else record.sinks
    names = {"layer": pa.int16(), "image": pa.int16(), "token": pa.int32()}
    tables["sinks"] = table(
        len(sinks),
        {
            **{name: (sinks[:, i].astype(int), kind) for i, (name, kind) in enumerate(names.items())},
            "x": (sinks[:, 3], pa.float64()),
            "y": (sinks[:, 4], pa.float64()),
        },
    )
    values = list(measured(record))
    kinds: tuple[Any, ...] = ("text", pa.int16(), pa.int16(), "text", pa.float64())
    tables["measures"] = table(
        len(values),
        {
            "content_hash": ([record.content_hash] * len(values), "text"),
            "n_images": ([record.images] * len(values), pa.int16()),
            **{
                name: ([value[i] for value in values], kind)
                for i, (name, kind) in enumerate(zip(Measured._fields, kinds, strict=True))
            },
        },
    )
    return tables


def finished_docs(folder: Path) -> Iterator[Path]:
    """The files of docs that are done."""
    yield from sorted((folder / DOCS).glob("*.npz"))
