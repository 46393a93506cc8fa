"""`relevance=degraded:P`: boxes made worse on purpose, for the curve of failure (METHODS 7)."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor


class Degraded(NamedTuple):
    """Boxes after the draw.

    Attributes:
        boxes: one (n, 4) for each image, x0, y0, x1, y1, normalised.
        dropped: how many boxes are gone.
        moved: how many stand elsewhere.
    """

    boxes: list[Tensor]
    dropped: int
    moved: int


def degrade(
    boxes: Sequence[Tensor], image_hashes: Sequence[str], *, probability: float, content_hash: str
) -> Degraded:
    """Drop or move each box with a probability.

    A box is affected with `probability`; half of the affected are dropped, half moved to a uniform random
    place of their image, with their size. The draws depend on the doc's content hash and on the image, not on
    the image's position in the order. They do not depend on `probability`: a box that is affected at some
    probability has the same fate at every larger one.

    Args:
        boxes: one (n, 4) for each image, within 0-1.
        image_hashes: of each image (`Query.image_hashes`).
        probability: within 0-1.
        content_hash: of the doc.
    """
    out, dropped, moved = [], 0, 0
    for of_image, image_hash in zip(boxes, image_hashes, strict=True):
        draw = Random(f"degraded/{content_hash}/{image_hash}")
        remaining = []
        for x0, y0, x1, y1 in of_image.tolist():
            chance, fate, x, y = (draw.random() for _ in range(4))
            if chance >= probability:
                remaining.append((x0, y0, x1, y1))
            elif fate < 0.5:
                dropped += 1
            else:
                moved += 1
                left, top = x * (1 - (x1 - x0)), y * (1 - (y1 - y0))
                remaining.append((left, top, left + x1 - x0, top + y1 - y0))
        out.append(torch.tensor(remaining, dtype=of_image.dtype).reshape(-1, 4))
    return Degraded(out, dropped, moved)
