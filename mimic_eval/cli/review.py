"""`mimic review page` and `mimic review score`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

app = typer.Typer(
    help="Blind review: people answer docs, and their answers become rows next to those of models.",
    no_args_is_help=True,
)


@app.command("page")
def page(
    folder: Annotated[Path, Argument(help="A task folder that `mimic build` wrote.")],
    out: Annotated[Path, Option(help="Output page.")] = Path("review.html"),
    tasks: Annotated[list[str] | None, Option(help="Tasks: a,b. [default: all it has]")] = None,
    docs: Annotated[int, Option(help="Docs per task, sampled by --seed.")] = 25,
    seed: Annotated[int, Option(help="Random seed: the same docs for every person.")] = 0,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the page.")] = False,
) -> None:
    """Write an offline page of docs without their truth; a person answers and exports a JSON file."""
    from mimic_eval.cli.sources import task_names
    from mimic_eval.records.folders import write_atomically
    from mimic_tasks.review import summarize_review
    from mimic_tasks.review.page import render_review
    from mimic_tasks.show.page import check_out

    check_out(out, overwrite=overwrite)
    review = summarize_review(folder, docs=docs, kinds=task_names(tasks), seed=seed)
    write_atomically(out, render_review(review).encode())
    if review.skipped:
        typer.echo(f"{review.skipped} docs were left out: a picture cannot be decoded", err=True)
    typer.echo(f"Wrote {out}: {len(review.docs)} docs, {len(review.pictures)} pictures; no network needed")
    typer.echo(f"Then: mimic review score ANSWERS.json --data {shlex.quote(str(folder))} --out runs/human")


@app.command("score")
def score(
    answers: Annotated[list[Path], Argument(help="Files exported from the page, one for each person.")],
    data: Annotated[Path, Option(help="The task folder that the page was made from.")],
    out: Annotated[Path, Option(help="A new folder: a run folder for each person, and the doubtful docs.")],
) -> None:
    """Score people's answers like a model's, and list the docs whose truth people do not share."""
    from leaderboard.runs import read_runs
    from leaderboard.summary import summarize_run
    from leaderboard.table import render_table
    from mimic_tasks.review.answers import read_answers, score_answers, write_doubts

    people = [read_answers(path) for path in answers]
    _, doubts = score_answers(people, data, out)
    file = write_doubts(doubts, out)
    typer.echo(render_table([row for run in read_runs(out) for row in summarize_run(run)]))
    total = len({one.content_hash for person in people for one in person.answers})
    typer.echo(
        f"{len(doubts)} of {total} docs are in doubt: at least half of the people differ from the truth"
    )
    for doubt in doubts:
        typer.echo(f"{doubt.task} {doubt.content_hash[:12]}: {doubt.reason}")
    typer.echo(f"Wrote {file}: leave these docs out with --exclude-docs {shlex.quote(str(file))}")
