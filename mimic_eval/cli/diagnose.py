"""`mimic diagnose`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mimic_eval.records import UserError, check_integer, nearest

app = typer.Typer(invoke_without_command=True)


@app.callback()
def diagnose(
    context: typer.Context,
    model: Annotated[str | None, Option(help="A *_mask model of lmms_eval, such as llava_ov_mask.")] = None,
    model_args: Annotated[str, Option(help="Its arguments, as of lmms_eval.")] = "",
    tasks: Annotated[
        str | None, Option(help="Tasks of lmms_eval with several images, joined by commas.")
    ] = None,
    docs: Annotated[int, Option(help="The first docs of each task.")] = 50,
    out: Annotated[Path, Option(help="Output folder; a stopped run goes on there.")] = Path("diagnose"),
    sinks: Annotated[
        str | None,
        Option(help="How sinks are found under a mask that needs none: calibration=FILE,tau=8; or off."),
    ] = None,
    maps: Annotated[
        list[str] | None,
        Option(help="Draw a doc's attention over its images: NUMBER or TASK:NUMBER; repeat."),
    ] = None,
    map_rows: Annotated[str, Option(help="Of which rows: answer, question, last, or image:2.")] = "answer",
    map_layers: Annotated[str, Option(help="In which layers, as of layers=.")] = "all",
    include_path: Annotated[Path | None, Option(help="A folder of further tasks, as of lmms_eval.")] = None,
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:N. [default: a GPU if there is one]")] = None,
) -> None:
    """Run docs once, and write what attention does: between images, on sinks, in the truth boxes."""
    if context.invoked_subcommand is not None:
        return
    if model is None or tasks is None:
        raise UserError("mimic diagnose needs --model and --tasks; `mimic diagnose --help` shows all options")
    from mimic_eval.cli.diagnosing.run import Job
    from mimic_eval.cli.diagnosing.run import diagnose as run

    run(
        Job(
            model, model_args, tasks, docs, out.expanduser(), sinks, include_path, device,
            tuple(maps or ()), map_rows, map_layers,
        )
    )  # fmt: skip


@app.command("compare")
def compare(
    before: Annotated[Path, Argument(help="--out of a diagnosed run.")],
    after: Annotated[Path, Argument(help="--out of another one on the same docs.")],
    out: Annotated[Path, Option(help="Output folder for compare.json and the figures.")] = Path(
        "diagnose-compare"
    ),
) -> None:
    """Compare two diagnosed runs on the same docs: paired tests, shifts, figures."""
    from leaderboard.diagnosis.comparison import write_comparison
    from leaderboard.diagnosis.text import render_text
    from mimic_eval.records.folders import check_path
    from mimic_eval.records.reading import read_json

    check_path(out)
    write_comparison(before, after, out)
    typer.echo(render_text(read_json(out / "compare.json")))
    typer.echo(f"Wrote {out / 'compare.json'} and the figures (SVG, CSV) beside it")


@app.command("heads")
def heads(
    run: Annotated[Path, Argument(help="--out of a diagnosed run of MIMIC tasks.")],
    best: Annotated[int, Option(help="How many heads to choose.")] = 20,
    rows: Annotated[
        str, Option(help="Whose attention: answer (the rows that predict it), question, or text (both).")
    ] = "answer",
    controls: Annotated[int, Option(help="Sets of as many random heads.")] = 3,
    seed: Annotated[int, Option(help="Seed of the random heads.")] = 0,
    out: Annotated[Path, Option(help="Output folder.")] = Path("heads"),
) -> None:
    """Rank heads by their attention in the truth boxes; write files for heads=@FILE, with controls."""
    from leaderboard.diagnosis.heads import ROWS, search, write_search
    from mimic_eval.cli.diagnosing.head_text import render_heads
    from mimic_eval.records.folders import check_path

    check_path(out)
    if rows not in ROWS:
        raise UserError(nearest("value of --rows", rows, ROWS))
    check_integer("--best", best, least=1, most=1_000_000)
    check_integer("--controls", controls, least=0, most=1000)
    check_integer("--seed", seed, least=0, most=2**31)
    found = search(run, best=best, rows=rows)
    files = write_search(found, run, out, controls=controls, seed=seed)
    typer.echo(render_heads(found, run, files))
