"""Random COCO-format sources and build requests.

A compact description is drawn first (so that Hypothesis can shrink it), then written to disk.
"""

import io
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from mimic_tasks.build import BuildOptions
from mimic_tasks.planning import DEFAULT_TOTAL, Controls, Range
from tests.makers.coco import MadeCoco

NAMES = ("dog", "cat", "horse", "car", "bus", "person", "cup", "fork", "apple")
CATEGORIES = ("animal", "vehicle", "person", "cup", "", "Dog", "kitchen")
WIDTHS, HEIGHTS = (40, 47, 64, 90, 100), (30, 45, 60, 80)
TASKS = ("counting", "listing", "common", "oddone")

ORDINARY = ("large", "large", "large", "large", "half")
DOUBTFUL = ("exact", "exact_by_clipping", "below", "tiny", "zero", "partly_outside", "outside")
FINE = ("png", "palette", "grey", "rgba", "jpeg")
DAMAGED = ("missing", "truncated", "wrong_size", "rotated", "deep", "no_picture", "twin", "recoded")
HAIR = 2.0**-12


@dataclass(frozen=True)
class Thing:
    """One annotation: the position of its class, its size by name, and how it is written down."""

    kind: int
    size: str = "large"
    crowd: bool = False
    outline: str = "none"
    nan_area: bool = False


@dataclass(frozen=True)
class Picture:
    """One picture: its size, file form and annotations.

    A twin has the bytes of an earlier picture, a recoded one the same pixels in other bytes.
    """

    width: int
    height: int
    form: str
    things: tuple[Thing, ...]
    same_things: bool = False


@dataclass(frozen=True)
class Sketch:
    """A source: (class, super-category) pairs, and the pictures."""

    classes: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Request:
    """What a build is asked for."""

    tasks: tuple[str, ...] = TASKS
    docs: int = 8
    seed: int = 0
    n_images: Range | None = None
    spread: Range | None = None
    distractors: Range | None = None
    k: int = 1
    split: str = "both"
    total: Range = DEFAULT_TOTAL
    hard: bool = False
    listed: Range | None = None
    minority: Range | None = None
    confusable: Range | None = None
    classes: tuple[str, ...] | None = None
    profile: str = "countable"
    max_reuse: int | None = None
    allow_fewer: bool = True

    def narrowed(self) -> bool:
        """As the command has it: the user restricted the content."""
        plain = replace(
            Request(),
            tasks=self.tasks,
            docs=self.docs,
            seed=self.seed,
            max_reuse=self.max_reuse,
            allow_fewer=self.allow_fewer,
            profile=self.profile,
        )
        return self != plain

    def controls(self) -> Controls:
        """May raise UserError."""
        given: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(Controls)
            if hasattr(Request, field.name)
        }
        return Controls(**{**given, "narrowed": self.narrowed()})

    def options(self, source: MadeCoco, out: Path) -> BuildOptions:
        """May raise UserError."""
        return BuildOptions(
            annotations=(source.annotations,),
            images=(source.images,),
            out=out,
            tasks=self.tasks,
            docs=self.docs,
            seed=self.seed,
            controls=self.controls(),
            classes=self.classes,
            profile=self.profile,
            max_reuse=self.max_reuse,
            allow_fewer=self.allow_fewer,
            label="random",
        )


HAS_CONFUSABLE = any(field.name == "confusable" for field in fields(Controls))


def rarely(
    value: st.SearchStrategy[Any], otherwise: Any = None, *, one_in: int = 5
) -> st.SearchStrategy[Any]:
    """`otherwise` mostly, which is also what shrinking goes to."""
    return st.integers(0, one_in - 1).flatmap(lambda i: value if i == one_in - 1 else st.just(otherwise))


def ranges(low: int, high: int) -> st.SearchStrategy[Range]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda pair: Range(*sorted(pair)))


