"""`mimic compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="--output_path of each run; the baseline first.")],
    out: Annotated[Path, typer.Option(help="Output folder for compare.json, .md and .csv.")] = Path(
        "compare"
    ),
    margin: Annotated[
        float | None, typer.Option(help="Also test whether runs are equivalent within so many points.")
    ] = None,
) -> None:
    """Compare runs on the same docs: paired tests, intervals, flips, and a sentence for each task.

    "No difference shown" comes with the smallest difference that the docs would have shown, and does not mean
    that there is none: --margin tests that.
    """
    from leaderboard.arms import read_arm
    from leaderboard.comparison import compare as compared
    from leaderboard.comparison_text import render_text, rendered
    from leaderboard.equivalence import margin_of

    within = None if margin is None else margin_of(margin)
    comparison = compared([read_arm(path) for path in runs], margin=within)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in rendered(comparison):
        (out / name).write_text(text, encoding="utf-8")
    typer.echo(render_text(comparison))
    typer.echo(f"Wrote {out / 'compare.json'}, .md and .csv")
