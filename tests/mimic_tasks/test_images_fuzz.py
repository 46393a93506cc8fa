"""Damaged pictures of every format are undecodable with a reason, whatever their decoder raises."""

import io
import os
import subprocess
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from mimic_eval.records import Unscorable
from mimic_tasks import images
from mimic_tasks.images import BrokenImage, decode_strict, header_size, pixel_digest, read_checked
from mimic_tasks.lmms_hooks import doc_to_visual

OURS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
OTHERS = (
    "AVIF",
    "BLP",
    "DDS",
    "EPS",
    "ICNS",
    "ICO",
    "IM",
    "JPEG2000",
    "MSP",
    "PCX",
    "PPM",
    "SGI",
    "SPIDER",
    "TGA",
)
CASES = Path(__file__).parents[1] / "cases" / "attack"


def encoded(form: str, **settings: object) -> bytes:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    modes = {"GIF": "P", "MSP": "1", "BLP": "P", "SPIDER": "F"}
    file = io.BytesIO()
    picture.convert(modes.get(form, "RGB")).save(file, form, **settings)  # type: ignore[arg-type]
    return file.getvalue()


def mutations(data: bytes, rng: Random, count: int) -> list[bytes]:
    """Bytes flipped, set to extremes, cut, doubled, removed or exchanged, mostly near the header."""
    made = []
    for number in range(count):
        own = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            at = rng.randrange(min(len(own), rng.choice((32, 256, len(own)))))
            kind = number % 6
            if kind == 0:
                own[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                own[at : at + 4] = rng.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0")
                )
            elif kind == 2:
                del own[max(1, rng.randrange(len(own))) :]
            elif kind == 3:
                own[at:at] = own[at : at + rng.randrange(1, 40)]
            elif kind == 4:
                del own[at : at + rng.randrange(1, 9)]
                own = own or bytearray(b"\0")
            else:
                own[at] = rng.randrange(256)
        made.append(bytes(own))
    return made


@pytest.mark.parametrize("form", OURS)
def test_a_mutated_picture_is_decoded_or_refused_with_a_reason(form: str, tmp_path: Path) -> None:
    variants = [{}]
    if form == "TIFF":
        variants = [{"compression": c} for c in ("raw", "tiff_lzw", "jpeg", "tiff_deflate", "packbits")]
    rng = Random(f"pictures/{form}")
    outcomes: Counter[str] = Counter()
    for settings in variants:
        good = encoded(form, **settings)
        assert decode_strict(good).size == (30, 40)
        for data in mutations(good, rng, 150 // len(variants)):
            try:
                image = decode_strict(data)
                assert image.mode == "RGB"
                outcomes["decoded"] += 1
            except BrokenImage as error:
                assert str(error)  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
                outcomes["refused"] += 1
            assert (pixel_digest(data) is None) == _broken(data)
            (tmp_path / "x").write_bytes(data)
            header_size(tmp_path / "x")  # raises nothing
    assert outcomes["refused"] > 15
    assert sum(outcomes.values()) == 150


def _broken(data: bytes) -> bool:
    try:
        decode_strict(data)
    except BrokenImage:
        return True
    return False


@pytest.mark.parametrize("form", OTHERS)
def test_formats_that_no_image_data_set_uses_are_not_decoded(form: str) -> None:
    """EPS started Ghostscript; AVIF, DDS, BLP and SPIDER raised what nothing caught."""
    good = encoded(form)
    for data in (good, *mutations(good, Random(form), 12)):
        if not _broken(data):  # a mutation can make no JPEG of it
            raise AssertionError(f"{form} was decoded")


@pytest.mark.parametrize("name", ["AVIF_RuntimeError.bin", "TIFF_TypeError.bin"])
def test_what_raised_a_runtime_or_type_error_is_refused_and_makes_its_doc_unscored(
    name: str, tmp_path: Path
) -> None:
    data = (CASES / name).read_bytes()
    with pytest.raises(BrokenImage, match=r"cannot be decoded|not a JPEG"):
        decode_strict(data)
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(BrokenImage):
        read_checked(tmp_path / "x.jpg", width=30, height=40)
    doc = {"images": [{"bytes": encoded("PNG")}, {"bytes": data}], "image_ids": [4, 7]}
    with pytest.raises(Unscorable, match=r"image 2 of 2 \(id 7\) (cannot be decoded|not a JPEG)"):
        doc_to_visual(doc)


def test_an_eps_picture_starts_no_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {trace}\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # found once a process
    data = encoded("EPS")
    with pytest.raises(subprocess.CalledProcessError):
        Image.open(io.BytesIO(data)).load()
    assert trace.exists()  # PIL alone starts it
    trace.unlink()
    with pytest.raises(BrokenImage, match="not a JPEG, PNG, WebP, BMP, TIFF or GIF picture"):
        decode_strict(data)
    (tmp_path / "x.png").write_bytes(data)
    assert header_size(tmp_path / "x.png") is None
    assert not trace.exists()


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = bytearray(encoded("BMP"))
    header[18:26] = (40000).to_bytes(4, "little") + (3500).to_bytes(4, "little")
    with pytest.raises(BrokenImage, match="has 40000 x 3500 pixels, more than 134217728"):
        decode_strict(bytes(header))
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)  # sparse: nothing is read
    with pytest.raises(BrokenImage, match=r"has 268435457 bytes, more than 268435456"):
        read_checked(tmp_path / "x.jpg", width=1, height=1)

    def exhausted(*_: object, **__: object) -> Image.Image:
        raise MemoryError

    good = encoded("PNG")
    monkeypatch.setattr(Image.Image, "convert", exhausted)
    with pytest.raises(BrokenImage, match="takes more memory than there is"):
        decode_strict(good)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(BrokenImage, match="is not a file"):
            read_checked(path, width=1, height=1)
        assert header_size(path) is None
    with pytest.raises(BrokenImage, match="missing"):
        read_checked(tmp_path / "none.jpg", width=1, height=1)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        settings = {"lossless": True} if form == "WEBP" else {}
        frames[0].save(file, form, save_all=True, append_images=frames[1:], **settings)
        assert decode_strict(file.getvalue()).getpixel((1, 1)) == (255, 0, 0)
