"""What is in the pictures of a source, read from the COCO JSON and the picture files alone (METHODS 2)."""

import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from PIL import Image, ImageFile

from tests.makers.coco import MadeCoco

REPEATED = "boxes left out, as another of their class covers the same place"


@dataclass(frozen=True)
class Shown:
    """One annotated object of a picture, its box clipped, and the share of the picture that it covers."""

    name: str
    box: tuple[float, float, float, float]
    small: bool
    crowd: bool
    share: Fraction

    @property
    def clear(self) -> bool:
        return not self.small and not self.crowd


@dataclass(frozen=True)
class Picture:
    """A picture of the JSON with all its annotations, and what is wrong with its file.

    `kinds` maps each class to what it is a kind of: to what has a super-category's name and boxes somewhere.
    """

    image_id: int
    data: bytes | None
    pixels: bytes | None
    flaw: str | None
    shown: tuple[Shown, ...]
    kinds: dict[str, set[str]] = field(compare=False)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(thing.name for thing in self.shown)

    @cached_property
    def unclear(self) -> frozenset[str]:
        """Classes that cannot be counted here: small or a crowd, or another class's box tells of them."""
        boxed = frozenset(thing.name for thing in self.shown if not thing.clear)
        return boxed | self.implied() | self.possible()

    def implied(self, least: Fraction = Fraction(0)) -> frozenset[str]:
        return frozenset(a for name in self.seen(least) for a in self.kinds[name])

    def possible(self, least: Fraction = Fraction(0)) -> frozenset[str]:
        return frozenset(name for name, above in self.kinds.items() if above & self.seen(least))

    def seen(self, least: Fraction = Fraction(0)) -> frozenset[str]:
        return frozenset(thing.name for thing in self.shown if thing.share >= least)

    def certain(self, least: Fraction = Fraction(0)) -> frozenset[str]:
        """Boxed, or implied by a box."""
        return self.seen(least) | self.implied(least)

    def maybe(self, least: Fraction = Fraction(0)) -> frozenset[str]:
        return self.certain(least) | self.possible(least)

    def count(self, name: str) -> int:
        return sum(thing.name == name for thing in self.shown)


@dataclass
class Truth:
    """A source as it lies on disk."""

    pictures: dict[int, Picture]
    category: dict[str, str]
    repeated: int
    members: dict[str, set[str]] = field(default_factory=dict)

    def usable(self, *, twins: bool) -> list[Picture]:
        """Pictures without a flaw; without `twins` only those whose pixels occur once."""
        copies = Counter(picture.pixels for picture in self.pictures.values())
        return [
            picture
            for picture in self.pictures.values()
            if picture.flaw is None and (twins or copies[picture.pixels] == 1)
        ]

    def listable(self, category: str) -> bool:
        """It has two classes or more, and none that it is named after."""
        group = self.members.get(category, set())
        return bool(category) and len(group) > 1 and category.lower() not in map(str.lower, group)


def read_truth(source: MadeCoco) -> Truth:
    data = json.loads(source.annotations.read_text())
    names = {row["id"]: row["name"] for row in data["categories"]}
    category = {row["name"]: row["supercategory"] for row in data["categories"]}
    annotated = {names[row["category_id"]] for row in data["annotations"]}
    kinds = {name: _kinds(name, category, annotated) for name in category}
    roots = {_named(group, category) for name, group in category.items() if group.lower() != name.lower()}
    for root in roots - annotated - {None}:
        del category[root], kinds[root]
    shown: dict[int, list[Shown]] = defaultdict(list)
    repeated = 0
    size = {row["id"]: (row["width"], row["height"]) for row in data["images"]}
    for row in data["annotations"]:
        width, height = size[row["image_id"]]
        box = _clipped(row.get("bbox") or _box_of_runs(row["segmentation"]), width, height)
        area = Fraction(box[2]) * Fraction(box[3])
        small = area < Fraction(width * height, 20)
        thing = Shown(names[row["category_id"]], box, small, bool(row["iscrowd"]), area / (width * height))
        before = shown[row["image_id"]]
        same = [i for i, other in enumerate(before) if other.name == thing.name and _overlap(other, thing)]
        if same:
            repeated += 1
            first = before[same[0]]
            before[same[0]] = replace(first, crowd=first.crowd or thing.crowd)
        else:
            before.append(thing)
    pictures = {}
    for row in data["images"]:
        path = source.images / row["file_name"]
        content = path.read_bytes() if path.exists() else None
        flaw = _flaw(content, size[row["id"]])
        pixels = None if flaw else _pixels(content)
        pictures[row["id"]] = Picture(row["id"], content, pixels, flaw, tuple(shown[row["id"]]), kinds)
    members: dict[str, set[str]] = defaultdict(set)
    for name, group in category.items():
        members[group].add(name)
    return Truth(pictures, category, repeated, dict(members))


def _named(group: str, category: dict[str, str]) -> str | None:
    """The class that has the name of a super-category."""
    return next((name for name in category if name.lower() == group.lower()), None)


def _kinds(name: str, category: dict[str, str], annotated: set[str]) -> set[str]:
    """What a class is a kind of: by its super-category, that one's super-category, and so on."""
    found: set[str] = set()
    above = _named(category[name], category)
    while above is not None and above not in found and above.lower() != name.lower():
        found.add(above)
        up = _named(category[above], category)
        above = None if up == above else up
    return found & annotated


def _overlap(one: Shown, other: Shown) -> bool:
    """An IoU of 0.9 or more."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = (tuple(map(Fraction, thing.box)) for thing in (one, other))
    width, height = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    shared = max(width, Fraction(0)) * max(height, Fraction(0))
    both = aw * ah + bw * bh - shared
    return both > 0 and shared / both >= Fraction(9, 10)


def _pixels(content: bytes | None) -> bytes:
    assert content is not None
    with Image.open(io.BytesIO(content)) as image:
        return repr(image.size).encode() + image.convert("RGB").tobytes()


def _clipped(box: list[float], width: int, height: int) -> tuple[float, float, float, float]:
    x, y, w, h = box
    left, right = (min(max(edge, 0.0), float(width)) for edge in (x, x + w))
    top, bottom = (min(max(edge, 0.0), float(height)) for edge in (y, y + h))
    return left, top, right - left, bottom - top


def _box_of_runs(segmentation: dict[str, Any]) -> list[float]:
    """The bounding box of uncompressed column-major run lengths."""
    height, width = segmentation["size"]
    cells = [bit for i, run in enumerate(segmentation["counts"]) for bit in [i % 2] * run]
    assert len(cells) == height * width
    columns = [i // height for i, bit in enumerate(cells) if bit]
    rows = [i % height for i, bit in enumerate(cells) if bit]
    left, top = min(columns), min(rows)
    return [float(left), float(top), float(max(columns) - left + 1), float(max(rows) - top + 1)]


def _flaw(content: bytes | None, size: tuple[int, int]) -> str | None:
    """A word that the manifest's reason must hold, or None for a picture that can be used."""
    if content is None:
        return "missing"
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, shape, turned = image.mode, image.size, image.getexif().get(0x0112, 1) != 1
            image.load()
    except OSError as error:
        return "not a JPEG" if "identify" in str(error) else "decoded"
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    if mode.startswith("I"):
        return "8 bits"
    if shape != size:
        return "pixels, annotated as"
    return "EXIF" if turned else None
