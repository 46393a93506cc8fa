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
    from leaderboard.summary import summarize_run, unscored_reasons
    from leaderboard.table import render_table

    runs = read_runs(run_dir)
    rows = [row for run in runs for row in summarize_run(run)]
    if not rows:
        raise UserError(f"{run_dir}: its runs evaluated no MIMIC task")
    if json_:
        typer.echo(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        typer.echo(render_table(rows))
        for line in (line for run in runs for line in unscored_reasons(run)):
            typer.echo(f"unscored: {line}")
