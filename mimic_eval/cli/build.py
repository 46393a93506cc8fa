"""`mimic build`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.records import TASK_KINDS, UserError, nearest


def parse_kind(name: str) -> str:
    """``counting`` from ``counting`` or ``mimic_counting``.

    Raises:
        UserError: no such task.
    """
    short = name.removeprefix("mimic_")
    if short not in TASK_KINDS:
        raise UserError(nearest("task", name, TASK_KINDS))
    return short


def build(
    annotations: Annotated[
        list[Path], typer.Option(help="COCO instances JSON. Repeat, in pairs with --images.")
    ],
    images: Annotated[list[Path], typer.Option(help="The folder of its pictures.")],
    out: Annotated[Path, typer.Option(help="The task folder to write.")],
    task: Annotated[
        list[str] | None, typer.Option(help="counting, listing, common or oddone. Repeat. [all]")
    ] = None,
    docs: Annotated[int, typer.Option(help="Docs a task.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    n_images: Annotated[str | None, typer.Option(help="Images a doc, a number or a range. [2-6]")] = None,
    spread: Annotated[str | None, typer.Option(help="Counting: images with a target.")] = None,
    distractors: Annotated[str | None, typer.Option(help="Counting: images without one.")] = None,
    k: Annotated[int, typer.Option(help="Counting: target classes a question, 1-5.")] = 1,
    classes: Annotated[
        str | None, typer.Option(help="The only classes to ask about, separated by commas.")
    ] = None,
    split: Annotated[str, typer.Option(help="Counting: balanced, unbalanced, or both (half each).")] = "both",
    total: Annotated[str | None, typer.Option(help="Counting, balanced: instances in all. [2-8]")] = None,
    max_reuse: Annotated[int | None, typer.Option(help="Docs of a task that an image may serve.")] = None,
    allow_fewer: Annotated[bool, typer.Option("--allow-fewer", help="Take what the data can give.")] = False,
    label: Annotated[str | None, typer.Option(help="The label of results made with it. [file names]")] = None,
) -> None:
    """Build a task folder from COCO boxes, under exact control (METHODS 2)."""
    from mimic_tasks.build import BuildOptions
    from mimic_tasks.build import build as build_folder
    from mimic_tasks.planning import DEFAULT_TOTAL, Controls, Range, parse_range

    def optional(option: str, text: str | None, minimum: int) -> Range | None:
        return None if text is None else parse_range(option, text, minimum=minimum)

    kinds = [parse_kind(name) for name in task] if task else list(TASK_KINDS)
    controls = Controls(
        n_images=optional("--n-images", n_images, 1),
        spread=optional("--spread", spread, 1),
        distractors=optional("--distractors", distractors, 0),
        k=k,
        split=split,
        total=optional("--total", total, 1) or DEFAULT_TOTAL,
        narrowed=split != "both"
        or k != 1
        or any(o is not None for o in (n_images, spread, distractors, classes, total)),
    )
    result = build_folder(
        BuildOptions(
            annotations=tuple(annotations),
            images=tuple(images),
            out=out,
            tasks=tuple(kind for kind in TASK_KINDS if kind in kinds),
            docs=docs,
            seed=seed,
            controls=controls,
            classes=tuple(dict.fromkeys(name.strip() for name in classes.split(",")))
            if classes is not None
            else None,
            max_reuse=max_reuse,
            allow_fewer=allow_fewer,
            label=label,
        )
    )
    for line in result.shortages:
        typer.echo(f"fewer than asked: {line}", err=True)
    for kind, count in result.counts.items():
        typer.echo(f"mimic_{kind}: {count} docs")
    typer.echo(
        f"Wrote {result.out}. Run: MIMIC_DATA={result.out} lmms_eval --tasks mimic --model llava_ov_mask"
    )
