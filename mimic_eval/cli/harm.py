"""`mimic do-no-harm`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.records import UserError


def do_no_harm(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="--output_path of two runs: the base model, the masked one.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Test whether they are equivalent within so many points.")
    ] = 1.0,
    list_: Annotated[bool, typer.Option("--list", help="Print the tasks and what they score.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="Print the names for lmms_eval --tasks.")] = False,
    lite: Annotated[
        bool, typer.Option("--lite", help="With --list and --tasks: the shorter form where there is one.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
) -> None:
    """Compare a masked run with its base on lmms-eval's single-image tasks that need no judge model.

    Paired tests, intervals, and an equivalence test for each task. The runs: lmms_eval --tasks $(mimic
    do-no-harm --tasks) --log_samples, once with mask=none and once with the mask.
    """
    if sum((bool(runs), list_, tasks)) != 1:
        raise UserError("give two runs (the base first), or --list, or --tasks")
    if lite and runs:
        raise UserError("--lite is for --list and --tasks: runs are read with the tasks that they have")

    from leaderboard.single_image import do_no_harm as compared
    from leaderboard.single_image import group_text, render_json, render_text, task_names

    if tasks:
        typer.echo(",".join(task_names(lite=lite)))
    elif list_:
        typer.echo(group_text(lite=lite))
    else:
        from leaderboard.arms import read_arm
        from leaderboard.equivalence import margin_of

        if runs is None or len(runs) != 2:
            raise UserError(f"do-no-harm compares two runs, the base first; got {len(runs or ())}")
        base, masked = map(read_arm, runs)
        comparison = compared(base, masked, margin=margin_of(margin))
        typer.echo(render_json(comparison) if json_ else render_text(comparison))
