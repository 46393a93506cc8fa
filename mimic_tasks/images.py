"""Opening pictures strictly: a truncated or broken picture is an error, whatever upstream has switched on."""

import hashlib
import io
import struct
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

_ORIENTATION = 0x0112
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # PIL would clip them to white or black
_flag = threading.Lock()


class BrokenImage(ValueError):
    """A picture that cannot be shown as it was stored. The message is the reason."""


def decode_strict(data: bytes) -> Image.Image:
    """Decode a picture to RGB, wholly.

    lmms-eval sets PIL's `LOAD_TRUNCATED_IMAGES` for the whole process, which turns the missing part of a
    cut-off picture grey without a word (LMMS_EVAL trap 4). Here it is off.

    Raises:
        BrokenImage: the bytes are no picture, or end too early.
    """
    with _flag:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
                if image.mode in _DEEP_MODES:
                    raise BrokenImage(f"has more than 8 bits a channel (mode {image.mode})")
                return image.convert("RGB")
        except BrokenImage:
            raise
        except UnidentifiedImageError as error:
            raise BrokenImage("not a picture that PIL can read") from error
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise BrokenImage(f"cannot be decoded: {error}") from error
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


@dataclass(frozen=True)
class StoredImage:
    """The source's own bytes of a picture, checked, and their SHA-256 (hex)."""

    data: bytes
    sha256: str


def read_checked(path: Path, *, width: int, height: int) -> StoredImage:
    """Read a picture that a build will store.

    Args:
        path: the file.
        width: pixels, as the annotations say.
        height: pixels, likewise.

    Raises:
        BrokenImage: missing, undecodable, cut off, of another size than annotated, or with an EXIF rotation
            that viewers apply and boxes do not follow.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BrokenImage("missing") from error
    except OSError as error:
        raise BrokenImage(f"cannot be read: {error.strerror}") from error
    size = decode_strict(data).size
    if size != (width, height):
        raise BrokenImage(f"is {size[0]} x {size[1]} pixels, annotated as {width} x {height}")
    if _orientation(data) not in (0, 1):
        raise BrokenImage("has an EXIF rotation")
    return StoredImage(data, hashlib.sha256(data).hexdigest())


def pixel_digest(data: bytes) -> bytes | None:
    """A digest of what a picture shows: its size and RGB pixels; None if it cannot be decoded."""
    try:
        image = decode_strict(data)
    except BrokenImage:
        return None
    return hashlib.sha256(f"{image.width}x{image.height} RGB ".encode() + image.tobytes()).digest()


def _orientation(data: bytes) -> int:
    """The EXIF orientation; 1 (upright) if the picture has no EXIF part that can be read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        return 1
