"""The annotation files and picture folders of a command, read into one pool."""

import glob
import json
import mmap
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.profiles import DEFAULT_PROFILE
from mimic_tasks.sources import Source, merge, read_coco, read_openimages

MAX_NAME = 200
"""The longest name of a class or a category, in characters."""

_NAMED = 3
_LARGE = 50_000_000  # bytes: more than a few seconds to read
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class SourceFiles:
    """Where pictures and their boxes are.

    Attributes:
        annotations: COCO instances JSON, or OpenImages boxes (a CSV).
        images: the picture folder of each.
        class_descriptions: OpenImages: the CSV of class names.
        hierarchy: OpenImages: the JSON of classes and their subclasses, or None for no categories.
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
        record: dict[str, Any] = {
            "annotations": [str(path) for path in self.annotations],
            "images": [str(path) for path in self.images],
        }
        if self.class_descriptions is not None:
            record["class_descriptions"] = str(self.class_descriptions)
        if self.hierarchy is not None:
            record["hierarchy"] = str(self.hierarchy)
        return record


def read_pool(
    files: SourceFiles,
    *,
    classes: Sequence[str] | None = None,
    profile: str = DEFAULT_PROFILE,
    look_for_pictures: bool = True,
) -> Pool:
    """All sources as one pool. Warnings for the user are written to stderr.

    Args:
        files: what to read; a file whose name ends in ``.csv`` is OpenImages'.
        classes: the only classes that may be targets, or None for all.
        profile: one of `profiles.PROFILES`.
        look_for_pictures: whether the files of the pictures must be there; not so for a plan alone.

    Raises:
        UserError: files and folders that do not go in pairs, an OpenImages file missing or unused, no
            picture of a file in its folder, bad input.
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
    sources = []
    for annotations, images in pairs:
        if look_for_pictures and not _is_table(annotations):
            _check_any(annotations, images)
        size = annotations.stat().st_size if annotations.is_file() else 0
        if size > _LARGE:
            print(f"Reading {annotations} ({size / 1e6:.0f} MB)", file=sys.stderr)
        source = _read(annotations, images, files)
        _check_names(source)
        missing = _missing(source, annotations, images) if look_for_pictures else None
        for line in [*source.warnings, *([missing] if missing else [])]:
            print(f"warning: {line}", file=sys.stderr)
        sources.append(source)
    source = merge(sources)
    return make_pool(source, classes=list(classes) if classes is not None else None, profile=profile)


def _check_names(source: Source) -> None:
    for name in (*source.classes, *source.categories):
        if len(name) > MAX_NAME:
            raise UserError(
                f"a class or category name has {len(name)} characters ('{name[:40]}...'): "
                f"at most {MAX_NAME} are read"
            )


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _read(annotations: Path, images: Path, files: SourceFiles) -> Source:
    if not _is_table(annotations):
        return read_coco(annotations, images)
    assert files.class_descriptions is not None
    return read_openimages(annotations, images, classes=files.class_descriptions, hierarchy=files.hierarchy)


def _check_any(annotations: Path, images: Path) -> None:
    """Refuse a folder with none of the pictures before the file is parsed, which takes a minute for 300 MB.

    Raises:
        UserError: none of the file names in the text is there.
    """
    names = []
    try:
        with annotations.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for match in _FILE_NAME.finditer(text):
                name = json.loads(match[1])
                if not name or "\0" in name or (images / name).is_file():
                    return
                names.append(name)
    except (OSError, ValueError):  # said by what reads it in full
        return
    if names:
        raise _absent(annotations, images, names)


def _missing(source: Source, annotations: Path, images: Path) -> str | None:
    """A line on pictures that are not there.

    Raises:
        UserError: none is.
    """
    paths = [image.path for image in source.images]
    missing = [str(path.relative_to(images)) for path in paths if not path.is_file()]
    if not missing:
        return None
    if len(missing) == len(paths):
        raise _absent(annotations, images, missing)
    return (
        f"{len(missing)} of {len(paths)} pictures of {annotations} are not in {images}, and docs are drawn "
        f"from the others: {_listed(missing)}"
    )


def _absent(annotations: Path, images: Path, names: Sequence[str]) -> UserError:
    hint = "give the folder with --images"
    if (images / Path(names[0]).name).is_file():
        hint = "the names in the file have a folder in front: give the folder above it with --images"
    elif "\\" in names[0]:
        hint = "the names in the file have backslashes, as on Windows: write / instead"
    elif below := [path.parent for path in images.glob(f"*/{glob.escape(names[0])}")]:
        hint = f"they are in {below[0]}: give it with --images"
    return UserError(
        f"0 of {len(names)} pictures of {annotations} are in {images} (not {_listed(names)}): {hint}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