@st.composite
def sketches(draw: st.DrawFn, *, least: int = 5, most: int = 40, clean: bool = False) -> Sketch:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=9, unique=True))
    categories = draw(st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=4, unique=True))
    classes = tuple((name, draw(st.sampled_from(categories))) for name in names)
    annotated = draw(st.integers(1, len(names)))
    sizes = st.sampled_from(ORDINARY)
    if not draw(st.booleans()):
        sizes = rarely(st.sampled_from(DOUBTFUL), "large", one_in=draw(st.sampled_from((4, 12))))
    things = st.builds(
        Thing,
        kind=st.integers(0, annotated - 1),
        size=sizes,
        crowd=rarely(st.just(True), False, one_in=20),
        outline=rarely(st.sampled_from(("polygon", "rle", "rle_only")), "none"),
        nan_area=rarely(st.just(True), False, one_in=10),
    )
    forms: st.SearchStrategy[str] = rarely(st.sampled_from(FINE), "png")
    if not clean and draw(st.booleans()):
        forms = rarely(st.sampled_from(DAMAGED), "png")
    few, many = draw(st.sampled_from(((1, 3), (1, 8), (0, 2), (0, 4))))
    pictures = st.builds(
        Picture,
        width=st.sampled_from(WIDTHS),
        height=st.sampled_from(HEIGHTS),
        form=forms,
        things=st.lists(things, min_size=few, max_size=many).map(tuple),
        same_things=st.booleans(),
    )
    number = draw(st.integers(least, most))
    drawn = draw(st.lists(pictures, min_size=number, max_size=number))
    if not any(picture.things for picture in drawn):
        drawn[0] = replace(drawn[0], things=(Thing(0),))
    return Sketch(classes, tuple(drawn))


@st.composite
def requests(draw: st.DrawFn, sketch: Sketch) -> Request:
    names = [name for name, _ in sketch.classes]
    split = draw(st.sampled_from(("both", "balanced", "unbalanced")))
    k = draw(rarely(st.integers(2, 5), 1, one_in=6))
    total = DEFAULT_TOTAL
    if split != "unbalanced":
        total = draw(rarely(ranges(1, 12), DEFAULT_TOTAL, one_in=3))
        total = Range(total.low, max(total.high, k))
    return Request(
        tasks=draw(
            rarely(
                st.lists(st.sampled_from(TASKS), min_size=1, unique=True).map(
                    lambda some: tuple(t for t in TASKS if t in some)
                ),
                TASKS,
            )
        ),
        docs=draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 1000)),
        n_images=draw(rarely(ranges(1, 7), one_in=2)),
        spread=draw(rarely(ranges(1, 4))),
        distractors=draw(rarely(ranges(0, 4))),
        k=k,
        split=split,
        total=total,
        hard=draw(rarely(st.just(True), False)),
        listed=draw(rarely(ranges(1, 4))),
        minority=draw(rarely(ranges(1, 3))),
        confusable=draw(rarely(ranges(0, 2))) if HAS_CONFUSABLE else None,
        classes=draw(rarely(st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple))),
        profile=draw(rarely(st.just("all"), "countable", one_in=3)),
        max_reuse=draw(rarely(st.integers(1, 3))),
        allow_fewer=draw(rarely(st.just(False), True, one_in=6)),
    )


@st.composite
def small_requests(draw: st.DrawFn) -> Request:
    """One task, docs of few images, all docs that there are; few controls beside them."""
    task = draw(st.sampled_from(TASKS))
    request = Request(
        tasks=(task,),
        docs=150,
        seed=draw(st.integers(0, 20)),
        n_images=draw(ranges(1, 3) | ranges(1, 6)),
        allow_fewer=True,
    )
    if task in ("common", "oddone") and HAS_CONFUSABLE:
        request = replace(request, confusable=draw(rarely(ranges(0, 2))))
    if task == "listing":
        request = replace(request, listed=draw(rarely(ranges(1, 3), one_in=3)))
    if task == "oddone":
        request = replace(request, minority=draw(rarely(st.just(Range(1, 1)), one_in=3)))
    if task == "counting":
        split = draw(st.sampled_from(("both", "balanced", "unbalanced")))
        k = draw(rarely(st.integers(2, 3), 1, one_in=3))
        total = draw(rarely(ranges(k, 8), DEFAULT_TOTAL)) if split != "unbalanced" else DEFAULT_TOTAL
        request = replace(
            request, split=split, k=k, total=Range(total.low, max(total.high, k)), hard=draw(st.booleans())
        )
        if draw(st.booleans()):
            request = replace(request, spread=draw(ranges(1, request.n_images.high)))
        else:
            request = replace(request, distractors=draw(rarely(ranges(0, 2))))
    return request


