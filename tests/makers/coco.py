"""A small COCO-format source, drawn for tests."""

import json
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from PIL import Image

CLASSES = {
    "dog": "animal",
    "cat": "animal",
    "horse": "animal",
    "car": "vehicle",
    "bus": "vehicle",
    "person": "person",
    "cup": "kitchen",
    "fork": "kitchen",
}
SIDE = 100
LARGE, SMALL = (30, 30), (20, 20)  # 9 % and 4 % of the picture


class MadeCoco(NamedTuple):
    """Paths of a made source."""

    annotations: Path
    images: Path

    def options(self) -> list[str]:
        """For `mimic build`."""
        return ["--annotations", str(self.annotations), "--images", str(self.images)]


def make_coco(folder: Path, *, images: int = 60, seed: int = 0) -> MadeCoco:
    """Pictures whose class sets overlap a lot, one in eight with a small or crowd annotation."""
    rng = Random(seed)
    source = CocoWriter(folder)
    themes = [
        ("dog", "cat"),
        ("car", "bus", "person"),
        ("cup", "fork"),
        ("horse", "person"),
        ("dog", "person"),
    ]
    for i in range(images):
        theme = themes[i % len(themes)]
        shown = rng.sample(theme, rng.randint(1, len(theme)))
        objects = [(name, LARGE, 0) for name in shown for _ in range(rng.randint(1, 3))]
        if i % 8 == 7:
            objects.append((rng.choice(shown), SMALL, 0) if i % 16 == 7 else (rng.choice(shown), LARGE, 1))
        source.image(objects)
    return source.write()


class CocoWriter:
    """Collects pictures and annotations; `write` puts them on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids = {name: 10 + i for i, name in enumerate(CLASSES)}
        self.data: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [
                {"id": self.ids[name], "name": name, "supercategory": category}
                for name, category in CLASSES.items()
            ],
        }

    def image(self, objects: list[tuple[str, tuple[int, int], int]], *, write: bool = True) -> int:
        """Add a picture of (class, box size, iscrowd) objects; returns its id."""
        image_id = 1000 + len(self.data["images"])
        name = f"{image_id:012d}.png"
        self.data["images"].append({"id": image_id, "file_name": name, "width": SIDE, "height": SIDE})
        for j, (label, (width, height), crowd) in enumerate(objects):
            annotation = {
                "id": 1 + len(self.data["annotations"]),
                "image_id": image_id,
                "category_id": self.ids[label],
                "bbox": [float(5 + 7 * j % 60), 5.0, float(width), float(height)],
                "area": float(width * height),
                "iscrowd": crowd,
                "segmentation": {"size": [SIDE, SIDE], "counts": [0, 10, SIDE * SIDE - 10]} if crowd else [],
            }
            self.data["annotations"].append(annotation)
        if write:
            (self.folder / "images").mkdir(parents=True, exist_ok=True)
            shade = (image_id * 37 % 256, image_id * 91 % 256, image_id // 7 % 256)
            Image.new("RGB", (SIDE, SIDE), shade).save(self.folder / "images" / name)
        return image_id

    def write(self) -> MadeCoco:
        """Write the JSON."""
        path = self.folder / "instances_made.json"
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.data))
        return MadeCoco(path, self.folder / "images")
