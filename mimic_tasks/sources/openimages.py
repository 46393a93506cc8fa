"""OpenImages v7 boxes in their official files, read column by column; the first wrong line is named."""

import contextlib
import csv
import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mimic_eval.records import UserError
from mimic_tasks.images import header_size
from mimic_tasks.sources.base import ImageRecord, Source

_CORNERS = ("XMin", "XMax", "YMin", "YMax")
_FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", *_CORNERS, *_FLAGS)
_TOLERANCE = 1e-6

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_Node = tuple[Any, tuple[str, ...], str]  # a record, its ancestors, the one below the root


class _Boxes(NamedTuple):
    """The boxes CSV as columns over A boxes; ids and MIDs sorted, boxes refer to them by position."""

    ids: list[str]
    mids: list[str]
    image: Ints
    label: Ints
    corners: Floats  # (A, 4): XMin, XMax, YMin, YMax as written
    crowd: Mask  # (A, 2): group-of, depiction


class _Hierarchy(NamedTuple):
    top: dict[str, str]  # the ancestor one level below the root, or the MID itself
    ancestors: dict[str, set[str]]  # reached through Subcategory alone


def read_openimages(
    boxes: Path,
    images: Path,
    *,
    classes: Path,
    hierarchy: Path | None = None,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    name: str | None = None,
) -> Source:
    """OpenImages boxes and the folder with the pictures, which lie as `<images>/<ImageID>.jpg`.

    - **Group-of and depiction boxes** (flag 1, or -1 = unknown) are `crowd`: they hide their class in their
      image and are never counted. The confidence is not looked at.
    - **Classes with subclasses.** A dog's box says Dog alone, but another box may say Animal and show a dog
      too. So the source's `ancestors` say which class is a kind of which, and the pool hides: an Animal box
      hides Dog in its image (one may be there), a Dog box hides Animal (one is there, and not boxed). The
      annotations are the file's boxes and no more. Only `Subcategory` makes subclasses; a `Part` is no kind
      of the object.
    - **Categories.** A class's super-category is the display name of its ancestor one level below the root,
      reached through `Subcategory` (`Part` where there is no other way), by the shortest path, the first in
      the file among equals. A class on that level or outside the hierarchy has the category "".

    Images come in the order of their ids (texts), the file's classes in that of their MIDs. A picture that
    is missing or has no readable header is left out with its boxes and counted in `notes`.

    Args:
        boxes: the boxes CSV with its official header; further columns are ignored.
        images: the folder that holds the pictures.
        classes: CSV of `LabelName,DisplayName`, with or without that header line.
        hierarchy: `bbox_labels_600_hierarchy.json`, or None: no categories then, and no class hides another.
        image_sizes: (width, height) in pixels of images that are not opened here.
        name: the source's label; the boxes file's name without suffix if None.

    Raises:
        UserError: a file is missing, empty or wrong (the message names the line), or no picture can be read.
    """
    files = [file for file in (boxes, classes, hierarchy) if file is not None]
    for path in (images, *files):
        if not (path.is_dir() if path is images else path.is_file()):
            raise UserError(f"{path}: no such {'folder' if path is images else 'file'}")
    described = _read_classes(classes)
    known = _read_hierarchy(hierarchy) if hierarchy else _Hierarchy({}, {})
    read = _read_boxes(boxes, described)
    _check_names(read.mids, described, classes)
    records = _records(read.ids, images, image_sizes or {})
    readable = np.array([record is not None for record in records])
    missing = [f"{key}.jpg" for key, record in zip(read.ids, records, strict=True) if record is None]
    names = f"{', '.join(missing[:3])}{', ...' * (len(missing) > 3)}"
    lacking = f"are not in {images} or cannot be read"
    if not readable.any():
        raise UserError(
            f"0 of {len(missing)} pictures of {boxes} are in {images}, as <ImageID>.jpg that can be read "
            f"(not {names}): give the folder with --images"
        )
    usable = readable[read.image]
    image, label, crowd = (
        (np.cumsum(readable) - 1)[read.image[usable]],
        read.label[usable],
        read.crowd[usable],
    )
    size = np.array([(r.width, r.height) for r in records if r], dtype=np.float64)[image]
    pixels, clipped = _pixels(read.corners[usable], size)
    notes = {
        "pictures missing or unreadable": int((~readable).sum()),
        "boxes of pictures missing or unreadable": int((~usable).sum()),
        "boxes clipped to the picture": clipped,
        "group-of boxes taken as crowds": int(crowd[:, 0].sum()),
        "depiction boxes taken as crowds": int(crowd[:, 1].sum()),
    }
    return Source(
        name=name or boxes.stem,
        images=tuple(record for record in records if record),
        classes=tuple(described[mid] for mid in read.mids),
        categories=tuple(_category(mid, known, described, hierarchy) for mid in read.mids),
        image_index=image,
        class_index=label,
        boxes=pixels,
        crowd=crowd.any(axis=1),
        files=tuple((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files),
        notes=tuple((reason, count) for reason, count in notes.items() if count),
        ancestors=_ancestors(read.mids, known, described),
        warnings=(f"{len(missing)} of {len(records)} pictures of {boxes} {lacking}: {names}",)
        * bool(missing),
        labelled=((int(readable.sum()), frozenset(described.values())),),
    )


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Each line that is not blank, with its number."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            yield from ((reader.line_num, row) for row in reader if row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a CSV file in UTF-8: {error}") from error