def write(sketch: Sketch, folder: Path) -> MadeCoco:
    """Write a sketch as an instances JSON and a folder of pictures."""
    images = folder / "images"
    images.mkdir(parents=True)
    data: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 3 + 2 * i, "name": name, "supercategory": category}
            for i, (name, category) in enumerate(sketch.classes)
        ],
    }
    original: Picture | None = None
    first_bytes = b""
    for i, picture in enumerate(sketch.pictures):
        image_id, form = 1000 + 7 * i, picture.form
        name = f"{image_id}.img"
        if form in ("twin", "recoded"):
            recoded = form == "recoded"
            form = "png"
            if original is not None:
                things = original.things if picture.same_things else picture.things
                picture = replace(original, things=things)
                (images / name).write_bytes(_recoded(first_bytes) if recoded else first_bytes)
                form = ""
        if form not in ("", "missing"):
            (images / name).write_bytes(_encode(form, i, picture.width, picture.height))
        if form == "png" and original is None:
            original, first_bytes = picture, (images / name).read_bytes()
        data["images"].append(
            {"id": image_id, "file_name": name, "width": picture.width, "height": picture.height}
        )
        for j, thing in enumerate(picture.things):
            data["annotations"].append(
                {
                    "id": 1 + len(data["annotations"]),
                    "image_id": image_id,
                    "category_id": 3 + 2 * thing.kind,
                    **_outlined(thing, j, picture.width, picture.height),
                }
            )
    path = folder / "instances_random.json"
    path.write_text(json.dumps(data))
    return MadeCoco(path, images)


def _outlined(thing: Thing, j: int, width: int, height: int) -> dict[str, Any]:
    x, y, w, h = box = _box(thing.size, j, width, height)
    record: dict[str, Any] = {
        "bbox": box,
        "area": float("nan") if thing.nan_area else w * h,
        "iscrowd": int(thing.crowd),
        "segmentation": [],
    }
    inside = x >= 0 and y >= 0 and x + w <= width and y + h <= height and w >= 1 and h >= 1
    if thing.outline == "polygon" or (thing.crowd and not inside):
        record["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    elif thing.outline != "none" or thing.crowd:
        if inside:
            record["segmentation"] = _run_lengths(int(x), int(y), int(w), int(h), width, height)
        if inside and thing.crowd and thing.outline == "rle_only":
            del record["bbox"]
    return record


def _box(size: str, j: int, width: int, height: int) -> list[float]:
    """x, y, width, height. Every number has few binary digits, so that areas are exact."""
    quarter, fifth = width / 4, height / 5  # together 5 % of the picture
    x, y = 1.0 + j % 5, 2.0 + j % 3
    return {
        "large": [x, y, width // 4 + 3.0, height // 5 + 2.0],
        "half": [x, y, width // 2 + 0.25, height // 2 + 0.5],
        "exact": [x, y, quarter, fifth],
        "exact_by_clipping": [-8.0, y, quarter + 8.0, fifth],
        "below": [x, y, quarter, fifth - HAIR],
        "tiny": [x, y, 2.0, 3.0],
        "zero": [x, y, 0.0, height / 2],
        "partly_outside": [width - quarter + HAIR, y, quarter + 20.0, fifth],
        "outside": [width + 5.0, y, width / 2, height / 2],
    }[size]


def _run_lengths(x: int, y: int, w: int, h: int, width: int, height: int) -> dict[str, Any]:
    """A rectangle as COCO's uncompressed column-major run lengths."""
    counts = [x * height + y]
    for _ in range(w - 1):
        counts += [h, height - h]
    counts += [h, width * height - (x + w - 1) * height - y - h]
    return {"size": [height, width], "counts": counts}


def _recoded(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "BMP")
    return buffer.getvalue()


def _encode(form: str, i: int, width: int, height: int) -> bytes:
    """The bytes of a plain picture, other for each i."""
    shade = (i * 37 % 256, i * 91 % 256, 5 * i % 256)
    if form == "wrong_size":
        width += 1
    image = Image.new("RGB", (width, height), shade)
    if form == "palette":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    elif form == "grey":
        image = Image.new("L", (width, height), 5 * i % 256)
    elif form == "rgba":
        image = Image.new("RGBA", (width, height), (*shade, 100))
    elif form == "deep":
        image = Image.new("I;16", (width, height), 1000 + i)
    elif form == "truncated":
        image = Image.frombytes("RGB", (width, height), Random(i).randbytes(3 * width * height))
    buffer = io.BytesIO()
    if form in ("jpeg", "rotated"):
        exif = Image.Exif()
        exif[0x0112] = 6 if form == "rotated" else 1
        exif[0x0131] = f"picture {i}"
        image.save(buffer, "JPEG", exif=exif)
    else:
        image.save(buffer, "PNG")
    data = buffer.getvalue()
    if form == "truncated":
        data = data[: len(data) * 2 // 3]
    return b"<html>no picture</html>" + bytes([i]) if form == "no_picture" else data
