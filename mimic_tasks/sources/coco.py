"""COCO instances JSON, read through pycocotools; every wrong record is refused by its id."""

import contextlib
import hashlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mimic_eval.records import UserError
from mimic_tasks.sources.base import ImageRecord, Source

Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]
_MAX_SIDE = 1_000_000
_INT64 = 2**63
_LONGEST_ID = 200
_MOST_LEAVING = 0.25  # of the boxes; of true ones none leaves its picture by more than a pixel


def read_coco(annotations: Path, images: Path, *, name: str | None = None) -> Source:
    """A COCO instances file and the folder its `file_name`s lie in.

    Boxes are clipped to the picture. A record with ``ignore: 1`` (as in VisDrone) is like a crowd region:
    never a target, and hides its class. A crowd region whose record has no box gets the box of its mask. Ids
    may be integers or texts; numbers written as texts are numbers. Where an image's id is a text, all
    are. Boxes that do not look like x, y, width, height in pixels are named in the source's `warnings`.

    Args:
        annotations: `instances_*.json`.
        images: the folder that holds the pictures. It is not looked at here.
        name: the source's label; the annotation file's name without suffix if None.

    Raises:
        UserError: the file is missing, the JSON is not an instances file, or a record is not in its
            form or refers to an unknown image or class; the message names the file and the record.
    """
    coco = _load(annotations)
    records = [_image(annotations, images, record) for record in coco.dataset["images"]]
    categories = [_category(annotations, record) for record in coco.dataset["categories"]]
    image_position = _positions(annotations, "image", [record.image_id for record in records])
    class_position = _positions(
        annotations, "category", [_id(record["id"]) for record in coco.dataset["categories"]]
    )
    _positions(annotations, "image file", [str(record.path) for record in records])
    rows = coco.dataset["annotations"]
    _positions(annotations, "annotation", [row["id"] for row in rows])
    image_index = np.empty(len(rows), dtype=np.int64)
    class_index = np.empty(len(rows), dtype=np.int64)
    given = np.empty((len(rows), 4), dtype=np.float64)
    crowd = np.zeros(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        where = f"{annotations}: annotation {row.get('id', f'number {i}')}"
        if row.get("iscrowd", 0) not in (0, 1):
            raise UserError(f"{where}: iscrowd must be 0 or 1, got {row['iscrowd']!r}")
        if row.get("ignore") not in (None, 0, 1):
            raise UserError(f"{where}: ignore must be 0 or 1, got {row['ignore']!r}")
        image_index[i] = _among(image_position, row, "image_id", "images", where)
        class_index[i] = _among(class_position, row, "category_id", "categories", where)
        crowd[i] = bool(row.get("iscrowd") or row.get("ignore"))
        given[i] = _box(coco, row, crowd=bool(row.get("iscrowd")), where=where)
    size = np.array([(r.width, r.height) for r in records], dtype=np.float64).reshape(-1, 2)[image_index]
    boxes, clipped = _clipped(given, size)
    warning = _unusual(given, size)
    if any(isinstance(record.image_id, str) for record in records):
        records = [replace(record, image_id=str(record.image_id)) for record in records]
    digest = hashlib.sha256(annotations.read_bytes()).hexdigest()
    return Source(
        name=name or annotations.stem,
        images=tuple(records),
        classes=tuple(category for category, _ in categories),
        categories=tuple(category for _, category in categories),
        image_index=image_index,
        class_index=class_index,
        boxes=boxes,
        crowd=crowd,
        files=((annotations.name, digest),),
        notes=(("boxes clipped to the picture", clipped),) if clipped else (),
        warnings=(f"{annotations}: {warning}",) if warning else (),
    )


def _load(annotations: Path) -> Any:
    from pycocotools.coco import COCO

    if not annotations.is_file():
        raise UserError(f"--annotations {annotations}: no such file")
    try:
        with annotations.open(encoding="utf-8-sig") as file, contextlib.redirect_stdout(io.StringIO()):
            data = json.load(file, object_hook=_without_outline)
            if not isinstance(data, dict):
                raise UserError(f"{annotations} is not a COCO instances file: it holds no mapping")
            coco = COCO()  # given the parsed file: its loading stores all outlines
            coco.dataset = data
            coco.createIndex()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{annotations} is not JSON: {error}") from error
    except (AssertionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{annotations} is not a COCO instances file: a record lacks or misuses {error}"
        ) from error
    for key in ("images", "annotations", "categories"):
        rows = coco.dataset.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{annotations} is not a COCO instances file: it has no list '{key}' of records")
    return coco


def _without_outline(record: dict[str, Any]) -> dict[str, Any]:
    """A record less its segmentation where it has a box: most of a file's memory, and never looked at."""
    if record.get("bbox"):
        record.pop("segmentation", None)
    return record


def _image(annotations: Path, images: Path, record: dict[str, Any]) -> ImageRecord:
    missing = {"id", "file_name", "width", "height"} - set(record)
    where = f"{annotations}: image {record.get('id')}"
    if missing:
        raise UserError(f"{where} lacks {', '.join(sorted(missing))}")
    image_id, file_name = record["id"], record["file_name"]
    image_key = _id(image_id)
    if image_key is None:
        raise UserError(f"{where}: its id must be an integer below 2^63 or a text, got {image_id!r}")
    if not _is_name(file_name):
        raise UserError(f"{where}: file_name must be a name, got {file_name!r}")
    sides = []
    for key in ("width", "height"):
        side = record[key]
        if not _is_number(side) or side != int(side) or not 1 <= side <= _MAX_SIDE:
            raise UserError(f"{where}: {key} must be an integer, in pixels, got {side!r}")
        sides.append(int(side))
    return ImageRecord(image_key, images / file_name, sides[0], sides[1])


def _category(annotations: Path, record: dict[str, Any]) -> tuple[str, str]:
    """Class name and super-category; a record without the latter belongs to none."""
    where = f"{annotations}: category {record.get('id')}"
    if _id(record.get("id")) is None:
        raise UserError(f"{where}: its id must be an integer below 2^63 or a text")
    if not _is_name(record.get("name")):
        raise UserError(f"{where}: its name must be a text, got {record.get('name')!r}")
    category = record.get("supercategory") or ""
    if not isinstance(category, str) or not category.isprintable():
        raise UserError(f"{where}: its supercategory must be a text, got {category!r}")
    return str(record["name"]).strip(), str(category).strip()


def _positions(annotations: Path, kind: str, keys: list[Any]) -> dict[Any, int]:
    positions: dict[Any, int] = {}
    for i, key in enumerate(keys):
        if key in positions:
            raise UserError(f"{annotations}: {kind} {'id ' * isinstance(key, int)}{key} occurs twice")
        positions[key] = i
    return positions


def _box(coco: Any, row: dict[str, Any], *, crowd: bool, where: str) -> Box:
    box = row.get("bbox")
    if not box and crowd and row.get("segmentation"):
        from pycocotools import mask

        try:
            box = mask.toBbox(coco.annToRLE(row)).tolist()
        except Exception as error:  # pycocotools raises bare Exceptions too
            raise UserError(f"{where}: it has no bbox, and its segmentation is no mask") from error
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise UserError(f"{where}: bbox must be four finite numbers, got {box}")
    x, y, width, height = (float(v) for v in box)
    return x, y, width, height


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e15 and math.isfinite(value)


def _id(value: object) -> int | str | None:
    """An id as a key: an integer (also from a text or 7.0), else a text, or None if it is neither."""
    if isinstance(value, str):
        text = value.strip()
        if not text.isprintable() or len(text) > _LONGEST_ID:
            return None
        return int(text) if text.isdecimal() and text == str(int(text)) else text or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INT64 else None


def _among(positions: dict[Any, int], row: dict[str, Any], key: str, among: str, where: str) -> int:
    index = positions.get(_id(row.get(key)))
    if index is None:
        raise UserError(f"{where}: {key} {row.get(key)} is not among the {among}")
    return index


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _clipped(given: Floats, size: Floats) -> tuple[Floats, int]:
    """The boxes clipped to their pictures, and how many had to be."""
    inside = np.concatenate([given >= 0, given[:, :2] + given[:, 2:] <= size], axis=1).all(axis=1)
    low = given[:, :2].clip(0, size)
    high = np.minimum(np.maximum(given[:, :2] + given[:, 2:], low), size)
    boxes = np.where(inside.reshape(-1, 1), given, np.concatenate([low, high - low], axis=1))
    return boxes, int((boxes != given).any(axis=1).sum())


def _unusual(given: Floats, size: Floats) -> str | None:
    """What makes boxes look like something else than x, y, width, height in pixels."""
    if not len(given):
        return None
    form = "bbox must be x, y, width, height in pixels"
    if (np.abs(given) <= 1).all() and (size > 2).all():
        return f"all {len(given)} boxes lie within 0-1, as parts of the picture: {form}"
    leaving = int((given[:, :2] + given[:, 2:] > size + 1).any(axis=1).sum())
    if leaving <= _MOST_LEAVING * len(given):
        return None
    corners = ((given[:, 2:] >= given[:, :2]) & (given[:, 2:] <= size + 1)).all()
    looks = " and all fit as x1, y1, x2, y2" if corners else ""
    return f"{leaving} of {len(given)} boxes leave their picture{looks}: {form}"
