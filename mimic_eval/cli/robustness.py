"""`mimic robustness`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.cli.formats import Format, Paper

_FILES = {
    "markdown": "robustness.md",
    "latex": "robustness.tex",
    "csv": "robustness.csv",
    "json": "robustness.json",
}


def robustness(
    runs: Annotated[list[Path], typer.Argument(help="--output_path of each run of permuted tasks.")],
    out: Annotated[
        Path, typer.Option(help="Output folder for robustness.json, .md, .tex, .csv, figures and their CSV.")
    ] = Path("robustness"),
    margin: Annotated[
        float | None, typer.Option(help="Also test that no order effect is larger than so many points.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="RUN=NAME: what tables and sentences call a run; repeatable.")
    ] = None,
    paper: Annotated[
        Paper | None,
        typer.Option(help="Figures for a paper, so many inches wide: SVG and PDF without title."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.text,
) -> None:
    """Measure how answers depend on the order of the images; compare each run with the first."""
    from leaderboard.arms import names_given, read_arm
    from leaderboard.equivalence import margin_of
    from leaderboard.robustness import robustness as measured
    from leaderboard.robustness_figure import paper_files, render_svg
    from leaderboard.robustness_output import render_csv, render_text, rendered
    from mimic_eval.records.folders import check_path

    check_path(out)
    within = None if margin is None else margin_of(margin)
    names = names_given(label or [], runs)
    report = measured([read_arm(path, names.get(path, "")) for path in runs], margin=within)
    out.mkdir(parents=True, exist_ok=True)
    files, written = rendered(report), []
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = [row for row in report.rows if row.task == task]
        written.append(out / f"{task}.csv")
        written[-1].write_text(render_csv(rows), encoding="utf-8")
        if not paper and any(row.placed for row in rows):
            written.append(out / f"{task}.svg")
            written[-1].write_bytes(render_svg(rows))
    for name, content in (paper_files(report.rows, float(paper)) if paper else {}).items():
        written.append(out / name)
        written[-1].write_bytes(content)
    if format_ is not Format.text:
        typer.echo(files[_FILES[format_]], nl=False)
        return
    typer.echo(render_text(report, str(out)))
    typer.echo("\n".join(["Wrote", *(f"  {path}" for path in written)]))
