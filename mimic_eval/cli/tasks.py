"""`mimic tasks`: which task folder applies, and what it holds."""

import typer

app = typer.Typer(help="Which tasks a run finds.", no_args_is_help=True, rich_markup_mode=None)


@app.command("path")
def path() -> None:
    """Print the folder of the mimic_* tasks that applies now: MIMIC_DATA, else the embedded one."""
    from mimic_tasks.locate import task_folder

    typer.echo(str(task_folder().path))


@app.command("list")
def list_() -> None:
    """Print the tasks that lmms_eval finds now."""
    from mimic_tasks.locate import official_folder, task_folder

    folder = task_folder()
    typer.echo(f"{folder.path} ({folder.label})")
    for name in (*folder.tasks, *folder.permuted, *official_folder().tasks):
        typer.echo(f"  {name}")
