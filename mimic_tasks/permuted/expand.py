"""From a task's docs to one row for each doc and order, without copying a picture."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import content_hash, positional_of
from mimic_tasks.permuted.orders import Orders

_BY_IMAGE = ("image_ids", "boxes", "image_files")
"""Columns with an entry for each image: they follow the order. `images` stays as stored."""


def expand(dataset: Any, orders: Orders) -> Any:
    """One row for each doc and order: all of the first doc's, then all of the second's.

    Every column is as in a plain doc whose images are in that order, `content_hash` and a positional `gt`
    too, but for `images`, which stays as stored, since its bytes are shared between the rows of a doc:
    whoever shows the images applies `order` to them. `ORDER_COLUMNS` are added.

    Args:
        dataset: a `datasets.Dataset` of docs, pictures not decoded.
        orders: the rule.

    Raises:
        UserError: a doc has too many images for the rule.
    """
    import pyarrow as pa

    table = table_of(dataset)
    added: dict[str, list[Any]] = {name: [] for name in (*TYPES, "gt", "content_hash")}
    for number, doc in enumerate(dataset):
        digests = _digests(doc)
        doc_orders = orders.of(base_hash=doc["content_hash"], n=len(digests))
        positional = positional_of(_kind(doc))
        for index, order in enumerate(doc_orders):
            gt = doc["gt"] if positional is None else positional.in_order(doc["gt"], order)
            row = {
                "base_doc_id": number,
                "base_hash": doc["content_hash"],
                "order": list(order),
                "order_index": index,
                "n_orders": len(doc_orders),
                "orders": orders.rule,
                "order_seed": orders.seed,
                "gt": gt,
                "content_hash": _hash({**doc, "gt": gt}, digests, order),
            }
            for name, value in row.items():
                added[name].append(value)
    rows, row_orders = added["base_doc_id"], added["order"]
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if name == "images":
            columns[name] = repeated(column, rows)
        elif name in _BY_IMAGE and not column.null_count:
            columns[name] = _follow(column, rows, row_orders)
        elif name in ("gt", "content_hash"):
            columns[name] = pa.array(added[name], column.type)
        else:
            columns[name] = column.take(pa.array(rows, pa.int64()))
    return with_columns(dataset, columns, {name: added[name] for name in TYPES}, TYPES, key=orders)


def table_of(dataset: Any) -> Any:
    """The Arrow table of a `datasets.Dataset`, its rows in the dataset's order."""
    return dataset.flatten_indices().data.table if dataset._indices is not None else dataset.data.table


def repeated(column: Any, rows: Sequence[int]) -> Any:
    """A column's rows, any of them several times; their bytes are shared.

    Args:
        column: a `pyarrow.ChunkedArray`.
        rows: from 0.
    """
    import pyarrow as pa

    return pa.chunked_array([piece for i in rows for piece in column.slice(i, 1).chunks], column.type)


def with_columns(
    dataset: Any,
    columns: Mapping[str, Any],
    added: Mapping[str, Sequence[Any]],
    types: Mapping[str, str],
    *,
    key: object,
) -> Any:
    """A dataset of Arrow columns and further ones.

    Args:
        dataset: the `datasets.Dataset` that `columns` are from.
        columns: all of its columns, with other rows.
        added: the values of further columns.
        types: of each of these: a type of `datasets.Value`, or ``list TYPE``.
        key: what the rows and the added columns were made from; its text is part of the fingerprint.
    """
    import datasets
    import pyarrow as pa
    from datasets.table import InMemoryTable

    features, table = dict(dataset.features), dict(columns)
    for name, kind in types.items():
        value = datasets.Value(kind.removeprefix("list "))
        features[name] = datasets.List(value) if kind.startswith("list ") else value
        table[name] = pa.array(added[name], datasets.Features({name: features[name]}).arrow_schema.types[0])
    mark = hashlib.sha256(f"{dataset._fingerprint}/{key}".encode()).hexdigest()[:16]
    return datasets.Dataset(
        InMemoryTable(pa.table(table)),
        info=datasets.DatasetInfo(features=datasets.Features(features)),
        split=dataset.split,
        fingerprint=mark,
    )


TYPES = {
    "base_doc_id": "int64",
    "base_hash": "string",
    "order": "list int64",
    "order_index": "int64",
    "n_orders": "int64",
    "orders": "string",
    "order_seed": "int64",
}
"""Of the columns that say in which order a row shows its doc's images."""


def _digests(doc: Mapping[str, Any]) -> list[str]:
    """SHA-256 of each picture's bytes; a picture that is named is called by it."""
    if "images" not in doc:
        return [Path(name).stem for name in doc["image_files"]]
    return [hashlib.sha256(image.get("bytes") or b"").hexdigest() for image in doc["images"]]


def _hash(doc: Mapping[str, Any], digests: Sequence[str], order: Sequence[int]) -> str:
    """The content hash of a doc with its images in that order; as they are, the stored one."""
    if list(order) == sorted(order):
        return str(doc["content_hash"])
    hashes = [digests[i] for i in order]
    return content_hash(kind=_kind(doc), question=doc["question"], gt=str(doc["gt"]), image_hashes=hashes)


def _kind(doc: Mapping[str, Any]) -> str:
    return str(doc.get("task") or "").split("_")[0]


def _follow(column: Any, rows: Sequence[int], orders: Sequence[Sequence[int]]) -> Any:
    """A column of lists, its rows repeated and each list in the row's order.

    A list that has not an entry for each image (the sources of a stitched one) stays as it is.
    """
    import pyarrow as pa

    lists = pa.concat_arrays(column.chunks)
    starts = lists.offsets.to_pylist()
    indices: list[int] = []
    offsets = [0]
    for row, order in zip(rows, orders, strict=True):
        length = starts[row + 1] - starts[row]
        indices += [starts[row] + i for i in (order if length == len(order) else range(length))]
        offsets.append(len(indices))
    taken = lists.values.take(pa.array(indices, pa.int64()))
    kind = pa.LargeListArray if pa.types.is_large_list(column.type) else pa.ListArray
    return kind.from_arrays(pa.array(offsets, lists.offsets.type), taken).cast(column.type)
