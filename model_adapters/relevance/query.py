"""What a source of relevance may know of a doc."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mimic_eval.records import TASKS, Box, UserError, without_marks
from model_adapters.picture import Picture, as_pictures


@dataclass(frozen=True, eq=False)
class Query:
    """A doc's question and pictures, and its columns where it has them (METHODS 13).

    Attributes:
        name: for messages ("mimic_counting doc 3").
        question: bare, without the frame around it and without marks for images.
        pictures: in the order of the prompt.
        content_hash: of the doc; seeds what is drawn for it.
        kind: one of `TASKS`; None for a doc of another benchmark or without the columns of ours.
        targets: Counting: the queried classes; else the answer, which no outside model gets.
        category: Listing's.
        boxes: the annotated objects of each image in the order of `images`, in its pixels, or None.
    """

    name: str
    question: str
    pictures: tuple[Picture, ...]
    content_hash: str = ""
    kind: str | None = None
    targets: tuple[str, ...] = ()
    category: str | None = None
    boxes: tuple[tuple[Box, ...], ...] | None = None

    @classmethod
    def of_doc(
        cls,
        doc: Mapping[str, Any],
        images: Sequence[Image.Image | Picture],
        *,
        name: str,
        order: Sequence[int] | None = None,
        question: str | None = None,
    ) -> "Query":
        """Read a doc's columns.

        Args:
            doc: the doc, of our tasks or of any other benchmark.
            images: RGB, in the order of the prompt.
            name: for messages.
            order: the doc's image at each position (`image_order`), or None for the doc's order.
            question: the bare question, for a doc without a `question` column.

        Raises:
            UserError: no question, or boxes for another number of images.
        """
        text = doc.get("question") if question is None else question
        text = without_marks(text) if isinstance(text, str) else text
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{name} has no column 'question': relevance needs the bare question")
        kind = str(doc.get("task") or "").split("_")[0]
        ours = kind in TASKS and isinstance(doc.get("targets"), (list, tuple))
        boxes = doc.get("boxes") if ours else None
        if boxes is not None:
            if len(boxes) != len(images):
                raise UserError(f"{name} has boxes for {len(boxes)} images, but shows {len(images)}")
            boxes = tuple(tuple(boxes[i]) for i in (range(len(images)) if order is None else order))
        return cls(
            name=name,
            question=text,
            pictures=as_pictures(images),
            content_hash=str(doc.get("content_hash") or hashlib.sha256(name.encode()).hexdigest()),
            kind=kind if ours else None,
            targets=tuple(doc["targets"]) if ours else (),
            category=doc.get("category") if ours else None,
            boxes=boxes,
        )

    def columns(self) -> dict[str, Any]:
        """All that relevance depends on beside the pictures, JSON-able."""
        return {
            "question": self.question,
            "content_hash": self.content_hash,
            "kind": self.kind,
            "targets": self.targets,
            "category": self.category,
            "boxes": self.boxes,
        }

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """RGB, in the order of the prompt."""
        return tuple(picture.image for picture in self.pictures)

    @property
    def image_hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's size and RGB pixels."""
        return tuple(picture.sha256 for picture in self.pictures)


def oracle_boxes(query: Query) -> list[Tensor]:
    """The annotated boxes that the question is about (METHODS 7).

    Counting: of the queried classes. Listing: of the category. Common, Odd-One: all, so that the answer is
    not given away.

    Returns:
        One float64 (n, 4) for each image: x0, y0, x1, y1, normalised and cut at the image's edges.

    Raises:
        UserError: the doc has no boxes.
    """
    if query.boxes is None or query.kind is None:
        raise UserError(
            f"relevance=oracle: {query.name} has no columns 'boxes' and 'targets' of a MIMIC task; choose "
            "another relevance"
        )
    kind = TASKS.get(query.kind)
    relevant = [kind.relevant_boxes(boxes, query.targets) for boxes in query.boxes]
    return _normalised(query, relevant, "relevance=oracle: ")


def target_boxes(query: Query) -> list[Tensor] | None:
    """The boxes of the target classes, which are the truth (METHODS 8); None for a doc without boxes.

    Returns:
        As `oracle_boxes`.
    """
    if query.boxes is None:
        return None
    return _normalised(query, [[box for box in boxes if box["target"]] for boxes in query.boxes], "")


def _normalised(query: Query, boxes_of_images: Sequence[Sequence[Box]], where: str) -> list[Tensor]:
    """Boxes in pixels as float64 (n, 4) for each image, normalised and cut at its edges.

    Raises:
        UserError: a box that is none; the message begins with `where`.
    """
    normalised = []
    for image, boxes in zip(query.images, boxes_of_images, strict=True):
        for box in boxes:
            sides = [box["x"], box["y"], box["width"], box["height"]]
            if not all(isinstance(side, int | float) and math.isfinite(side) for side in sides) or (
                min(sides[2:]) <= 0
            ):
                raise UserError(f"{where}{query.name} has a box of {box['class']} at {sides}")
        corners = [(b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for b in boxes]
        pixels = torch.tensor(corners, dtype=torch.float64).reshape(-1, 4)
        normalised.append((pixels / torch.tensor([image.width, image.height] * 2)).clamp(0, 1))
    return normalised
