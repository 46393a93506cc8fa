"""Boxes, the tokens under them and plain pictures, for the tests of places and relevance."""

import torch
from PIL import Image

from model_adapters.relevance.places import TokenPlaces


def boxes(*corners: tuple[float, float, float, float]) -> torch.Tensor:
    """(n, 4), float64."""
    return torch.tensor(corners, dtype=torch.float64).reshape(-1, 4)


def hit(places: TokenPlaces, *corners: tuple[float, float, float, float]) -> list[int]:
    """The tokens that overlap a box."""
    return places.overlapping(boxes(*corners)).nonzero().flatten().tolist()


def plain(size: tuple[int, int] = (40, 30), grey: int = 0) -> Image.Image:
    """A picture of one grey."""
    return Image.new("RGB", size, (grey, grey, grey))
