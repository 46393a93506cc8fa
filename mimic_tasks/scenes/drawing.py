"""Placing sprites and drawing a scene."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mimic_tasks.scenes.cast import glyph_file

MAX_OBJECTS = 8
"""Objects a scene, the extra small one not counted."""

LARGE_SHARE = 0.05
"""Every object but the extra small one covers at least this share of the picture by its box (METHODS 2)."""

SMALL_SHARES = (0.015, 0.04)
"""Smallest and largest share of the picture that the extra small object covers by its box."""

_AIMED_SHARES = (0.052, 0.14)
_FILLED_SHARE = 0.46  # of the picture by all boxes: more would seldom fit
_MAX_ANGLE = 25.0  # degrees
_HALF_COVERED = 128  # of 255
_COLOURS = 32
_TRIES = 40
_CLEAR_DIFFERENCE = 40  # levels, in at least one channel
_MIN_CONTRAST = 0.9
_NOT_FLIPPED = ("clock", "stop sign")
_BACKGROUNDS = (
    (205, 221, 198),
    (226, 209, 184),
    (224, 203, 209),
    (208, 203, 226),
    (186, 211, 200),
    (231, 221, 181),
    (203, 193, 181),
    (173, 196, 171),
    (186, 198, 214),
    (214, 186, 166),
    (172, 163, 190),
    (146, 168, 150),
)
Mask = npt.NDArray[np.bool_]


class PixelBox(NamedTuple):
    """A box in integer pixels; `x`, `y`: its top left pixel."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height


@dataclass(frozen=True)
class Sprite:
    """A glyph as it is pasted.

    Attributes:
        name: its COCO class.
        image: RGBA, trimmed to the pixels that are not fully transparent.
        box: tight bounds, within `image`, of the pixels with an alpha of 128 or more.
    """

    name: str
    image: Image.Image
    box: PixelBox


@dataclass(frozen=True)
class SceneObject:
    """A sprite in a scene: `left` and `top` of its image, in the scene's pixels."""

    sprite: Sprite
    left: int
    top: int

    @property
    def box(self) -> PixelBox:
        """The exact box in the scene's pixels."""
        inner = self.sprite.box
        return PixelBox(self.left + inner.x, self.top + inner.y, inner.width, inner.height)


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn: its background (RGB) and its objects, the last one on top."""

    background: Image.Image
    objects: tuple[SceneObject, ...]


def render(scene: Scene) -> Image.Image:
    """The scene as RGB, before its colours are reduced."""
    picture = scene.background.copy()
    for thing in scene.objects:
        picture.paste(thing.sprite.image, (thing.left, thing.top), thing.sprite.image)
    return picture


def draw_scene(
    rng: np.random.Generator,
    *,
    large: Sequence[str],
    small: str | None,
    size: int,
    max_overlap: float,
    fewest: int,
) -> Scene | None:
    """A scene that shows the given classes.

    If the objects do not fit, they are drawn again, smaller each time; then one is left
    out, down to `fewest`.

    Args:
        rng: source of every draw.
        large: class of each object that covers at least 5 % of the picture.
        small: class of the extra small object, or None for none.
        size: pixels a side.
        max_overlap: as in `make_scenes`.
        fewest: objects that may not be left out.

    Returns:
        The scene, or None if not even `fewest` objects fit.
    """
    background = _draw_background(rng, [*large, *([small] if small else [])], size)
    for count in range(len(large), fewest - 1, -1):
        remaining = _reduced(large, count)
        for attempt in range(_TRIES):
            things = _put(rng, remaining, small, size=size, max_overlap=max_overlap, shrink=attempt / _TRIES)
            if things is not None:
                return Scene(background, tuple(things))
    return None


def _reduced(large: Sequence[str], count: int) -> list[str]:
    """`count` of the objects: the class with most instances loses first."""
    remaining = list(large)
    while len(remaining) > count:
        remaining.remove(Counter(remaining).most_common(1)[0][0])
    return remaining


def _put(
    rng: np.random.Generator,
    large: Sequence[str],
    small: str | None,
    *,
    size: int,
    max_overlap: float,
    shrink: float,
) -> list[SceneObject] | None:
    low, high = _AIMED_SHARES
    high = max(low, min(high, _FILLED_SHARE / len(large)) * (1 - shrink))
    sprites = [
        _draw_sprite(rng, name, size=size, aim=(low, high), within=(LARGE_SHARE, 1.0)) for name in large
    ]
    sprites.sort(key=lambda sprite: -sprite.box.area if sprite else 0)
    if small is not None:
        aim = (SMALL_SHARES[0] * 1.1, SMALL_SHARES[1] * 0.9)
        sprites.append(_draw_sprite(rng, small, size=size, aim=aim, within=SMALL_SHARES))
    things: list[SceneObject] = []
    for sprite in sprites:
        if sprite is None:
            return None
        free = _free_positions(sprite, [thing.box for thing in things], size=size, max_overlap=max_overlap)
        positions = np.flatnonzero(free)
        if not len(positions):
            return None
        top, left = divmod(int(positions[rng.integers(len(positions))]), free.shape[1])
        things.append(SceneObject(sprite, left, top))
    return things


def _free_positions(sprite: Sprite, boxes: Sequence[PixelBox], *, size: int, max_overlap: float) -> Mask:
    """bool (tops, lefts): with its top left pixel there, the sprite is inside and overlaps no box much."""
    rows, columns = size - sprite.image.height + 1, size - sprite.image.width + 1
    free = np.ones((max(rows, 0), max(columns, 0)), dtype=bool)
    if not free.size:
        return free
    x = np.arange(columns) + sprite.box.x
    y = np.arange(rows) + sprite.box.y
    for box in boxes:
        across = np.minimum(x + sprite.box.width, box.x + box.width) - np.maximum(x, box.x)
        down = np.minimum(y + sprite.box.height, box.y + box.height) - np.maximum(y, box.y)
        shared = np.outer(np.maximum(down, 0), np.maximum(across, 0))
        free &= shared <= max_overlap * min(sprite.box.area, box.area)
    return free


def _draw_sprite(
    rng: np.random.Generator,
    name: str,
    *,
    size: int,
    aim: tuple[float, float],
    within: tuple[float, float],
) -> Sprite | None:
    """A glyph turned, perhaps flipped, and scaled so that its box covers a share of the picture.

    `aim`: the range the share is drawn from; `within`: the range it must be in, measured in integer pixels.
    None if no scale serves.
    """
    image = _glyph(name)  # below: filters without overshoot, which would draw a bright rim
    if rng.random() < 0.5 and name not in _NOT_FLIPPED:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = float(rng.uniform(-_MAX_ANGLE, _MAX_ANGLE))
    image = _trimmed(image.rotate(angle, resample=Image.Resampling.BILINEAR, expand=True))
    aimed = float(rng.uniform(*aim)) * size * size
    scale = (aimed / _tight_box(image).area) ** 0.5
    for _ in range(12):
        shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        scaled = _trimmed(image.resize(shape, resample=Image.Resampling.HAMMING))
        box = _tight_box(scaled)
        if box.area < within[0] * size * size:
            scale *= 1.02
        elif box.area > within[1] * size * size:
            scale *= 0.98
        else:
            return Sprite(name, scaled, box)
    return None


def _tight_box(image: Image.Image) -> PixelBox:
    covered = image.getchannel("A").point(lambda alpha: 255 * (alpha >= _HALF_COVERED)).getbbox()
    left, top, right, bottom = covered or (0, 0, 0, 0)
    return PixelBox(left, top, right - left, bottom - top)


def _trimmed(image: Image.Image) -> Image.Image:
    return image.crop(image.getchannel("A").getbbox())


@cache
def _glyph(name: str) -> Image.Image:
    with (files("mimic_tasks") / "glyphs" / f"{glyph_file(name)}.png").open("rb") as file:
        return Image.open(file, formats=("PNG",)).convert("RGBA")


@cache
def _contrast(name: str, colour: tuple[int, int, int]) -> float:
    """The share of a glyph's opaque pixels that are clearly not of this colour."""
    pixels = np.asarray(_glyph(name), dtype=np.int64)
    opaque = pixels[pixels[:, :, 3] >= _HALF_COVERED][:, :3]
    return float((np.abs(opaque - colour).max(axis=1) > _CLEAR_DIFFERENCE).mean())


