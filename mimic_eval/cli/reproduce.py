"""`mimic reproduce`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mimic_eval.cli.sources import Annotations, ClassDescriptions, Hierarchy, Images, source_files
from mimic_eval.records import UserError, check_integer
from mimic_eval.records.processes import rank

if TYPE_CHECKING:
    from mimic_eval.cli.reproducing.plan import Plan
    from mimic_eval.cli.reproducing.running import Ran

_FAILED = 1


def reproduce(
    study: Annotated[
        str | None, Argument(help="A study's id (see --list), or your own file (YAML, docs/studies.md).")
    ] = None,
    model: Annotated[str, Option(help="A *_mask model of lmms_eval.")] = "llava_ov_mask",
    pretrained: Annotated[
        str | None, Option(help="Checkpoint: a folder or a Hub id. [default: the embedded one]")
    ] = None,
    model_args: Annotated[str, Option(help="Of all cells, as for lmms_eval: dtype=bfloat16,...")] = "",
    entry: Annotated[
        list[str] | None,
        Option(help="A further model that the study names, as masked:peft=FOLDER; repeat."),
    ] = None,
    docs: Annotated[
        int | None, Option(help="Docs of each task, or cell of a sweep. [default: the study's]")
    ] = None,
    seed: Annotated[int | None, Option(help="Random seed of what is built. [default: the study's]")] = None,
    out: Annotated[Path | None, Option(help="Output folder; a stopped study goes on there.")] = None,
    batch_size: Annotated[int, Option(help="Docs at a time.")] = 1,
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:N. [default: a GPU if there is one]")] = None,
    annotations: Annotations = None,
    images: Images = None,
    class_descriptions: ClassDescriptions = None,
    hierarchy: Hierarchy = None,
    data: Annotated[Path | None, Option(help="A task folder to use instead of building one.")] = None,
    allow_fewer: Annotated[
        bool, Option("--allow-fewer", help="Build fewer docs if the data allow no more.")
    ] = False,
    shard: Annotated[
        str | None, Option(help="Run only the i-th of n parts of the cells: 1/4, 2/4, ...")
    ] = None,
    leave_out: Annotated[
        bool, Option("--leave-out", help="Leave out cells that this model cannot run.")
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print cells, docs, passes, and an estimate of time and memory.")
    ] = False,
    list_: Annotated[bool, Option("--list", help="List the packaged studies and exit.")] = False,
) -> None:
    """Run a published figure or table on your model, and compare with what is reported."""
    from mimic_eval.studies import packaged, read_study

    if list_:
        for name in packaged():
            read = read_study(name)
            typer.echo(f"{name}: {read.title} ({read.paper}, {read.figure})")
        return
    if study is None:
        raise UserError(f"which study? A YAML file, or one of {', '.join(packaged())}")
    if out is None and not dry_run:
        raise UserError("--out FOLDER is needed, the folder for the runs and the page (or --dry-run)")
    if data is not None and (annotations or images):
        raise UserError("--data is a task folder that is built already: leave --annotations and --images out")
    check_integer("--batch-size", batch_size, least=1, most=100_000)

    from mimic_eval.cli.reproducing.data import check_data, make_data
    from mimic_eval.cli.reproducing.plan import Request, make_plan

    common = [model_args] if model_args else []
    common += [f"batch_size={batch_size}"] if batch_size > 1 else []
    common += [f"device={device}"] if device else []
    plan = make_plan(
        Request(
            study=study,
            model=model,
            pretrained=pretrained,
            model_args=",".join(common),
            entries=tuple(entry or ()),
            docs=docs,
            seed=seed,
            shard=shard,
            out=out,
            data=data,
            sources=source_files(annotations, images, class_descriptions, hierarchy) if annotations else None,
            allow_fewer=allow_fewer,
            leave_out=leave_out,
        )
    )
    check_data(plan.study)
    for note in plan.notes:
        print(note, file=sys.stderr)
    if not plan.mine:
        print(f"--shard {shard}: the study has {len(plan.cells)} cells, none for this part", file=sys.stderr)
        return
    built = make_data(plan)
    for note in built.notes:
        print(note, file=sys.stderr)

    from mimic_eval.cli.reproducing.running import check_early, run_cells, variables

    with variables(plan, built):
        check_early(plan, out or Path("OUT"))
        if dry_run:
            from mimic_eval.cli.reproducing.estimate import estimate

            for line in estimate(plan):
                typer.echo(line)
            return
        assert out is not None
        from mimic_eval.cli.reproducing.record import add_notes, open_folder

        out = out.expanduser()
        open_folder(plan, built, out)
        ran = run_cells(plan, out)
        add_notes(out, ran.notes)
    if rank() == 0:
        _report(plan, ran, out)
    if ran.failed:
        name, reason = next(iter(ran.failed.items()))
        print(
            f"error: {len(ran.failed)} of {len(plan.mine)} cells failed ({name}: {reason}); the same command "
            f"runs them again: {shlex.join(['mimic', *sys.argv[1:]])}",
            file=sys.stderr,
        )
        raise typer.Exit(_FAILED)


def _report(plan: "Plan", ran: "Ran", out: Path) -> None:
    """The page, and what to say at the end."""
    if ran.finished:
        from leaderboard.studies.output import write_study
        from leaderboard.studies.text import render_text

        typer.echo(render_text(write_study(out)))
    for line in ran.lines(plan, out):
        typer.echo(line)
