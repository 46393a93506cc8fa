"""`mimic scenes`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def scenes(
    out: Annotated[Path, typer.Option(help="Output folder, for annotations/ and images/.")],
    n: Annotated[int, typer.Option("--scenes", help="Number of scenes.")] = 100,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 384,
    objects: Annotated[str, typer.Option(help="Objects per scene, a number or a range.")] = "1-8",
    max_overlap: Annotated[float, typer.Option(help="Largest share of a box that another may cover.")] = 0.1,
    classes: Annotated[
        str | None, typer.Option(help="COCO classes to show, separated by commas. [default: all]")
    ] = None,
) -> None:
    """Generate COCO-format images from packaged glyphs."""
    from mimic_eval.records.folders import done, is_finished
    from mimic_tasks.planning import parse_range
    from mimic_tasks.scenes import MAX_OBJECTS, make_scenes

    complete = is_finished(out)
    path = make_scenes(
        out,
        n=n,
        seed=seed,
        size=size,
        objects=parse_range("--objects", objects, minimum=1, maximum=MAX_OBJECTS),
        max_overlap=max_overlap,
        classes=[name.strip() for name in classes.split(",")] if classes is not None else None,
    )
    wrote = done(out) if complete else f"Wrote {n} scenes"
    sources = f"--annotations {shlex.quote(str(path))} --images {shlex.quote(str(out / 'images'))}"
    typer.echo(f"{wrote}. Build: mimic build {sources} --out FOLDER")