def _draw_background(rng: np.random.Generator, names: Sequence[str], size: int) -> Image.Image:
    """RGB of one to eight near tones that contrast with the glyphs: plain, bands, stripes, checks or dots.

    Few tones make a small PNG.
    """
    contrast = [min(_contrast(name, colour) for name in names) for colour in _BACKGROUNDS]
    fit = [i for i, share in enumerate(contrast) if share >= min(_MIN_CONTRAST, max(contrast))]
    base = np.array(_BACKGROUNDS[fit[int(rng.integers(len(fit)))]])
    kind = str(rng.choice(["plain", "gradient", "stripes", "checks", "dots"], p=[0.4, 0.25, 0.15, 0.1, 0.1]))
    step = size / int(rng.integers(5, 13))
    turned = bool(rng.random() < 0.5)
    change = int(rng.integers(8, 15)) * (1 if rng.random() < 0.5 else -1)
    along = np.arange(size)
    row, column = along[:, None], along[None, :]
    tone = np.zeros((size, size), dtype=np.int64)
    if kind == "gradient":
        tone += (row * 8 // size) * 4 - 14
    elif kind == "stripes":
        tone += (row // step % 2).astype(np.int64) * change
    elif kind == "checks":
        tone += ((row // step + column // step) % 2).astype(np.int64) * change
    elif kind == "dots":
        distance = (row % step - step / 2) ** 2 + (column % step - step / 2) ** 2
        tone += (distance < (step / 5) ** 2).astype(np.int64) * change
    if turned:
        tone = tone.T
    return Image.fromarray(np.clip(base + tone[:, :, None], 0, 255).astype(np.uint8))


def reduce_colours(picture: Image.Image) -> Image.Image:
    """The picture with 32 colours, fitted to every second row and column (a quarter of the time).

    At 384 x 384, 100 scenes: 8.3 KB on average with a root mean square error of 2.3 levels; median cut
    alone needs 13 KB (64 colours) or 16.6 KB (128 colours) for errors of 2.5 and 1.6.
    """
    sample = picture.resize((picture.width // 2, picture.height // 2), resample=Image.Resampling.NEAREST)
    palette = sample.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)
