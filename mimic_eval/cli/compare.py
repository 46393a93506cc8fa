"""`mimic compare`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.cli.formats import Format

_FILES = {"markdown": "compare.md", "latex": "compare.tex", "csv": "compare.csv", "json": "compare.json"}


def compare(
    runs: Annotated[list[Path], typer.Argument(help="--output_path of each run; the baseline first.")],
    out: Annotated[
        Path, typer.Option(help="Output folder for compare.json, .md, .csv and .tex (LaTeX rows).")
    ] = Path("compare"),
    margin: Annotated[
        float | None, typer.Option(help="Also test whether runs are equivalent within so many points.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="RUN=NAME: what tables and sentences call a run; repeatable.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.text,
) -> None:
    """Compare runs on the same docs: paired tests, intervals, flips, and sentences for a paper.

    "No difference shown" comes with the smallest difference that the docs would have shown, and does not mean
    that there is none: --margin tests that.
    """
    from leaderboard.arms import names_given, read_arm
    from leaderboard.comparison import compare as compared
    from leaderboard.comparison_text import render_text, rendered
    from leaderboard.equivalence import margin_of
    from mimic_eval.records.folders import check_path

    check_path(out)
    within = None if margin is None else margin_of(margin)
    names = names_given(label or [], runs)
    comparison = compared([read_arm(path, names.get(path, "")) for path in runs], margin=within)
    out.mkdir(parents=True, exist_ok=True)
    files = rendered(comparison)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    if format_ is Format.text:
        typer.echo(render_text(comparison, str(out)))
    else:
        typer.echo(files[_FILES[format_]], nl=False)
