"""`mimic build`."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

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
from mimic_eval.records import TASK_KINDS, TASKS, UserError, groups_of, nearest, task_kinds


def parse_kind(name: str) -> str:
    """``counting`` from ``counting`` or ``mimic_counting``.

    Raises:
        UserError: no such task.
    """
    short = name.removeprefix("mimic_")
    if short not in TASKS:
        raise UserError(nearest("task", name, task_kinds()))
    return short


def build(
    context: typer.Context,
    annotations: Annotations = None,
    images: Images = None,
    out: Annotated[Path | None, Option(help="Output task folder; new or empty.")] = None,
    tasks: Annotated[
        list[str] | None, Option(help="Tasks: a,b. [default: counting, listing, common, oddone]")
    ] = None,
    docs: Annotated[int, Option(help="Docs per task.")] = 100,
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    n_images: Annotated[
        str | None, Option(help="Images per doc, a number or a range. [default: 2-6]")
    ] = None,
    spread: Annotated[
        str | None, Option(help="Counting, PQA: number of images with a target. [default: any]")
    ] = None,
    distractors: Annotated[
        str | None,
        Option(help="Counting, PQA, Retrieval: number of images without a target. [default: any]"),
    ] = None,
    k: Annotated[int, Option(help="Counting: target classes per question, 1-5.")] = 1,
    classes: Classes = None,
    profile: Profile = "countable",
    split: Annotated[str, Option(help="Counting: balanced, unbalanced, or both (half each).")] = "both",
    total: Annotated[
        str | None, Option(help="Counting, balanced: number of instances. [default: 2-8]")
    ] = None,
    hard: Annotated[
        bool, Option("--hard", help="Counting, PQA, Retrieval: distractors from the target's category.")
    ] = False,
    listed: Annotated[str | None, Option(help="Listing: number of classes to list. [default: any]")] = None,
    category: Annotated[str | None, Option(help="Listing: ask only about this category.")] = None,
    minority: Annotated[
        str | None, Option(help="Odd-One: number of images with the answer. [default: any]")
    ] = None,
    confusable: Annotated[
        str | None,
        Option(help="Common, Odd-One: number of other classes in all images but one. [default: any]"),
    ] = None,
    stitch: Annotated[str, Option(help="none, or grid: all images of a doc as one image.")] = "none",
    downsample: Annotated[int, Option(help="Downsample images by this factor, then resize back.")] = 1,
    class_descriptions: ClassDescriptions = None,
    hierarchy: Hierarchy = None,
    max_reuse: Annotated[
        int | None, Option(help="Maximum number of docs of a task per image. [default: any]")
    ] = None,
    exclude_docs: Annotated[
        Path | None, Option(help="Leave out the docs that this file lists, as `mimic review` writes it.")
    ] = None,
    allow_fewer: Annotated[
        bool, Option("--allow-fewer", help="Build fewer docs if the data allow no more.")
    ] = False,
    label: Annotated[str | None, Option(help="Label of the results. [default: file names]")] = None,
    plan_only: Annotated[
        bool, Option("--plan-only", help="Print the plan as JSON; no image is opened.")
    ] = False,
    embed: Annotated[
        Path | None, Option(help="Do not build: embed the images of this sweep folder in its docs.")
    ] = None,
) -> None:
    """Build the MIMIC tasks from annotated images."""
    from mimic_tasks.build import BuildOptions
    from mimic_tasks.build import build as build_folder
    from mimic_tasks.build import plan_only as plan_build
    from mimic_tasks.planning import (
        DEFAULT_TOTAL,
        MAX_CONFUSABLE,
        MAX_SIZE,
        MAX_TOTAL,
        Controls,
        Range,
        parse_range,
    )
    from mimic_tasks.task_spec import spec_of
    from mimic_tasks.transforms import parse_transform

    def optional(option: str, text: str | None, minimum: int, maximum: int = MAX_SIZE) -> Range | None:
        return None if text is None else parse_range(option, text, minimum=minimum, maximum=maximum)

    if embed is not None:
        _embed(embed, out, context)
        return
    outputs = {} if plan_only else {"--out": out}
    check_given("build", {"--annotations": annotations, "--images": images, **outputs})
    kinds = [parse_kind(name) for name in task_names(tasks) or TASK_KINDS]
    particular = {
        "spread": spread, "distractors": distractors, "total": total, "hard": hard or None,
        "k": k if k != 1 else None, "split": split if split != "both" else None,
        "listed": listed, "category": category, "minority": minority, "confusable": confusable,
    }  # fmt: skip
    for name, value in particular.items():
        if value is None or any(name in spec_of(kind).controls for kind in kinds):
            continue
        users = " or ".join(kind for kind in task_kinds() if name in spec_of(kind).controls)
        raise UserError(f"--{name} {value} is for {users}, which --tasks leaves out: drop one of the two")
    if "counting" not in kinds and (spread or distractors):
        split = "unbalanced"  # no total has to reach the spread
    controls = Controls(
        n_images=optional("--n-images", n_images, 1),
        spread=optional("--spread", spread, 1),
        distractors=optional("--distractors", distractors, 0),
        k=k,
        split=split,
        total=optional("--total", total, 1, MAX_TOTAL) or DEFAULT_TOTAL,
        narrowed=particular["split"] is not None
        or k != 1
        or hard
        or any(
            o is not None
            for o in (n_images, spread, distractors, classes, total, listed, category, minority, confusable)
        ),
        hard=hard,
        listed=optional("--listed", listed, 1, MAX_TOTAL),
        category=category,
        minority=optional("--minority", minority, 1),
        confusable=optional("--confusable", confusable, 0, MAX_CONFUSABLE),
    )
    if out is None and not plan_only:
        raise UserError("--out FOLDER is needed, the task folder to write (or --plan-only)")
    sources = source_files(annotations, images, class_descriptions, hierarchy)
    options = BuildOptions(
        annotations=sources.annotations,
        images=sources.images,
        out=out or Path(),
        tasks=tuple(kind for kind in task_kinds() if kind in kinds),
        docs=docs,
        seed=seed,
        controls=controls,
        classes=class_names(classes),
        profile=profile,
        max_reuse=max_reuse,
        allow_fewer=allow_fewer,
        label=label,
        transform=parse_transform(stitch, downsample),
        class_descriptions=class_descriptions,
        hierarchy=hierarchy,
        exclude_docs=exclude_docs,
    )
    if plan_only:
        summary = plan_build(options)
        for plan in summary["tasks"].values():
            plan.get("clusters", {}).pop("labels", None)
        typer.echo(json.dumps(summary, indent=1))
        return
    result = build_folder(options)
    for line in result.shortages:
        typer.echo(f"fewer than requested: {line}", err=True)
    for line in result.notes:
        typer.echo(line, err=True)
    for line in result.summary:
        typer.echo(line)
    folder = shlex.quote(str(out))
    groups = groups_of(options.tasks)
    names = "mimic" if len(set(groups.values())) == 1 else ",".join(groups)
    typer.echo(f"Wrote {out}. Run: MIMIC_DATA={folder} lmms_eval --tasks {names} --model llava_ov_mask")


def _embed(source: Path, out: Path | None, context: typer.Context) -> None:
    """`--embed`: a sweep folder in the official form."""
    from mimic_eval.records.folders import done, is_finished
    from mimic_tasks.embed import embed

    for name in context.params:
        given = context.get_parameter_source(name)
        if name not in ("embed", "out") and given is not None and given.name == "COMMANDLINE":
            raise UserError(
                f"--embed takes a folder that is built already: leave out --{name.replace('_', '-')}"
            )
    if out is None:
        raise UserError("--out FOLDER is needed, the task folder to write")
    complete = is_finished(out)
    for name, docs in embed(source, out).items():
        typer.echo(f"mimic_{name}: {docs} docs with their pictures")
    typer.echo(done(out) if complete else f"Wrote {out}")
