"""`mimic report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic_eval.cli.formats import Format
from mimic_eval.records import UserError

if TYPE_CHECKING:
    from leaderboard.runs import Run


_FILES = {"markdown": "report.md", "latex": "report.tex", "csv": "report.csv"}


def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="--output_path of runs, or folders around them.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
    figure: Annotated[bool, typer.Option("--figure", help="Also draw each sweep: an SVG and a CSV.")] = False,
    sub_tasks: Annotated[
        bool, typer.Option("--sub-tasks", help="A row for each sub-task, with its n and interval.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.csv, .md and .tex, and for figures [default: the first run's]."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.text,
) -> None:
    """Print the table of the runs in some folders, and draw the figures of their sweeps."""
    import json

    from leaderboard.doublings import sweep_sentences
    from leaderboard.runs import read_runs
    from leaderboard.sub_tasks import summarize_sub_tasks
    from leaderboard.summary import summarize_runs, unscored_reasons
    from leaderboard.table import render_table, rendered
    from leaderboard.terminal import wrapped
    from leaderboard.upstream import upstream_scores

    json_ = json_ or format_ is Format.json
    runs = list({Path(run.name).resolve(): run for folder in run_dirs for run in read_runs(folder)}.values())
    folders = " ".join(map(str, run_dirs))
    rows = summarize_sub_tasks(runs) if sub_tasks else summarize_runs(runs)
    left_out = [note for run in runs for note in upstream_scores(run)[1]]
    if not rows and sub_tasks:
        raise UserError(f"{folders}: no logged task of its runs has sub-tasks (run them with --log_samples)")
    if not rows:
        raise UserError("; ".join([f"{folders}: its runs evaluated no MIMIC task", *left_out]))
    drawn = _draw(folders, runs, out or run_dirs[0]) if figure else []
    files = rendered(rows)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
        drawn = [*drawn, *(str(out / name) for name in files)]
    plain = format_ is Format.text and not json_
    if json_:
        typer.echo(json.dumps([row._asdict() for row in rows], indent=1))
    elif plain:
        typer.echo(render_table(rows))
        lines = [f"unscored: {line}" for run in runs for line in unscored_reasons(run)]
        lines = [*(f"{line}." for line in sweep_sentences(runs)), *lines]
        if lines:
            typer.echo(wrapped(lines))
    else:
        typer.echo(files[_FILES[format_]], nl=False)
    for line in (*left_out, *drawn):
        typer.echo(line, err=not plain)


def _draw(folders: str, runs: "list[Run]", folder: Path) -> list[str]:
    """Write the figures of the runs' sweeps; returns the messages about them."""
    from leaderboard.figure import render_csv, render_svg
    from leaderboard.sweeps import summarize_sweeps

    figures = summarize_sweeps(runs)
    if not figures:
        raise UserError(f"{folders} holds no sweep; run one that `mimic sweep` built")
    files = [(figure, render_svg(figure), render_csv(figure)) for figure in figures]
    folder.mkdir(parents=True, exist_ok=True)
    messages = []
    for figure, svg, text in files:
        drawing, table = folder / f"{figure.task}.svg", folder / f"{figure.task}.csv"
        drawing.write_bytes(svg)
        table.write_text(text, encoding="utf-8")
        messages += [*(f"{figure.task}: {line}" for line in figure.notes), str(drawing), str(table)]
    return messages
