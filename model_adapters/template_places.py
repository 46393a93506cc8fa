"""Images within the text, also with chat templates that put all images of a message first.

The templates of the LLaVA family write every image of a message before its text. There the text that stands
for an image is put into the message's text, where the image belongs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mimic_eval.records import UserError

Render = Callable[[Sequence[Mapping[str, Any]]], str]
"""A chat template: messages to text."""

_IMAGE = {"type": "image"}
_A, _B = {"type": "text", "text": "First part."}, {"type": "text", "text": "Second part."}


def within_text(message: Mapping[str, Any]) -> bool:
    """Whether a message has an image after a text."""
    kinds = "".join(part["type"][0] for part in message["content"])
    return "ti" in kinds


def moves_images(render: Render) -> bool:
    """Whether a template writes images at another place than the message has them."""
    return _render(render, [_A, _IMAGE, _B]) == _render(render, [_IMAGE, _A, _B])


def image_text(render: Render) -> str:
    """What a template writes for an image.

    Raises:
        UserError: it is not the same text for each image.
    """
    none, one, two = (_render(render, [*[_IMAGE] * n, _A]) for n in range(3))
    length = len(one) - len(none)
    start = next((i for i, (a, b) in enumerate(zip(none, one, strict=False)) if a != b), len(none))
    for begin in range(start, max(start - length, -1), -1):
        text = one[begin : begin + length]
        before, after = one[:begin], one[begin + length :]
        if length > 0 and before + after == none and before + text + text + after == two:
            return text
    raise UserError(
        "the checkpoint's chat template writes all images before the text and each in another way, so that "
        "no image can stand within the text: choose a task that shows the images first"
    )


def inline(message: Mapping[str, Any], image: str) -> dict[str, Any]:
    """A message whose images after the first text are part of its text.

    Args:
        message: with placeholders.
        image: what the template writes for an image.
    """
    content = list(message["content"])
    first = next(i for i, part in enumerate(content) if part["type"] == "text")
    text = "".join(image if part["type"] == "image" else part["text"] for part in content[first:])
    return {**message, "content": [*content[:first], {"type": "text", "text": text}]}


def _render(render: Render, content: list[dict[str, str]]) -> str:
    return render([{"role": "user", "content": content}])
