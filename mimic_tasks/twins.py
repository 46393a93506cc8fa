"""Which pictures show the same, by their pixels: copies under two names, and copies that were encoded again.

Two pictures are the same where their RGB pixels agree. They are too where they were stored with loss or in
another size in between: cut into 8 x 8 parts, the mean of each part in each channel differs by 8 of 256 at
most, and the sides have one proportion within 5 %. Of 12,720 pairs of COCO pictures the two closest differ by
66 in some part; JPEG down to quality 30, WebP and half the size move none by more than 7 (docs/tasks.md). A
picture whose parts are nearly alike (a blank page) is the same as another only where all pixels agree.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from mimic_eval.records import rgb_digest

GRID = 8
MOST_DIFFERENCE = 8
LEAST_CONTRAST = 32
_MOST_STRETCH = 0.05
_COARSE = slice(None, None, 16)


class Look(NamedTuple):
    """What a picture shows: its size, a digest of size and RGB pixels (hex), the means of its parts (hex)."""

    width: int
    height: int
    pixels: str
    parts: str


class Twin(NamedTuple):
    """A picture that was entered before and shows the same, pixel by pixel or nearly."""

    image: int
    exact: bool


def look_at(image: Image.Image) -> Look:
    """What a decoded RGB picture shows."""
    parts = image.resize((GRID, GRID), Image.Resampling.BOX).tobytes().hex()
    return Look(image.width, image.height, rgb_digest(image), parts)


class Twins:
    """The different pictures that were looked at so far."""

    def __init__(self) -> None:
        self._by_pixels: dict[str, int] = {}
        self._images: list[int] = []
        self._proportions: list[float] = []
        self._parts = np.zeros((64, GRID * GRID * 3), dtype=np.int16)

    def enter(self, image: int, look: Look) -> Twin | None:
        """The first picture entered that shows the same as this one; else None, and this one is entered."""
        known = self._by_pixels.setdefault(look.pixels, image)
        if known != image:
            return Twin(known, exact=True)
        parts = np.frombuffer(bytes.fromhex(look.parts), dtype=np.uint8).astype(np.int16)
        channels = parts.reshape(-1, 3)
        if (channels.max(axis=0) - channels.min(axis=0)).max() < LEAST_CONTRAST:
            return None
        proportion = look.width / look.height
        near = self._near(parts, proportion)
        if near is not None:
            return Twin(near, exact=False)
        if len(self._images) == len(self._parts):
            self._parts = np.concatenate([self._parts, np.zeros_like(self._parts)])
        self._parts[len(self._images)] = parts
        self._images.append(image)
        self._proportions.append(proportion)
        return None

    def _near(self, parts: np.ndarray[tuple[int], np.dtype[np.int16]], proportion: float) -> int | None:
        entered = self._parts[: len(self._images)]
        coarse = np.abs(entered[:, _COARSE] - parts[_COARSE]).max(axis=1, initial=0) <= MOST_DIFFERENCE
        for row in np.flatnonzero(coarse).tolist():
            stretch = max(self._proportions[row], proportion) / min(self._proportions[row], proportion)
            if stretch <= 1 + _MOST_STRETCH and np.abs(entered[row] - parts).max() <= MOST_DIFFERENCE:
                return self._images[row]
        return None
