"""`mimic check-overlap`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

_LISTED = 20


def check_overlap(
    a: Annotated[Path, Argument(help="A task folder, or a folder of images.")],
    b: Annotated[Path, Argument(help="The other folder.")],
) -> None:
    """List the images that two folders share; exit code 1 if there are any."""
    from mimic_tasks.overlap import find_overlap

    overlap = find_overlap(a, b, progress=True)
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


def _one_line(name: str) -> str:
    """A name that is safe to print: file names may hold any character."""
    return "".join(character if character.isprintable() else "?" for character in name)
