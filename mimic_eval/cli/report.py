"""`mimic report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic_eval.records import UserError

if TYPE_CHECKING:
    from leaderboard.runs import Run


def report(
    run_dir: Annotated[Path, typer.Argument(help="The --output_path of a run, or a folder below it.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
    figure: Annotated[bool, typer.Option("--figure", help="Also draw each sweep: an SVG and a CSV.")] = False,
    out: Annotated[Path | None, typer.Option(help="The figures' folder; else the runs' own.")] = None,
) -> None:
    """Print the table of the runs in a folder, and draw the figures of its sweeps."""
    import json

    from leaderboard.runs import read_runs
    from leaderboard.summary import summarize_run, unscored_reasons
    from leaderboard.table import render_table

    if out is not None and not figure:
        raise UserError("--out is the folder of --figure; give both")
    runs = read_runs(run_dir)
    rows = [row for run in runs for row in summarize_run(run)]
    if not rows:
        raise UserError(f"{run_dir}: its runs evaluated no MIMIC task")
    drawn = _draw(run_dir, runs, out or run_dir) if figure else []
    if json_:
        typer.echo(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        typer.echo(render_table(rows))
        for line in (line for run in runs for line in unscored_reasons(run)):
            typer.echo(f"unscored: {line}")
    for line in drawn:
        typer.echo(line, err=json_)


def _draw(run_dir: Path, runs: "list[Run]", folder: Path) -> list[str]:
    """Write the figures of the runs' sweeps; returns what to say of them."""
    from leaderboard.figure import render_csv, render_svg
    from leaderboard.sweeps import summarize_sweeps

    figures = summarize_sweeps(runs)
    if not figures:
        raise UserError(f"{run_dir} holds no sweep; run one that `mimic sweep` built")
    files = [(figure, render_svg(figure), render_csv(figure)) for figure in figures]
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    for figure, svg, text in files:
        drawing, table = folder / f"{figure.task}.svg", folder / f"{figure.task}.csv"
        drawing.write_bytes(svg)
        table.write_text(text, encoding="utf-8")
        said += [*(f"{figure.task}: {note}" for note in figure.notes), str(drawing), str(table)]
    return said
