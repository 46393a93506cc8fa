"""`mimic report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic_eval.cli.formats import Format, Paper
from mimic_eval.records import UserError

if TYPE_CHECKING:
    from leaderboard.runs import Run


_FILES = {"markdown": "report.md", "latex": "report.tex", "csv": "report.csv"}


def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="--output_path of runs, or folders around them.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
    figure: Annotated[bool, typer.Option("--figure", help="Also draw each sweep: an SVG and a CSV.")] = False,
    paper: Annotated[
        Paper | None,
        typer.Option(help="Draw sweeps for a paper, so many inches wide: SVG and PDF without title."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="RUN=NAME: what figures and slopes call the runs of a folder; repeatable."),
    ] = None,
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
    from mimic_eval.records.folders import check_path

    if out is not None:
        check_path(out)
    json_ = json_ or format_ is Format.json
    runs = list({Path(run.name).resolve(): run for folder in run_dirs for run in read_runs(folder)}.values())
    folders = " ".join(map(str, run_dirs))
    rows = summarize_sub_tasks(runs) if sub_tasks else summarize_runs(runs)
    left_out = [note for run in runs for note in upstream_scores(run)[1]]
    if not rows and sub_tasks:
        raise UserError(f"{folders}: no logged task of its runs has sub-tasks (run them with --log_samples)")
    if not rows:
        raise UserError("; ".join([f"{folders}: its runs with scores evaluated no MIMIC task", *left_out]))
    names = _names(label or [], runs)
    drawn = _draw(folders, runs, names, out or run_dirs[0], paper) if figure or paper else []
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
        lines = [*(f"{line}." for line in sweep_sentences(runs, names)), *lines]
        if lines:
            typer.echo(wrapped(lines))
    else:
        typer.echo(files[_FILES[format_]], nl=False)
    for line in (*left_out, *drawn):
        typer.echo(line, err=not plain)


def _draw(
    folders: str, runs: "list[Run]", names: dict[str, str], folder: Path, paper: Paper | None
) -> list[str]:
    """Write the figures of the runs' sweeps; returns the messages about them."""
    from leaderboard.figure import render_csv, render_svg
    from leaderboard.paper_sweeps import paper_files
    from leaderboard.sweeps import summarize_sweeps

    figures = summarize_sweeps(runs, names)
    if not figures:
        raise UserError(f"{folders} holds no sweep; run one that `mimic sweep` built")
    files: dict[str, bytes] = {}
    notes: list[str] = []
    if paper:
        files, notes = paper_files(figures, float(paper))
    else:
        for figure in figures:
            files[f"{figure.task}.svg"] = render_svg(figure)
            files[f"{figure.task}.csv"] = render_csv(figure).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    notes = [*(f"{figure.task}: {line}" for figure in figures for line in figure.notes), *notes]
    return [*notes, *(str(folder / name) for name in files)]


def _names(given: list[str], runs: "list[Run]") -> dict[str, str]:
    """The user's names of runs, by `Run.name`: RUN is the run's folder or one around it."""
    from leaderboard.arms import names_given

    paths = {path for run in runs for path in Path(run.name).parents}
    names = names_given(given, sorted(paths, reverse=True))
    return {run.name: name for path, name in names.items() for run in runs if path in Path(run.name).parents}
