"""`mimic report`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.records import UserError


def report(
    run_dir: Annotated[Path, typer.Argument(help="The --output_path of a run, or a folder below it.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
) -> None:
    """Print the table of the runs in a folder."""
    import json

    from leaderboard.runs import read_runs
    from leaderboard.summary import summarize_run
    from leaderboard.table import render_table

    rows = [row for run in read_runs(run_dir) for row in summarize_run(run)]
    if not rows:
        raise UserError(f"{run_dir}: its runs evaluated no MIMIC task")
    if json_:
        typer.echo(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        typer.echo(render_table(rows))
