"""From a task's messages to what a model gets: pictures in their order, placeholders and text."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic_eval.records import UserError, image_order, is_positional
from model_adapters.image_marks import NO_MARKS, MarkCounts
from model_adapters.picture import Picture
from model_adapters.relevance.query import Query


@dataclass(frozen=True, eq=False)
class DocPrompt:
    """A doc as a model gets it.

    Attributes:
        name: for messages ("mimic_counting doc 3").
        prompt: chat template applied.
        pictures: in the order of the prompt.
        doc: its columns.
        order: the index of the doc's image at each position; None if unchanged.
        marks: for images, in its text.
    """

    name: str
    prompt: str
    pictures: tuple[Picture, ...]
    doc: Mapping[str, Any]
    order: tuple[int, ...] | None = None
    marks: MarkCounts = NO_MARKS

    def query(self, *, needs_question: bool = True) -> Query:
        """What a source of relevance may know of it.

        Args:
            needs_question: the source shows it to an outside model.

        Raises:
            UserError: the doc has no question and it is needed, or its boxes do not fit.
        """
        text = None if needs_question or self.doc.get("question") else "?"
        return Query.of_doc(self.doc, self.pictures, name=self.name, order=self.order, question=text)

    def image_hashes(self) -> list[str]:
        """SHA-256 of each picture, in the order of the prompt."""
        return [picture.sha256 for picture in self.pictures]


def take_images(messages: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The messages with placeholders for their images, and the images in order.

    Marks that stand for images in the texts stay: see `settle_marks`.

    Raises:
        UserError: a part that is neither an image nor text.
    """
    images: list[Any] = []
    plain = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                images.append(part["url"])
                content.append({"type": "image"})
            elif part["type"] == "text":
                content.append({"type": "text", "text": part["text"]})
            else:
                raise UserError(f"the *_mask models take images and text; this task shows {part['type']}")
        plain.append({"role": message["role"], "content": content})
    return plain, images


def check_positions(doc: Mapping[str, Any], *, order: str, mask: str, name: str) -> None:
    """Refuse settings under which a doc's images are not where its truth says.

    Args:
        doc: its columns.
        order: as `parse_order` returns it.
        mask: the intervention.
        name: of the doc.

    Raises:
        UserError: the answers of the doc's task name images by their position, and the images move.
    """
    if (
        (order != "fixed" or mask == "orders")
        and isinstance(doc, Mapping)
        and is_positional(str(doc.get("task") or ""))
    ):
        raise UserError(positions_text(name, order=order, mask=mask))


def positions_text(name: str, *, order: str, mask: str) -> str:
    """Why a task or doc whose answers name images by their position does not go with these settings."""
    if mask == "orders":
        setting, instead = "mask=orders", "choose another mask"
    else:
        setting = f"order={order}"
        instead = "leave order= out, or run the permuted task, whose truths follow the order"
    return f"{setting} does not go with {name}, whose answers name images by their position: {instead}"


def doc_order(
    order: str, messages: Sequence[Mapping[str, Any]], doc: Mapping[str, Any], *, name: str, n: int
) -> tuple[int, ...] | None:
    """Which of the doc's images fills each placeholder; the placeholders stay where they are.

    Args:
        order: as `parse_order` returns it.
        messages: with placeholders.
        doc: its columns.
        name: of the doc.
        n: images of the doc.

    Returns:
        See `image_order`; None for ``fixed``.

    Raises:
        UserError: text between the images, so that another order would be another question; a doc of a
            permuted task, which has an order already.
    """
    if order == "fixed":
        return None
    if "order_index" in doc:
        raise UserError(
            f"order={order} does not go with {name}, shown in an order of its own: leave order= out, "
            "or choose the plain task"
        )
    if not _side_by_side(messages):
        raise UserError(f"order={order}: {name} has text between its images; only order=fixed shows it")
    own_hash = doc.get("content_hash") or hashlib.sha256(name.encode()).hexdigest()
    return image_order(order, content_hash=own_hash, n=n)


def _side_by_side(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no text and no turn comes between two images."""
    turns = ["".join("i" if part["type"] == "image" else " " for part in m["content"]) for m in messages]
    return len(" ".join(turns).split()) < 2
