"""The same picture twice: found by what it shows, however it is stored."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimic_tasks.build import build
from mimic_tasks.planning import Controls
from mimic_tasks.twins import Look, Twins, look_at
from tests.makers.builds import docs_of, options
from tests.makers.coco import LARGE, CocoWriter

SIDE = 160


def photo(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Smooth noise with contrast."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def stored(image: Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def again(image: Image.Image, form: str, **how: Any) -> Image.Image:
    return Image.open(io.BytesIO(stored(image, form, **how))).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as PNG": lambda image: again(image, "PNG"),
    "as JPEG 90": lambda image: again(image, "JPEG", quality=90),
    "as JPEG 30": lambda image: again(image, "JPEG", quality=30),
    "as WebP": lambda image: again(image, "WEBP", quality=70),
    "half the size": lambda image: again(image.resize((SIDE // 2, SIDE // 2)), "JPEG"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_in_another_form_is_the_same_picture(copy: str) -> None:
    """Only equal bytes were."""
    twins = Twins()
    original = photo(1)
    assert twins.enter(0, look_at(original)) is None
    assert twins.enter(1, look_at(photo(2))) is None
    found = twins.enter(2, look_at(COPIES[copy](original)))
    assert found == (0, copy == "as PNG")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.crop((20, 0, SIDE, SIDE)),
        lambda image: image.resize((SIDE, SIDE // 2)),
        lambda image: _with_square(image),
    ],
)
def test_another_picture_is_not(change: Callable[[Image.Image], Image.Image]) -> None:
    twins = Twins()
    assert twins.enter(0, look_at(photo(1))) is None
    assert twins.enter(1, look_at(change(photo(1)))) is None


def _with_square(image: Image.Image) -> Image.Image:
    """With an object of 4 % of the picture."""
    changed = image.copy()
    changed.paste((255, 0, 0), (64, 64, 96, 96))
    return changed


def test_plain_pictures_are_the_same_only_pixel_by_pixel() -> None:
    twins = Twins()
    assert twins.enter(0, look_at(Image.new("RGB", (40, 30), (250, 250, 250)))) is None
    assert twins.enter(1, look_at(Image.new("RGB", (40, 30), (249, 250, 250)))) is None
    assert twins.enter(2, look_at(Image.new("RGB", (40, 31), (250, 250, 250)))) is None
    assert twins.enter(3, look_at(Image.new("RGB", (40, 30), (250, 250, 250)))) == (0, True)


def test_hundreds_of_pictures_are_told_apart_and_each_copy_found() -> None:
    twins = Twins()
    looks = [look_at(photo(seed)) for seed in range(300)]
    assert [twins.enter(i, look) for i, look in enumerate(looks)] == [None] * 300
    for i in range(0, 300, 17):
        found = twins.enter(1000 + i, look_at(again(photo(i), "JPEG", quality=80)))
        assert found == (i, False)


def test_pictures_of_coco_are_told_apart_and_found_again(coco_small: Path) -> None:
    files = sorted([*coco_small.glob("train2017/*.jpg"), *coco_small.glob("val2017/*.jpg")])
    twins = Twins()
    images = [Image.open(file).convert("RGB") for file in files]
    assert [twins.enter(i, look_at(image)) for i, image in enumerate(images)] == [None] * len(files)
    for i, image in enumerate(images):
        assert twins.enter(1000 + i, look_at(again(image, "JPEG", quality=50))) == (i, False)


def test_a_look_is_of_the_size_and_the_pixels() -> None:
    image = photo(3, 60, 40)
    look = look_at(image)
    assert isinstance(look, Look)
    assert (look.width, look.height, len(look.pixels), len(look.parts)) == (60, 40, 64, 2 * 8 * 8 * 3)


@pytest.mark.parametrize("alike", [True, False])
def test_a_build_shows_a_picture_once_however_it_is_stored(alike: bool, tmp_path: Path) -> None:
    """23 of 256 docs of a corrupted set showed a picture twice: stored again, the bytes differ."""
    source = CocoWriter(tmp_path)
    ids = [source.image([("dog" if i % 2 else "cat", LARGE, 0)] * (1 + i % 3)) for i in range(24)]
    if not alike:
        source.data["annotations"][-1]["bbox"][0] += 30
    made = source.write()
    for i, image_id in enumerate(ids):
        file = made.images / f"{image_id:012d}.png"
        same_as = {6: 0, 12: 0, 18: 0}.get(i, i)  # like 0: one cat
        form = {6: ("JPEG", {"quality": 60}), 12: ("BMP", {}), 18: ("PNG", {})}.get(i, ("PNG", {}))
        file.write_bytes(stored(photo(same_as, 100, 100), form[0], **form[1]))
    if not alike:
        data = json.loads(made.annotations.read_text())
        row = next(row for row in data["annotations"] if row["image_id"] == ids[6])
        row["bbox"][0] += 30
        made.annotations.write_text(json.dumps(data))
    controls = Controls(narrowed=True)
    build(options(made, tmp_path / "b", docs=150, tasks=("counting",), controls=controls), progress=False)
    used = {i for doc in docs_of(tmp_path / "b", "counting") for i in doc["image_ids"]}  # type: ignore[attr-defined]
    same = {ids[i] for i in (0, 6, 12, 18)}
    assert used & same <= ({ids[0]} if alike else set())
    dropped = json.loads((tmp_path / "b/manifest.json").read_text())["images_dropped"]
    reasons = {record["image_id"]: record["reason"] for record in dropped}
    assert reasons[ids[6]].startswith(f"shows the same as image {ids[0]}, stored in another way")
    assert reasons[ids[12]].startswith(f"shows the same as image {ids[0]}")
    assert ("other annotations" in reasons[ids[6]]) is not alike
    assert (ids[0] in reasons) is not alike
