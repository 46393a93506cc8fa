"""The doc's schema (METHODS 13) and its content hash."""

import hashlib
import json
from collections.abc import Sequence
from typing import TypedDict

TASK_KINDS = ("counting", "listing", "common", "oddone")
"""The four tasks of MIMIC, by the short names used in paths, columns and task names."""

OFFICIAL_COLUMNS = ("images", "question", "gt", "task", "idx", "id")
"""Columns of the official release (METHODS 2.1)."""

CONTROL_COLUMNS = (
    "targets",
    "category",
    "image_ids",
    "n_images",
    "k",
    "spread",
    "distractors",
    "split",
    "cell",
    "source",
)
"""Columns about the construction of a doc; they are copied into the samples file."""

DOC_COLUMNS = (*OFFICIAL_COLUMNS, *CONTROL_COLUMNS, "boxes", "content_hash")
"""Columns of a built doc, in file order (METHODS 13)."""


Box = TypedDict(
    "Box",
    {
        "class": str,
        "x": float,
        "y": float,
        "width": float,
        "height": float,
        "target": bool,
        "small": bool,
        "crowd": bool,
    },
)
"""One annotated object, in pixels of the stored image (x, y: top left corner).

`small`: the box covers less than 5 % of the image. `crowd`: a crowd region, not one object.
"""


def content_hash(*, kind: str, question: str, gt: str, image_hashes: Sequence[str]) -> str:
    """A hash of the query of a doc: the same question over the same image bytes in the same order.

    Runs are aligned on it, because upstream's `doc_hash` is the same for every doc (LMMS_EVAL, Outputs).

    Args:
        kind: one of `TASK_KINDS`.
        question: the question as stored.
        gt: the ground truth as stored.
        image_hashes: SHA-256 (hex) of each image's bytes, in the order of the prompt.

    Returns:
        64 hexadecimal digits.
    """
    record = json.dumps([kind, question, gt, list(image_hashes)], ensure_ascii=False)
    return hashlib.sha256(record.encode()).hexdigest()
