"""`mimic export-training`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from mimic_eval.cli.build import parse_kind
from mimic_eval.cli.sources import (
    Annotations,
    ClassDescriptions,
    Classes,
    Hierarchy,
    Images,
    Profile,
    class_names,
    source_files,
    task_names,
)
from mimic_eval.cli.words import check_given
from mimic_eval.records import TASK_KINDS, UserError, announce_cached, task_kinds


def export_training(
    annotations: Annotations = None,
    images: Images = None,
    out: Annotated[Path | None, Option(help="Output folder; an interrupted export resumes in it.")] = None,
    tasks: Annotated[list[str] | None, Option(help="Tasks: a,b. [default: all four]")] = None,
    docs: Annotated[int, Option(help="Samples per task.")] = 1000,
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    max_images: Annotated[int, Option(help="Maximum number of images per sample.")] = 10,
    k: Annotated[int, Option(help="Counting: target classes per question, 1-5.")] = 1,
    classes: Classes = None,
    profile: Profile = "countable",
    exclude: Annotated[
        list[Path] | None,
        Option(help="Exclude the images of this task or image folder, compared by pixels; repeat."),
    ] = None,
    sampling: Annotated[
        list[str] | None,
        Option(help="TASK=all, first:N%, end:N% or random:N%; repeat. [default: all]"),
    ] = None,
    class_descriptions: ClassDescriptions = None,
    hierarchy: Hierarchy = None,
    max_reuse: Annotated[
        int | None, Option(help="Maximum number of samples of a task per image. [default: any]")
    ] = None,
    allow_fewer: Annotated[
        bool, Option("--allow-fewer", help="Write fewer samples if the data allow no more.")
    ] = False,
    form: Annotated[str, Option("--format", help="Trainer: llava or ms-swift.")] = "llava",
) -> None:
    """Write training data in the format of LLaVA or ms-swift."""
    from mimic_tasks.training.conversations import parse_sampling
    from mimic_tasks.training.export import ExportOptions, export

    check_given("export-training", {"--annotations": annotations, "--images": images, "--out": out})
    if out is None:
        raise UserError("--out FOLDER is needed, the folder to write")
    chosen = [parse_kind(name) for name in task_names(tasks) or TASK_KINDS]
    kinds = tuple(kind for kind in task_kinds() if kind in chosen)
    options = ExportOptions(
        sources=source_files(annotations, images, class_descriptions, hierarchy),
        out=out,
        tasks=kinds,
        docs=docs,
        seed=seed,
        max_images=max_images,
        k=k,
        classes=class_names(classes),
        profile=profile,
        max_reuse=max_reuse,
        exclude=tuple(exclude or ()),
        sampling=parse_sampling(sampling or (), kinds),
        allow_fewer=allow_fewer,
        form=form,
    )
    announce_cached(lambda: "pictures that were checked are noted in --out; run the same command to resume")
    result = export(options)
    for line in result.shortages:
        typer.echo(f"fewer than requested: {line}", err=True)
    for line in result.summary:
        typer.echo(line)
    done = f"{out} is complete, nothing was changed" if result.was_complete else f"Wrote {out}"
    typer.echo(f"{done}. Train with: {shlex.join(result.arguments)}")
