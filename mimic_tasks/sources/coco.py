"""COCO instances JSON, read through pycocotools."""

import contextlib
import hashlib
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mimic_eval.records import UserError
from mimic_tasks.sources.base import ImageRecord, Source


def read_coco(annotations: Path, images: Path, *, name: str | None = None) -> Source:
    """A COCO instances file and the folder its `file_name`s lie in.

    Boxes are clipped to the picture. A crowd region whose record has no box gets the box of its mask.

    Args:
        annotations: `instances_*.json`.
        images: the folder that holds the pictures. No picture is opened here.
        name: the source's label; the annotation file's name without suffix if None.

    Raises:
        UserError: a file or folder is missing, the JSON is not an instances file, or a record refers to
            an unknown image or class; the message names the file and the record.
    """
    if not images.is_dir():
        raise UserError(f"--images {images}: no such folder")
    coco = _load(annotations)
    data: dict[str, Any] = coco.dataset
    records = data["images"]
    categories = data["categories"]
    image_position = _positions(annotations, "image", records)
    class_position = _positions(annotations, "category", categories)
    rows = data["annotations"]
    image_index = np.empty(len(rows), dtype=np.int64)
    class_index = np.empty(len(rows), dtype=np.int64)
    boxes = np.empty((len(rows), 4), dtype=np.float64)
    crowd = np.zeros(len(rows), dtype=bool)
    notes: Counter[str] = Counter()
    for i, row in enumerate(rows):
        where = f"{annotations}: annotation {row.get('id', f'number {i}')}"
        if row.get("image_id") not in image_position:
            raise UserError(f"{where}: image_id {row.get('image_id')} is not among the images")
        if row.get("category_id") not in class_position:
            raise UserError(f"{where}: category_id {row.get('category_id')} is not among the categories")
        image_index[i] = image_position[row["image_id"]]
        class_index[i] = class_position[row["category_id"]]
        crowd[i] = bool(row.get("iscrowd", 0))
        record = records[int(image_index[i])]
        box = _box(coco, row, crowd=bool(crowd[i]), where=where)
        clipped = _clip(box, width=record["width"], height=record["height"])
        notes["boxes clipped to the picture"] += clipped != box
        boxes[i] = clipped
    digest = hashlib.sha256(annotations.read_bytes()).hexdigest()
    return Source(
        name=name or annotations.stem,
        images=tuple(
            ImageRecord(r["id"], images / r["file_name"], int(r["width"]), int(r["height"])) for r in records
        ),
        classes=tuple(str(c["name"]) for c in categories),
        categories=tuple(str(c.get("supercategory", "")) for c in categories),
        image_index=image_index,
        class_index=class_index,
        boxes=boxes,
        crowd=crowd,
        files=((annotations.name, digest),),
        notes=tuple((reason, count) for reason, count in notes.items() if count),
    )


def _load(annotations: Path) -> Any:
    from pycocotools.coco import COCO

    if not annotations.is_file():
        raise UserError(f"--annotations {annotations}: no such file")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            coco = COCO(str(annotations))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{annotations} is not JSON: {error}") from error
    except (AssertionError, KeyError, TypeError) as error:
        raise UserError(f"{annotations} is not a COCO instances file: {error!r}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco.dataset.get(key), list):
            raise UserError(f"{annotations} is not a COCO instances file: it has no list '{key}'")
    for record in coco.dataset["images"]:
        missing = {"id", "file_name", "width", "height"} - set(record)
        if missing:
            raise UserError(f"{annotations}: image {record.get('id')} lacks {', '.join(sorted(missing))}")
        if record["width"] < 1 or record["height"] < 1:
            raise UserError(f"{annotations}: image {record['id']} has no area")
    for record in coco.dataset["categories"]:
        if not str(record.get("name", "")).strip() or "id" not in record:
            raise UserError(f"{annotations}: category {record.get('id')} has no name or no id")
    return coco


def _positions(annotations: Path, kind: str, records: list[dict[str, Any]]) -> dict[Any, int]:
    positions: dict[Any, int] = {}
    for i, record in enumerate(records):
        if record["id"] in positions:
            raise UserError(f"{annotations}: {kind} id {record['id']} occurs twice")
        positions[record["id"]] = i
    return positions


def _box(coco: Any, row: dict[str, Any], *, crowd: bool, where: str) -> tuple[float, float, float, float]:
    box = row.get("bbox")
    if not box and crowd and row.get("segmentation"):
        from pycocotools import mask

        box = mask.toBbox(coco.annToRLE(row)).tolist()
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise UserError(f"{where}: bbox must be four finite numbers, got {box}")
    x, y, width, height = (float(v) for v in box)
    return x, y, width, height


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _clip(
    box: tuple[float, float, float, float], *, width: int, height: int
) -> tuple[float, float, float, float]:
    x, y, w, h = box
    if x >= 0 and y >= 0 and w >= 0 and h >= 0 and x + w <= width and y + h <= height:
        return box
    left, top = min(max(x, 0.0), width), min(max(y, 0.0), height)
    right, bottom = min(max(x + w, left), width), min(max(y + h, top), height)
    return left, top, right - left, bottom - top
