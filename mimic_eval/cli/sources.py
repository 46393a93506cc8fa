"""The options for pictures and their boxes, shared by the commands that build from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mimic_eval.records import UserError

if TYPE_CHECKING:
    from mimic_tasks.source_files import SourceFiles

Annotations = Annotated[
    list[Path] | None,
    Option(help="COCO instances JSON or OpenImages CSV; repeat, paired with --images."),
]
Images = Annotated[list[Path] | None, Option(help="Folder with its images.")]
ClassDescriptions = Annotated[Path | None, Option(help="OpenImages: the CSV of class names.")]
Hierarchy = Annotated[Path | None, Option(help="OpenImages: the class hierarchy's JSON, for categories.")]
Classes = Annotated[str | None, Option(help="Use only these target classes: a,b,c. [default: all]")]

Profile = Annotated[
    str, Option(help="countable: classes that people can count and name; all: every class and category.")
]


def task_names(given: list[str] | None) -> list[str] | None:
    """``--tasks counting,mimic_common`` as short names; may be given several times. None if it is not given.

    Raises:
        UserError: an empty name.
    """
    if given is None:
        return None
    names = [name.strip().removeprefix("mimic_") for text in given for name in text.split(",")]
    if not all(names):
        raise UserError(f"--tasks must read name,name without empty names, got '{','.join(given)}'")
    return list(dict.fromkeys(names))


def source_files(
    annotations: list[Path] | None,
    images: list[Path] | None,
    class_descriptions: Path | None,
    hierarchy: Path | None,
) -> "SourceFiles":
    """What the options name."""
    from mimic_tasks.source_files import SourceFiles

    return SourceFiles(tuple(annotations or ()), tuple(images or ()), class_descriptions, hierarchy)


def class_names(classes: str | None) -> tuple[str, ...] | None:
    """``a, b,c`` as names."""
    return None if classes is None else tuple(dict.fromkeys(name.strip() for name in classes.split(",")))
