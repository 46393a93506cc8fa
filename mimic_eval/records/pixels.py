"""What a picture shows, as a digest by which pictures of two folders or two runs are compared."""

import hashlib
from typing import Any


def rgb_digest(image: Any) -> str:
    """SHA-256 (hex) of the size and the pixels of an RGB picture (a `PIL.Image.Image`).

    A lossless copy in another format has the same one. Builds store it (``originals.json``).
    """
    return hashlib.sha256(f"{image.width}x{image.height} RGB ".encode() + image.tobytes()).hexdigest()