def _read_classes(file: Path) -> dict[str, str]:
    """MID: display name."""
    described: dict[str, str] = {}
    for line, row in _rows(file):
        if len(row) != 2 or not all(cell.strip() and cell.isprintable() for cell in row):
            raise UserError(f"{file}, line {line}: it must be LabelName,DisplayName, got {row!r:.80}")
        mid, name = row[0].strip(), row[1].strip()
        if mid != "LabelName" and described.setdefault(mid, name) != name:
            raise UserError(f"{file}, line {line}: {mid} is '{name}' here and '{described[mid]}' before")
    if not described:
        raise UserError(f"{file} is empty: it describes no class")
    return described


def _read_hierarchy(file: Path) -> _Hierarchy:
    """Breadth first, so that the shortest path gives the category; parts only after all subclasses."""
    try:
        root = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    result = _Hierarchy({}, {})
    kinds, parts = deque[_Node]([(root, (), "")]), deque[_Node]()
    while kinds or parts:
        node, ancestors, top = (kinds or parts).popleft()
        mid = node.get("LabelName") if isinstance(node, dict) else None
        below = [node.get(key, []) for key in ("Subcategory", "Part")] if isinstance(mid, str) else []
        if not isinstance(mid, str) or not all(isinstance(nodes, list) for nodes in below):
            raise UserError(f"{file} is no hierarchy: {node!r:.80} is not a LabelName with lists below it")
        top = top or (mid if node is not root else "")
        result.top.setdefault(mid, top or mid)
        result.ancestors.setdefault(mid, set()).update(ancestors)
        kinds.extend((child, (*ancestors, mid), top) for child in below[0])
        parts.extend((child, (), top) for child in below[1])
    return result


