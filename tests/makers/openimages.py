"""A small source in OpenImages' official files, drawn for tests."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from mimic_tasks.sources import Source
from mimic_tasks.sources.openimages import read_openimages

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
MIDS = {
    "Animal": "/m/animal",
    "Carnivore": "/m/carnivore",
    "Dog": "/m/dog",
    "Cat": "/m/cat",
    "Horse": "/m/horse",
    "Vehicle": "/m/vehicle",
    "Car": "/m/car",
    "Bus": "/m/bus",
    "Wheel": "/m/wheel",
    "Toy": "/m/toy",
    "Coin": "/m/coin",
}
TREE: dict[str, Any] = {
    "Entity": {
        "Animal": {"Carnivore": {"Dog": {}, "Cat": {}}, "Horse": {}},
        "Vehicle": {"Car": {}, "Bus": {}},
    }
}
WIDTH, HEIGHT = 200, 100


def node(mid: str, below: dict[str, Any]) -> dict[str, Any]:
    """A node of the hierarchy file."""
    made: dict[str, Any] = {"LabelName": mid}
    if below:
        made["Subcategory"] = [node(MIDS[name], deeper) for name, deeper in below.items()]
    return made


class OpenImagesWriter(NamedTuple):
    """Collects boxes and draws pictures; `read` writes the files and reads them."""

    folder: Path
    lines: list[str]

    @property
    def boxes(self) -> Path:
        return self.folder / "train-annotations-bbox.csv"

    @property
    def images(self) -> Path:
        return self.folder / "pictures"

    def picture(self, image_id: str, *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        """Draw a picture."""
        self.images.mkdir(parents=True, exist_ok=True)
        shade = tuple(hash_byte * 37 % 256 for hash_byte in image_id.encode()[-3:].rjust(3))
        Image.new("RGB", size, shade).save(self.images / f"{image_id}.jpg")

    def box(
        self,
        image_id: str,
        name: str,
        *,
        corners: tuple[float, float, float, float] = (0.1, 0.5, 0.1, 0.9),
        group: int = 0,
        depiction: int = 0,
        confidence: str = "1",
    ) -> None:
        """Add a box (XMin, XMax, YMin, YMax); its picture is drawn apart."""
        numbers = ",".join(str(corner) for corner in corners)
        self.lines.append(f"{image_id},xclick,{MIDS[name]},{confidence},{numbers},0,0,{group},{depiction},0")

    def shown(self, image_id: str, *names: str) -> None:
        """A picture with one box of each class."""
        self.picture(image_id)
        for name in names:
            self.box(image_id, name)

    def write(self, *, tree: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the files; returns the keyword paths of `read_openimages`."""
        self.images.mkdir(parents=True, exist_ok=True)
        self.boxes.write_text("\n".join([HEADER, *self.lines]) + "\n")
        classes, hierarchy = self.folder / "classes.csv", self.folder / "hierarchy.json"
        classes.write_text("".join(f"{mid},{name}\n" for name, mid in MIDS.items()))
        hierarchy.write_text(json.dumps(tree or node("/m/0bl9f", TREE["Entity"])))
        return {"classes": classes, "hierarchy": hierarchy}

    def read(self, *, tree: dict[str, Any] | None = None, **changes: Any) -> Source:
        """Write the files and read them."""
        return read_openimages(self.boxes, self.images, **{**self.write(tree=tree), **changes})
