"""How a processor is called, and how its tokens are shared among the images of a prompt."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from model_adapters.families.base import begins_with_first_token
from model_adapters.layout import ImageTokens, Layout, Span, image_tokens, padding_of

_TYPES = "return_mm_token_type_ids"
_OFFSETS = "return_text_replacement_offsets"


class Processed(NamedTuple):
    """What a processor made of a batch.

    Attributes:
        inputs: of the model.
        replaced: for each row, the text that each of its images was replaced by, or None if the processor
            does not say it.
    """

    inputs: Any
    replaced: list[list[str]] | None


class Call(NamedTuple):
    """A way to call a processor.

    Attributes:
        nested: pictures as a list for each row; else all in one list.
        offsets: ask for the text that images are replaced by.
        types: ask for the modality of each token, which some models need.
    """

    nested: bool
    offsets: bool
    types: bool

    def __call__(
        self, processor: Any, images: Sequence[Sequence[Image.Image]], prompts: Sequence[str]
    ) -> Processed:
        """A batch, padded on the left.

        Args:
            processor: the processor.
            images: the images of each row, RGB.
            prompts: the text of each row, chat template applied.
        """
        processor.tokenizer.padding_side = "left"
        rows = [list(row) for row in images]
        flat = rows if self.nested else [image for row in rows for image in row]
        wanted_outputs = {_OFFSETS: self.offsets, _TYPES: self.types}
        more = {name: True for name, wanted in wanted_outputs.items() if wanted}
        if begins_with_first_token(processor.tokenizer, prompts):
            more["add_special_tokens"] = False
        inputs = processor(
            images=flat if any(rows) else None,
            text=list(prompts),
            padding=True,
            return_tensors="pt",
            **more,
        )
        offsets = inputs.pop(_OFFSETS.removeprefix("return_"), None)
        if offsets is None:
            return Processed(inputs, None)
        return Processed(
            inputs, [[each["replacement"] for each in row if each["type"] == "image"] for row in offsets]
        )


CALLS = tuple(
    Call(nested, offsets, types)
    for types in (False, True)
    for offsets in (True, False)
    for nested in (True, False)
)
"""In the order in which they are tried: pictures by row first, since some processors show a row's only
picture in another way."""


class Row(NamedTuple):
    """The image tokens of a row, to be shared among its images.

    Attributes:
        tokens: int (P,), their positions, rising.
        sizes: (width, height) of each picture.
        replaced: the text that each image was replaced by, or None if that is not known.
        markers: the ids of image tokens.
        processor: the processor.
    """

    tokens: Tensor
    sizes: Sequence[tuple[int, int]]
    replaced: Sequence[str] | None
    markers: frozenset[int]
    processor: Any


Sharing = Callable[[Row], list[int] | None]
"""The number of tokens of each image, or None if they do not add up."""


def _as_replaced(row: Row) -> list[int] | None:
    """The image tokens in the text that the processor put for each image."""
    if row.replaced is None or len(row.replaced) != len(row.sizes):
        return None
    return [_count(row.processor.tokenizer, text, row.markers) for text in row.replaced]


@lru_cache(maxsize=256)
def _count(tokenizer: Any, text: str, markers: frozenset[int]) -> int:
    return sum(token in markers for token in tokenizer(text, add_special_tokens=False)["input_ids"])


def _as_counted(row: Row) -> list[int] | None:
    """The processor's count for pictures of a size."""
    count = getattr(row.processor, "_get_num_multimodal_tokens", None)
    if count is None:
        return None
    return list(count(image_sizes=[(height, width) for width, height in row.sizes])["num_image_tokens"])


def _as_runs(row: Row) -> list[int] | None:
    """One run of tokens for each picture."""
    return [span.length for span in runs_at(row.tokens)]