def _read_boxes(file: Path, described: Mapping[str, str]) -> _Boxes:
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    _check_header(file)
    types = dict.fromkeys(("ImageID", "LabelName"), pa.string())
    types |= dict.fromkeys(_CORNERS, pa.float64()) | dict.fromkeys(_FLAGS, pa.int8())
    convert = pa_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[])
    try:
        table = pa_csv.read_csv(file, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise _first_wrong(file, described, str(error)) from error
    ids, image = _codes(table["ImageID"])
    mids, label = _codes(table["LabelName"])
    corners = np.stack([table[key].to_numpy() for key in _CORNERS], axis=1)
    flags = np.stack([table[key].to_numpy() for key in _FLAGS], axis=1)
    good = ((corners >= -_TOLERANCE) & (corners <= 1 + _TOLERANCE)).all()
    good &= (corners[:, 0] <= corners[:, 1]).all() and (corners[:, 2] <= corners[:, 3]).all()
    good &= ((flags >= -1) & (flags <= 1)).all()
    if not (good and all(_is_file_name(key) for key in ids) and all(mid in described for mid in mids)):
        raise _first_wrong(file, described, "a record is not in its form")
    return _Boxes(ids, mids, image, label, corners, crowd=flags[:, 2:4] != 0)


def _check_header(file: Path) -> None:
    rows = _rows(file)
    line, header = next(rows, (0, [""]))
    if next(rows, None) is None:
        raise UserError(f"{file} is empty: it holds no box")
    for wrong, count in (("lacks", 0), ("has twice", 2)):
        columns = [key for key in _COLUMNS if header.count(key) == count]
        if columns:
            raise UserError(f"{file}, line {line}: the header {wrong} {', '.join(columns)}")


def _codes(column: Any) -> tuple[list[str], Ints]:
    """The distinct texts of a column, sorted, and each row's position among them."""
    encoded = column.dictionary_encode().combine_chunks()
    values: list[str] = encoded.dictionary.to_pylist()
    rank = np.argsort(sorted(range(len(values)), key=values.__getitem__))
    return sorted(values), rank[encoded.indices.to_numpy()]


def _first_wrong(file: Path, described: Mapping[str, str], cause: str) -> UserError:
    """What is wrong where: the file read again, line by line, once it is known to be wrong."""
    rows = _rows(file)
    _, header = next(rows)
    reasons = ((line, _wrong(row, header, described)) for line, row in rows)
    return UserError(
        next((f"{file}, line {line}: {why}" for line, why in reasons if why), f"{file}: {cause}")
    )


def _wrong(row: list[str], header: list[str], described: Mapping[str, str]) -> str | None:
    """What is wrong with a line, or None."""
    if len(row) != len(header):
        return f"it has {len(row)} columns, the header {len(header)}"
    record = dict(zip(header, row, strict=True))
    if not _is_file_name(record["ImageID"]):
        return f"ImageID must be the name of a picture, got {record['ImageID']!r:.80}"
    if record["LabelName"] not in described:
        return f"{record['LabelName']!r:.80} has no description among the classes"
    for key in _CORNERS:
        if not -_TOLERANCE <= _number(record[key]) <= 1 + _TOLERANCE:
            return f"{key} must be a number within 0-1, got {record[key]!r:.80}"
    for low, high in (_CORNERS[:2], _CORNERS[2:]):
        if _number(record[high]) < _number(record[low]):
            return f"{high} {record[high]} is below {low} {record[low]}"
    for key in _FLAGS:
        if record[key].strip() not in ("-1", "0", "1"):
            return f"{key} must be -1, 0 or 1, got {record[key]!r:.80}"
    return None


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text)
    return float("nan")


def _is_file_name(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and not set(text) & set("/\\")


def _records(ids: list[str], images: Path, sizes: Mapping[str, tuple[int, int]]) -> list[ImageRecord | None]:
    """The record of each image id, None where the picture's size cannot be read."""
    paths = [images / f"{key}.jpg" for key in ids]
    result = [sizes.get(key) or header_size(path) for key, path in zip(ids, paths, strict=True)]
    return [
        ImageRecord(*row[:2], *row[2]) if row[2] else None for row in zip(ids, paths, result, strict=True)
    ]


def _pixels(corners: Floats, size: Floats) -> tuple[Floats, int]:
    """x, y, width, height in pixels, and how many boxes had to be clipped."""
    inside = corners.clip(0, 1)
    left, right, top, bottom = (inside * size[:, [0, 0, 1, 1]]).T
    pixels = np.stack([left, top, right - left, bottom - top], axis=1)
    return pixels, int((inside != corners).any(axis=1).sum())


def _ancestors(
    mids: Sequence[str], known: _Hierarchy, described: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """The names of what each class is a kind of; a name means the file's class of that name if it has one."""
    owner = {described[mid]: mid for mid in mids}
    above = {mid: {a for a in known.ancestors.get(mid, ()) if a in described and a != mid} for mid in mids}
    return {
        described[mid]: frozenset(described[a] for a in kinds if owner.get(described[a], a) == a)
        for mid, kinds in above.items()
        if kinds
    }


def _check_names(mids: Sequence[str], described: Mapping[str, str], file: Path) -> None:
    first = {described[mid]: mid for mid in reversed(mids)}
    for mid in mids:
        if first[described[mid]] != mid:
            raise UserError(f"{file}: '{described[mid]}' describes both {first[described[mid]]} and {mid}")


def _category(mid: str, known: _Hierarchy, described: Mapping[str, str], file: Path | None) -> str:
    top = known.top.get(mid, mid)
    if top not in described:
        raise UserError(f"{file}: {top}, above {mid}, has no description among the classes")
    return described[top] if top != mid else ""
