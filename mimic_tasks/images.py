"""Opening pictures strictly: a truncated or broken picture is an error, whatever upstream has switched on.

Every picture that this project did not make is opened here.
"""

import contextlib
import hashlib
import io
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from mimic_eval.records.reading import one_line
from mimic_tasks.twins import Look, look_at

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""The decoders of PIL that are used, by PIL's names; an animation is its first frame. PIL has dozens more,
among them one that starts Ghostscript."""
MAX_BYTES = 1 << 28
"""The largest picture file that is opened, in bytes (256 MiB)."""
MAX_PIXELS = 1 << 27
"""The largest picture that is decoded, width times height (134 million)."""

_ORIENTATION = 0x0112
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # PIL would clip them to white or black
_flag = threading.Lock()


class BrokenImage(ValueError):
    """A picture that cannot be decoded as it was stored. The message is the reason."""


@contextlib.contextmanager
def _opened(source: io.BytesIO | io.BufferedReader) -> Iterator[Image.Image]:
    """A picture of one of `FORMATS`, its header read and its size within the limit; decode it in the block.

    Decoders of damaged files raise whatever they like (RuntimeError, TypeError, struct.error, ...), so every
    exception of the block is one of the picture's; keep everything else out of the block.

    lmms-eval sets PIL's `LOAD_TRUNCATED_IMAGES` for the process, which turns the missing part of a
    cut-off picture grey without a word (LMMS_EVAL trap 4). Here it is off.

    Raises:
        BrokenImage: the header or the block failed.
    """
    with _flag:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BrokenImage(f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
                yield image
        except BrokenImage:
            raise
        except UnidentifiedImageError as error:
            raise BrokenImage("not a JPEG, PNG, WebP, BMP, TIFF or GIF picture") from error
        except MemoryError as error:
            raise BrokenImage("cannot be decoded: it takes more memory than there is") from error
        except Exception as error:  # a decoder's, see above
            raise BrokenImage(f"cannot be decoded: {one_line(error)}") from error
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def decode_strict(data: bytes) -> Image.Image:
    """Decode a picture to RGB, wholly.

    Raises:
        BrokenImage: the bytes are no picture of one of `FORMATS`, end too early, or are more than `MAX_BYTES`
            or `MAX_PIXELS`.
    """
    _check_bytes(len(data))
    with _opened(io.BytesIO(data)) as image:
        if image.mode in _DEEP_MODES:
            raise BrokenImage(f"has more than 8 bits a channel (mode {image.mode})")
        return image.convert("RGB")


def stored_format(data: bytes) -> str:
    """PIL's name of the format that a picture is stored in.

    Raises:
        BrokenImage: see `decode_strict`; only the header is read.
    """
    with _opened(io.BytesIO(data)) as image:
        return str(image.format)


def header_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels as a picture's header says; None if it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file, _opened(file) as image:
            return image.size
    except (OSError, ValueError):  # BrokenImage is a ValueError
        return None


@dataclass(frozen=True)
class StoredImage:
    """The source's bytes of a picture, checked, their SHA-256 (hex), and what they show."""

    data: bytes
    sha256: str
    look: Look


def read_checked(path: Path, *, width: int, height: int) -> StoredImage:
    """Read a picture that a build will store.

    Args:
        path: the file.
        width: pixels, as the annotations say.
        height: in pixels.

    Raises:
        BrokenImage: missing, undecodable, cut off, too large, of another size than annotated, or with an EXIF
            rotation that viewers apply and boxes do not follow.
    """
    data = read_picture(path)
    image = decode_strict(data)
    if image.size != (width, height):
        raise BrokenImage(f"is {image.width} x {image.height} pixels, annotated as {width} x {height}")
    if _orientation(data) not in (0, 1):
        raise BrokenImage("has an EXIF rotation")
    return StoredImage(data, hashlib.sha256(data).hexdigest(), look_at(image))


def read_picture(path: Path) -> bytes:
    """A picture file's bytes, not decoded.

    Raises:
        BrokenImage: missing, not a file, not readable, or more than `MAX_BYTES`.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # a pipe would wait for ever
            raise BrokenImage("is not a file")
        _check_bytes(info.st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BrokenImage("missing") from error
    except OSError as error:
        raise BrokenImage(f"cannot be read: {error.strerror}") from error


def read_named(path: Path) -> bytes:
    """The bytes of a picture of a sweep, whose file is named by their SHA-256.

    Raises:
        BrokenImage: as for `read_picture`, or it is another picture than its name says.
    """
    data = read_picture(path)
    if hashlib.sha256(data).hexdigest() != path.stem:
        raise BrokenImage("is not the picture that its name says (its SHA-256 differs)")
    return data


def pixel_digest(data: bytes) -> bytes | None:
    """A digest of what a picture shows: its size and RGB pixels; None if it cannot be decoded."""
    try:
        return bytes.fromhex(look_at(decode_strict(data)).pixels)
    except BrokenImage:
        return None


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise BrokenImage(f"has {size} bytes, more than {MAX_BYTES}")


def _orientation(data: bytes) -> int:
    """The EXIF orientation; 1 (upright) if the picture has no EXIF part that can be read."""
    try:
        with _opened(io.BytesIO(data)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except BrokenImage:
        return 1
