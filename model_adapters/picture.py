"""A picture with the hash of its pixels, which the journal, the feature cache and relevance all use."""

import hashlib
from collections.abc import Sequence
from functools import cached_property

from PIL import Image


class Picture:
    """An RGB image whose pixels are hashed once, at the first use of `sha256`."""

    recurs: bool = True
    """Whether other docs may have it too, so that what a model makes of it is worth storing."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    @property
    def image(self) -> Image.Image:
        """The image."""
        return self._image

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the size and the RGB pixels."""
        return image_hash(self.image)


def as_pictures(images: Sequence[Image.Image | Picture]) -> tuple[Picture, ...]:
    """Each image as a `Picture`; pictures stay as they are, with their hash."""
    return tuple(image if isinstance(image, Picture) else Picture(image) for image in images)


def image_hash(image: Image.Image) -> str:
    """SHA-256 (hex) of an image's size and RGB pixels."""
    digest = hashlib.sha256(f"{image.width}x{image.height}/".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()
