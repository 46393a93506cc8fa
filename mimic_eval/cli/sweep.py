"""`mimic sweep`."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mimic_eval.cli.sources import (
    Annotations,
    ClassDescriptions,
    Classes,
    Hierarchy,
    Images,
    Profile,
    class_names,
    source_files,
)
from mimic_eval.cli.words import check_given
from mimic_eval.records import UserError, check_integer


def sweep(
    files: Annotated[
        list[str] | None, Argument(help="Sweep files (YAML), or names of ready-made ones: see --list.")
    ] = None,
    annotations: Annotations = None,
    images: Images = None,
    out: Annotated[Path | None, Option(help="Output task folder; new or empty.")] = None,
    docs: Annotated[int | None, Option(help="Docs per cell. [default: the file's]")] = None,
    seed: Annotated[int | None, Option(help="Random seed. [default: the file's]")] = None,
    classes: Classes = None,
    profile: Profile = "countable",
    class_descriptions: ClassDescriptions = None,
    hierarchy: Hierarchy = None,
    allow_fewer: Annotated[
        bool, Option("--allow-fewer", help="Build fewer docs if the data allow no more.")
    ] = False,
    label: Annotated[str | None, Option(help="Label of the results. [default: file names]")] = None,
    plan_only: Annotated[
        bool, Option("--plan-only", help="Print the plan as JSON; no image is opened.")
    ] = False,
    list_: Annotated[bool, Option("--list", help="List the ready-made sweeps and exit.")] = False,
) -> None:
    """Build a grid of cells that differ only in what the sweep varies."""
    import json

    from mimic_tasks.sweeps import packaged, read_sweep
    from mimic_tasks.sweeps.building import SweepOptions, build_sweeps, plan_sweeps

    if list_:
        for name in packaged():
            typer.echo(f"{name}: {read_sweep(name).title}")
        return
    if not files:
        raise UserError(f"which sweep? A YAML file, or one of {', '.join(packaged())}")
    outputs = {} if plan_only else {"--out": out}
    check_given("sweep", {"--annotations": annotations, "--images": images, **outputs})
    if out is None and not plan_only:
        raise UserError("--out FOLDER is needed, the task folder to write (or --plan-only)")
    sweeps = []
    for file in files:
        read = read_sweep(file)
        if docs is not None:
            read = replace(read, docs=check_integer("--docs", docs, least=1, most=100_000))
        if seed is not None:
            read = replace(read, seed=check_integer("--seed", seed, least=0, most=2**63 - 1))
        sweeps.append(read)
    options = SweepOptions(
        sweeps=tuple(sweeps),
        sources=source_files(annotations, images, class_descriptions, hierarchy),
        out=out or Path(),
        classes=class_names(classes),
        profile=profile,
        allow_fewer=allow_fewer,
        label=label,
    )
    if plan_only:
        typer.echo(json.dumps(plan_sweeps(options), indent=1))
        return
    result = build_sweeps(options)
    for line in result.shortages:
        typer.echo(f"fewer than requested: {line}", err=True)
    for line in result.summary:
        typer.echo(line)
    folder = shlex.quote(str(out))
    typer.echo(
        f"Wrote {out}. Run: MIMIC_DATA={folder} lmms_eval --tasks mimic --model llava_ov_mask "
        "--model_args mask=none --batch_size 8 --log_samples --output_path RUNS/none; "
        "then, after other runs below RUNS: mimic report RUNS --figure"
    )
