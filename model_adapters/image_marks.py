"""What becomes of marks as ``<image>`` in a doc's text, before a chat template sees it (METHODS 15).

A mark that reaches a processor is an image that is not there (LLaVA reads ``<image>`` as one), or text that
says nothing. So none gets through unless the user asks for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mimic_eval.records import IMAGE_MARK, UserError, count_marks, interleaved, without_marks

Message = dict[str, Any]


class MarkCounts(NamedTuple):
    """The marks of a doc.

    Attributes:
        marks: in its text.
        images: that it has.
        extra_marks: marks beyond the number of images; 0 where no image is put at a mark.
        images_first: images beyond the number of marks, which come first; 0 where none is put at a mark.
    """

    marks: int
    images: int
    extra_marks: int = 0
    images_first: int = 0


NO_MARKS = MarkCounts(0, 0)


def image_tokens(processor: Any) -> tuple[str, ...]:
    """The texts that a processor reads as images: none may come from a doc's text."""
    names = []
    for owner in (processor, processor.tokenizer):
        names += [getattr(owner, name, None) for name in ("image_token", "boi_token")]
        number = getattr(owner, "image_token_id", None)
        if isinstance(number, int):
            names.append(processor.tokenizer.convert_ids_to_tokens(number))
    texts = (getattr(name, "content", name) for name in names)  # an AddedToken has its text there
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def settle_marks(
    messages: Sequence[Message], *, rule: str, tokens: Sequence[str] = ()
) -> tuple[list[Message], MarkCounts]:
    """The messages with their marks removed, with images at them, or with their marks as text.

    A message is given images at its marks if all its images come before its text, as upstream's tasks put
    them; where a task has placed the images itself, its marks are removed.

    Args:
        messages: with placeholders for images; the images keep their order.
        rule: of `MARK_RULES`.
        tokens: texts that the family's processor reads as images; they are marks too, and never stay.
    """
    settled, total = [], NO_MARKS
    every = (IMAGE_MARK, *tokens)
    for message in messages:
        parts: list[dict[str, Any]] = []
        texts = [part["text"] for part in message["content"] if part["type"] == "text"]
        images = len(message["content"]) - len(texts)
        marks = sum(count_marks(text, every) for text in texts)
        extra = first = 0
        if rule == "interleave" and marks and images and _images_first(message["content"]):
            parts, extra, first = _placed(texts, images, every)
        elif rule == "text":
            parts = [_cleaned(part, tokens) for part in message["content"]]
        else:
            parts = [_cleaned(part, every) for part in message["content"]]
        settled.append({"role": message["role"], "content": parts})
        total = MarkCounts(*map(sum, zip(total, (marks, images, extra, first), strict=True)))
    return settled, total


def _images_first(content: Sequence[Mapping[str, Any]]) -> bool:
    kinds = [part["type"] for part in content]
    return kinds == sorted(kinds)  # "image" before "text"


def _placed(
    texts: Sequence[str], images: int, tokens: Sequence[str]
) -> tuple[list[dict[str, Any]], int, int]:
    """The content with images at its marks, the marks too many, and how many images come first."""
    marks = sum(count_marks(text, tokens) for text in texts)
    first = max(images - marks, 0)
    left, parts, extra = images - first, [_image()] * first, 0
    for text in texts:
        here = min(left, count_marks(text, tokens))
        placed = interleaved(text, here, tokens)
        parts += [_image() if part is None else _text(part) for part in placed.parts]
        left -= here
        extra += placed.extra_marks
    return parts, extra, first


def _cleaned(part: dict[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    return _text(without_marks(part["text"], tokens)) if part["type"] == "text" else part


def _image() -> dict[str, Any]:
    return {"type": "image"}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def check_rule(rule: str, tokens: Sequence[str], *, name: str) -> None:
    """That marks can stay text for a family.

    Args:
        rule: of `MARK_RULES`.
        tokens: texts that its processor reads as images.
        name: of the family.

    Raises:
        UserError: its processor would read them as images.
    """
    if rule == "text" and IMAGE_MARK in tokens:
        raise UserError(
            f"image_marks=text: {name} reads {IMAGE_MARK} in a text as an image; choose image_marks=remove "
            "or interleave"
        )
