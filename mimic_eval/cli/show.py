"""`mimic show`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


def show(
    folder: Annotated[Path, Argument(help="A task folder that `mimic build` wrote.")],
    out: Annotated[Path | None, Option(help="Output page. [default: NAME.html, of the folder NAME]")] = None,
    task: Annotated[list[str] | None, Option(help="Task; repeat. [default: all it has]")] = None,
    limit: Annotated[int, Option(help="Show the first docs of each task, at most this many.")] = 100,
    force: Annotated[bool, Option("--force", help="Overwrite the page.")] = False,
) -> None:
    """Write one offline page of a task folder's docs: pictures, boxes, answers, balance."""
    from mimic_tasks.show import summarize_folder
    from mimic_tasks.show.page import check_out, write_page

    page = out or Path(f"{folder.resolve().name or 'tasks'}.html")
    check_out(page, force=force)
    kinds = [name.removeprefix("mimic_") for name in task] if task else None
    summary = summarize_folder(folder, limit=limit, kinds=kinds)
    new = write_page(summary, page, force=force)
    for part in summary.tasks:
        rest = f"; --limit {part.total} shows all" if len(part.docs) < part.total else ""
        typer.echo(f"mimic_{part.kind}: {len(part.docs)} of {part.total} docs shown{rest}")
    typer.echo(f"{'Wrote' if new else 'Unchanged:'} {page}: open it in a browser, no network needed")
