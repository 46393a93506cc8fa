"""The annotation files and picture folders of a command, read into one pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import Source, merge, read_coco, read_openimages

MAX_NAME = 200
"""The longest name of a class or a category, in characters."""


@dataclass(frozen=True)
class SourceFiles:
    """Where pictures and their boxes are.

    Attributes:
        annotations: COCO instances JSON, or OpenImages boxes (a CSV).
        images: the picture folder of each.
        class_descriptions: OpenImages: the CSV of class names.
        hierarchy: OpenImages: the JSON of classes and their subclasses; None: no categories.
    """

    annotations: tuple[Path, ...]
    images: tuple[Path, ...]
    class_descriptions: Path | None = None
    hierarchy: Path | None = None

    def check_folders(self) -> None:
        """Refuse a picture folder that is not there.

        Raises:
            UserError: naming it.
        """
        for images in self.images:
            if not images.is_dir():
                raise UserError(f"--images {images}: no such folder")

    def arguments(self) -> dict[str, Any]:
        """For the manifest."""
        own: dict[str, Any] = {
            "annotations": [str(path) for path in self.annotations],
            "images": [str(path) for path in self.images],
        }
        if self.class_descriptions is not None:
            own["class_descriptions"] = str(self.class_descriptions)
        if self.hierarchy is not None:
            own["hierarchy"] = str(self.hierarchy)
        return own


def read_pool(files: SourceFiles, *, classes: Sequence[str] | None = None) -> Pool:
    """All sources as one pool.

    Args:
        files: what to read; a file whose name ends in ``.csv`` is OpenImages'.
        classes: the only classes that may be targets; None: all.

    Raises:
        UserError: files and folders that do not go in pairs, an OpenImages file missing or unused, bad input.
    """
    if not files.annotations or len(files.annotations) != len(files.images):
        raise UserError(
            f"--annotations and --images go in pairs, got {len(files.annotations)} and {len(files.images)}"
        )
    tables = [path for path in files.annotations if _is_table(path)]
    if tables and files.class_descriptions is None:
        raise UserError(f"--annotations {tables[0]} is OpenImages' (a CSV): give --class-descriptions too")
    if not tables and (files.class_descriptions or files.hierarchy):
        raise UserError(
            "--class-descriptions and --hierarchy are for OpenImages boxes; no --annotations is a .csv"
        )
    pairs = zip(files.annotations, files.images, strict=True)
    source = merge([_read(annotations, images, files) for annotations, images in pairs])
    for name in (*source.classes, *source.categories):
        if len(name) > MAX_NAME:
            raise UserError(
                f"a class or category name has {len(name)} characters ('{name[:40]}...'): "
                f"at most {MAX_NAME} are read"
            )
    return make_pool(source, classes=list(classes) if classes is not None else None)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _read(annotations: Path, images: Path, files: SourceFiles) -> Source:
    if not _is_table(annotations):
        return read_coco(annotations, images)
    assert files.class_descriptions is not None
    return read_openimages(annotations, images, classes=files.class_descriptions, hierarchy=files.hierarchy)
