"""`mimic check-overlap`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from mimic_tasks.overlap import NamedPictures

_LISTED = 20
_SAMPLES = (".yaml", ".yml", ".json", ".jsonl")


def check_overlap(
    a: Annotated[Path, Argument(help="A task folder, a folder of images, or a mixture or file of samples.")],
    b: Annotated[Path | None, Argument(help="The other; without it, only names of sets are checked.")] = None,
    image_folder: Annotated[
        Path | None, Option(help="Folder that the samples' image paths start in. [default: as in training]")
    ] = None,
) -> None:
    """List the images that two folders share; exit code 1 if there are any.

    Evaluation sets that a mixture names are listed too.
    """
    from mimic_eval.records import UserError
    from mimic_tasks.overlap import find_overlap

    if image_folder is not None and not any(_is_samples(side) for side in (a, b) if side):
        raise UserError("--image-folder is for a mixture or file of samples, and none is given")
    for side in (a, b):
        if side is not None:
            _warn_of_sets(side, only_names=b is None)
    if b is None:
        return
    overlap = find_overlap(_pictures(a, image_folder), _pictures(b, image_folder), progress=True)
    for folder, pictures, broken in (
        (a, overlap.pictures_a, overlap.broken_a),
        (b, overlap.pictures_b, overlap.broken_b),
    ):
        note = f" ({broken} cannot be decoded: compared by their bytes only)" if broken else ""
        typer.echo(f"{folder}: {pictures} different pictures{note}")
    if not overlap.shared:
        typer.echo("shared: 0 pictures (exit code 0)")
        return
    copies = sum(not picture.same_bytes for picture in overlap.shared)
    note = f", {copies} of them with the same pixels in other bytes" if copies else ""
    typer.echo(f"shared: {len(overlap.shared)} pictures{note} (exit code 1)")
    for picture in overlap.shared[:_LISTED]:
        typer.echo(f"  {_one_line(picture.in_a)} = {_one_line(picture.in_b)}")
    if len(overlap.shared) > _LISTED:
        typer.echo(f"  and {len(overlap.shared) - _LISTED} more")
    raise typer.Exit(1)


def _is_samples(side: Path) -> bool:
    return side.suffix in _SAMPLES and not side.is_dir()


def _warn_of_sets(side: Path, *, only_names: bool) -> None:
    """Say which evaluation sets the files of samples name."""
    from finetune.mixture import evaluation_sets
    from mimic_eval.records import UserError
    from mimic_tasks.training.exported import MIXTURE

    mixture = side / MIXTURE
    if not _is_samples(side) and not mixture.is_file():
        if only_names:
            raise UserError(
                f"{side} is no mixture or file of samples: give a second folder to compare it with"
            )
        return
    known = evaluation_sets([side if _is_samples(side) else mixture])
    for one in known:
        typer.echo(f"warning: {one}", err=True)
    if known:
        tasks = ", ".join(sorted({task for one in known for task in one.tasks}))
        typer.echo(f"trained on sets that are evaluated by: {tasks}")
    elif only_names:
        typer.echo(f"{side} names no known evaluation set")


def _pictures(side: Path, image_folder: Path | None) -> "Path | NamedPictures":
    """The folder, or the pictures of the samples."""
    from finetune.mixture import read_mixture
    from mimic_tasks.overlap import NamedPictures

    if not _is_samples(side):
        return side
    mixture = read_mixture([side], image_folder=image_folder, progress=True)
    return NamedPictures(side, {str(image): image for sample in mixture for image in sample.images})


def _one_line(name: str) -> str:
    """A name that is safe to print: file names may hold any character."""
    return "".join(character if character.isprintable() else "?" for character in name)