def _as_equal(row: Row) -> list[int] | None:
    """The same number for each picture."""
    return [len(row.tokens) // len(row.sizes)] * len(row.sizes)


SHARINGS: Mapping[str, Sharing] = {
    "the text put for each image": _as_replaced,
    "the processor's count": _as_counted,
    "one run for each image": _as_runs,
    "equal numbers": _as_equal,
}
"""Ways to share a row's image tokens among its pictures, by what they rest on; tried in this order."""


def runs_at(tokens: Tensor) -> list[Span]:
    """Runs of neighbouring positions, which rise."""
    if not len(tokens):
        return []
    cuts = [0, *((tokens.diff() != 1).nonzero().flatten() + 1).tolist(), len(tokens)]
    at = tokens.tolist()
    return [Span(at[a], at[b - 1] + 1) for a, b in pairwise(cuts)]


def image_positions(ids: Tensor, markers: Sequence[int]) -> Tensor:
    """int (P,): the positions of image tokens in a row.

    Args:
        ids: int (N,).
        markers: the ids of image tokens.
    """
    return torch.isin(ids.cpu(), torch.tensor(list(markers))).nonzero().flatten()


def shared(tokens: Tensor, counts: Sequence[int]) -> list[Span | ImageTokens]:
    """The tokens of each image.

    Args:
        tokens: int (P,), rising.
        counts: tokens of each image, with the sum P, each at least 1.
    """
    return (
        [image_tokens(runs_at(pictures)) for pictures in torch.split(tokens, list(counts))] if counts else []
    )


def row_layouts(
    made: Processed,
    sizes: Sequence[Sequence[tuple[int, int]]],
    markers: Sequence[int],
    sharing: Sharing,
    processor: Any,
) -> tuple[Layout, ...]:
    """The layout of each row of a batch.

    Args:
        made: the batch.
        sizes: (width, height) of the pictures of each row.
        markers: the ids of image tokens.
        sharing: of `SHARINGS`.
        processor: the processor.

    Raises:
        ValueError: the image tokens do not add up.
    """
    ids, attended = made.inputs["input_ids"], made.inputs["attention_mask"]
    layouts = []
    for b, (row, mask, pictures) in enumerate(zip(ids, attended, sizes, strict=True)):
        tokens = image_positions(row, markers)
        replaced = None if made.replaced is None else made.replaced[b]
        counts = sharing(Row(tokens, pictures, replaced, frozenset(markers), processor)) if pictures else []
        if (
            counts is None
            or len(counts) != len(pictures)
            or sum(counts) != len(tokens)
            or min(counts, default=1) < 1
        ):
            raise ValueError(
                f"{len(tokens)} image tokens of the prompt do not add up to its {len(pictures)} images"
            )
        left, right = padding_of(mask)
        layouts.append(Layout(int(ids.shape[1]), left, tuple(shared(tokens, counts)), right))
    return tuple(layouts)


def grid_by_shape(inputs: Any, number: int, spans: Sequence[Span]) -> tuple[int, int] | None:
    """Rows and columns of tokens of an image by the number of its patches, which the processor gives.

    Args:
        inputs: the processor's output.
        number: of the image, counted through the batch.
        spans: of the image.
    """
    shapes = inputs.get("image_grid_thw", inputs.get("spatial_shapes"))
    if shapes is None or number >= len(shapes):
        return None
    rows, columns = (int(side) for side in shapes[number][-2:])
    length = sum(span.length for span in spans)
    merge = math.isqrt(rows * columns // length) if length else 0
    if merge < 1 or rows % merge or columns % merge or (rows // merge) * (columns // merge) != length:
        return None
    return rows // merge, columns // merge


def grid_by_spans(inputs: Any, number: int, spans: Sequence[Span]) -> tuple[int, int] | None:
    """Each span is a row."""
    lengths = {span.length for span in spans}
    return (len(spans), lengths.pop()) if len(spans) > 1 and len(lengths) == 1 else None


def grid_square(inputs: Any, number: int, spans: Sequence[Span]) -> tuple[int, int] | None:
    """As many rows as columns."""
    length = sum(span.length for span in spans)
    side = math.isqrt(length)
    return (side, side) if side * side == length else None


GRIDS = {"patches": grid_by_shape, "rows": grid_by_spans, "square": grid_square}
"""Ways to lay an image's tokens on a grid over its picture; tried in this order."""
