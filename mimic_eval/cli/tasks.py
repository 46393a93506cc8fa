"""`mimic tasks`: which task folder applies, and what it holds."""

import typer

app = typer.Typer(help="List the available tasks.", no_args_is_help=True, rich_markup_mode=None)


@app.command("path")
def path() -> None:
    """Print the task folder in use: MIMIC_DATA, or the embedded one."""
    from mimic_tasks.locate import task_folder

    typer.echo(str(task_folder().path))


@app.command("list")
def list_() -> None:
    """Print the tasks that lmms_eval can run."""
    from mimic_tasks.locate import official_folder, task_folder

    folder = task_folder()
    typer.echo(f"{folder.path} ({folder.label})")
    for name in (*folder.tasks, *folder.permuted, *official_folder().tasks):
        typer.echo(f"  {name}")
