"""Pictures are decoded strictly, whatever upstream has switched on for the process."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from mimic_tasks.images import BrokenImage, decode_strict, read_checked


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9])
def test_a_cut_picture_is_an_error_even_where_upstream_allows_it(
    form: str, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # what lmms-eval does
    data = encoded(form)
    assert decode_strict(data).size == (48, 64)
    with pytest.raises(BrokenImage):
        decode_strict(data[: int(kept * len(data))])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True  # left as it was


def test_grey_and_transparent_pictures_become_rgb() -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        file = io.BytesIO()
        Image.new(mode, (4, 4)).save(file, "TIFF")
        assert decode_strict(file.getvalue()).mode == "RGB"


def test_a_rotation_that_boxes_do_not_follow_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 20)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(BrokenImage, match="has an EXIF rotation"):
        read_checked(tmp_path / "a.jpg", width=10, height=20)
    Image.new("RGB", (10, 20)).save(tmp_path / "b.jpg")
    assert read_checked(tmp_path / "b.jpg", width=10, height=20).data == (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_picture_of_more_than_8_bits_is_refused_and_not_shown_white(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (4, 4), 40000).save(file, "TIFF")
    with pytest.raises(BrokenImage, match="more than 8 bits a channel"):
        decode_strict(file.getvalue())


def test_an_exif_part_that_cannot_be_read_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (10, 20)).save(tmp_path / "a.png", exif=b"garbage")
    assert read_checked(tmp_path / "a.png", width=10, height=20).data
