"""`mimic show`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


def show(
    folder: Annotated[Path, Argument(help="A task folder that `mimic build` wrote.")],
    out: Annotated[Path | None, Option(help="Output page. [default: NAME.html, of the folder NAME]")] = None,
    tasks: Annotated[list[str] | None, Option(help="Tasks: a,b. [default: all it has]")] = None,
    docs: Annotated[int, Option(help="Show the first docs of each task, at most this many.")] = 100,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the page.")] = False,
) -> None:
    """Write one offline page of a task folder's docs: pictures, boxes, answers, balance."""
    from mimic_eval.cli.sources import task_names
    from mimic_tasks.show import summarize_folder
    from mimic_tasks.show.page import check_out, write_page

    page = out or Path(f"{folder.resolve().name or 'tasks'}.html")
    check_out(page, overwrite=overwrite)
    summary = summarize_folder(folder, limit=docs, kinds=task_names(tasks))
    new = write_page(summary, page, overwrite=overwrite)
    for part in summary.tasks:
        rest = f"; --docs {part.total} shows all" if len(part.docs) < part.total else ""
        typer.echo(f"mimic_{part.kind}: {len(part.docs)} of {part.total} docs shown{rest}")
    typer.echo(f"{'Wrote' if new else 'Unchanged:'} {page}: open it in a browser, no network needed")
