"""Batches of several passes over a doc, which show the same pictures again and again.

A processor prepares each picture of each pass: P x M of them for P passes over M images. Where features are
cached the decoder needs no pixels, so each different picture is prepared and encoded once, and the passes get
token ids only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.nn.functional import pad

from model_adapters.families.base import Family, PreparedBatch
from model_adapters.layout import Layout
from model_adapters.passes import PassInput
from model_adapters.picture import Picture

_PIXELS = "pixel_"
"""How the inputs begin that are not needed where features are given."""


class ToEncode(NamedTuple):
    """Pictures that the passes of a batch show, each at least once.

    Attributes:
        batch: with pixels; rows of as many images as their doc has.
        pictures: of each row.
    """

    batch: PreparedBatch
    pictures: tuple[tuple[Picture, ...], ...]


def prepare_passes(family: Family, docs: Sequence[Sequence[PassInput]]) -> tuple[PreparedBatch, ToEncode]:
    """Prepare the passes over some docs as `Family.prepare` does, but for their pixels.

    Args:
        family: one that `has_features`.
        docs: the passes over each doc; at least one shows a picture.

    Returns:
        All passes in one batch without pixels, and the pictures to be encoded.

    Raises:
        ValueError: the image tokens do not add up.
    """
    rows = [row for doc in docs for row in doc]
    images = {picture: picture.image for picture in {picture for row in rows for picture in row.pictures}}
    packed: list[tuple[tuple[Picture, ...], str]] = []
    for doc in docs:
        packed += _packed(doc)
    shown = [[images[picture] for picture in pictures] for pictures, _ in packed]
    encoded = family.prepare(shown, [prompt for _, prompt in packed])
    return _without_pixels(family, rows, images), ToEncode(encoded, tuple(pictures for pictures, _ in packed))


def _packed(doc: Sequence[PassInput]) -> list[tuple[tuple[Picture, ...], str]]:
    """The different pictures of a doc in rows of its number of images, each with the doc's prompt."""
    count, prompt = len(doc[0].pictures), doc[0].prompt
    different = {picture.sha256: picture for row in doc for picture in row.pictures}
    pictures = list(different.values())
    filled = pictures + list(doc[0].pictures[: -len(pictures) % count]) if count else []
    return [(tuple(filled[i : i + count]), prompt) for i in range(0, len(filled), count)]


def _without_pixels(
    family: Family, rows: Sequence[PassInput], images: dict[Picture, Image.Image]
) -> PreparedBatch:
    """The passes in one batch; those whose pictures have the same sizes have the same tokens."""
    from transformers import BatchFeature

    alike: dict[Any, PreparedBatch] = {}
    made: list[PreparedBatch] = []
    for row in rows:
        shown = [images[picture] for picture in row.pictures]
        key = (row.prompt, tuple(image.size for image in shown))
        if key not in alike:
            inputs, layouts = family.prepare([shown], [row.prompt])
            kept = {name: x for name, x in inputs.items() if not name.startswith(_PIXELS)}
            alike[key] = PreparedBatch(kept, layouts)
        made.append(alike[key])
    length = max(batch.layouts[0].length for batch in made)
    columns: dict[str, list[Any]] = {}
    padded: list[Layout] = []
    for inputs, (layout,) in made:
        padding = length - layout.length
        for name, x in inputs.items():
            if x.dim() == 2 and x.shape == (1, layout.length):
                x = pad(x, (padding, 0), value=family.pad_token_id if name == "input_ids" else 0)
            columns.setdefault(name, []).append(x)
        moved = tuple(image.moved(padding) for image in layout.images)
        padded.append(Layout(length, layout.padding + padding, moved))
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    return PreparedBatch(BatchFeature(joined), tuple(padded))
