"""Writing scenes in COCO's format."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from mimic_eval.records import UserError
from mimic_eval.records.folders import workspace
from mimic_eval.records.reading import read_json
from mimic_tasks.coco_classes import COCO_CLASSES
from mimic_tasks.scenes.cast import draw_cast, draw_themes, selected_classes, theme_rng
from mimic_tasks.scenes.drawing import MAX_OBJECTS, PixelBox, draw_scene, reduce_colours, render

_MAX_SIZE = 4096
INSTANCES = Path("annotations", "instances_scenes.json")


@dataclass(frozen=True)
class _Options:
    """The arguments of `make_scenes` that are numbers."""

    n: int
    seed: int
    size: int
    objects: tuple[int, int]
    max_overlap: float
    small_share: float

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"--n must be at least 1, got {self.n}")
        if self.seed < 0:
            raise UserError(f"--seed must be at least 0, got {self.seed}")
        if not 64 <= self.size <= _MAX_SIZE:
            raise UserError(f"--size must be within 64-{_MAX_SIZE} pixels, got {self.size}")
        fewest, most = self.objects
        if not 1 <= fewest <= most <= MAX_OBJECTS:
            raise UserError(f"--objects must be a range within 1-{MAX_OBJECTS}, got {fewest}-{most}")
        if not 0 <= self.max_overlap < 1:
            raise UserError(f"--max-overlap must be at least 0 and below 1, got {self.max_overlap}")
        if not 0 <= self.small_share <= 1:
            raise UserError(f"small_share must be within 0-1, got {self.small_share}")


def make_scenes(
    out: Path,
    *,
    n: int,
    seed: int = 0,
    size: int = 384,
    objects: tuple[int, int] = (1, 8),
    max_overlap: float = 0.1,
    classes: Sequence[str] | None = None,
    small_share: float = 0.1,
    progress: bool = True,
    wait: bool = False,
) -> Path:
    """Write `n` scenes as a COCO instances file and PNG pictures.

    The same arguments give the same bytes with the same versions of NumPy and Pillow; both stand in the
    file's `info` beside the seed and the arguments. If writing fails, what was written is removed; a killed
    process leaves what the same call completes, and a finished folder with the same `info` is left as it is.

    Args:
        out: folder to create: ``annotations/instances_scenes.json`` and ``images/*.png``.
        n: how many scenes.
        seed: of every draw.
        size: pixels a side.
        objects: fewest and most objects a scene, within 1-8; the extra small one is not counted.
        max_overlap: largest intersection of two boxes, as a share of the smaller box, within [0, 1).
        classes: COCO classes to show, or None for `scene_classes`, or fewer if `n` is too small to show
            each of them often.
        small_share: probability that a scene has one extra object whose box covers 1.5-4 % of the picture.
        progress: whether to show a bar on stderr.
        wait: for another process that makes the same scenes, instead of refusing.

    Returns:
        The path of the JSON file.

    Raises:
        UserError: an argument out of range, an unknown class, `out` holds something already or cannot be
            written, or the fewest objects requested do not fit into a scene.
    """
    options = _Options(n, seed, size, objects, max_overlap, small_share)
    names = selected_classes(classes)
    path = out / INSTANCES
    themes = draw_themes(theme_rng(seed), names, n=n, use_all=classes is not None)
    info = {
        "description": "Scenes composed of Noto Color Emoji glyphs by `mimic scenes`",
        "version": version("mimic-eval"),
        "seed": seed,
        "arguments": {**asdict(options), "classes": None if classes is None else list(names)},
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }
    with workspace(out, _flat(info), made=_made, wait=wait) as partial:
        if partial is not None:
            try:
                _write(partial, options, themes, info=info, progress=progress)
            except OSError as error:
                raise UserError(f"cannot write --out {out}: {error}") from error
    return path


def _made(out: Path) -> dict[str, Any] | None:
    """What finished scenes were made with; None if a file of them is not there."""
    try:
        data = read_json(out / INSTANCES)
        if all((out / "images" / image["file_name"]).is_file() for image in data["images"]):
            return _flat(data["info"])
    except (UserError, KeyError, TypeError, ValueError):
        pass
    return None


def _flat(info: Mapping[str, Any]) -> dict[str, Any]:
    """All that the scenes depend on, by the options' names."""
    return {**info, **info["arguments"], "arguments": None}


def _write(
    out: Path, options: _Options, themes: Sequence[tuple[str, ...]], *, info: dict[str, Any], progress: bool
) -> None:
    from tqdm import tqdm

    used = {name for theme in themes for name in theme}
    categories = [c for c in COCO_CLASSES if c.name in used]
    category_id = {c.name: c.id for c in categories}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    usage: Counter[str] = Counter()
    for folder in ("images", "annotations"):
        (out / folder).mkdir()
    for i in tqdm(range(options.n), desc="scenes", unit="scene", disable=None if progress else True):
        rng = np.random.default_rng([options.seed, i])
        cast = draw_cast(rng, themes, usage, objects=options.objects, small_share=options.small_share)
        scene = draw_scene(
            rng,
            large=cast.large,
            small=cast.small,
            size=options.size,
            max_overlap=options.max_overlap,
            fewest=options.objects[0],
        )
        if scene is None:
            raise UserError(
                f"{options.objects[0]} objects of at least 5 % of the picture do not fit into "
                f"scene {i + 1} with --max-overlap {options.max_overlap}; "
                "lower --objects or raise --max-overlap"
            )
        name = f"scene_{i + 1:06d}.png"
        reduce_colours(render(scene)).save(out / "images" / name, format="PNG", optimize=True)
        images.append(
            {"id": i + 1, "file_name": name, "width": options.size, "height": options.size, "license": 1}
        )
        for thing in scene.objects:
            annotations.append(
                _annotation(
                    thing.box, len(annotations) + 1, image=i + 1, category=category_id[thing.sprite.name]
                )
            )
    data = {
        "info": info,
        "licenses": [
            {
                "id": 1,
                "name": "Composed of Noto Color Emoji glyphs, SIL Open Font License 1.1",
                "url": "https://openfontlicense.org",
            }
        ],
        "images": images,
        "annotations": annotations,
        "categories": [c._asdict() for c in categories],
    }
    (out / INSTANCES).write_text(json.dumps(data) + "\n", encoding="utf-8")


def _annotation(box: PixelBox, number: int, *, image: int, category: int) -> dict[str, Any]:
    right, bottom = box.x + box.width, box.y + box.height
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box.area,
        "iscrowd": 0,
        "segmentation": [[box.x, box.y, right, box.y, right, bottom, box.x, bottom]],
    }
