"""`mimic robustness`."""

from pathlib import Path
from typing import Annotated

import typer


def robustness(
    runs: Annotated[list[Path], typer.Argument(help="--output_path of each run of permuted tasks.")],
    out: Annotated[Path, typer.Option(help="Output folder for the JSON, the figures and their CSV.")] = Path(
        "robustness"
    ),
    margin: Annotated[
        float | None, typer.Option(help="Also test that no order effect is larger than so many points.")
    ] = None,
) -> None:
    """Measure how answers depend on the order of the images; compare each run with the first."""
    from leaderboard.arms import read_arm
    from leaderboard.equivalence import margin_of
    from leaderboard.robustness import robustness as measured
    from leaderboard.robustness_output import render_csv, render_json, render_svg, render_text

    within = None if margin is None else margin_of(margin)
    report = measured([read_arm(path) for path in runs], margin=within)
    out.mkdir(parents=True, exist_ok=True)
    (out / "robustness.json").write_text(render_json(report), encoding="utf-8")
    written = [out / "robustness.json"]
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = [row for row in report.rows if row.task == task]
        written.append(out / f"{task}.csv")
        written[-1].write_text(render_csv(rows), encoding="utf-8")
        if any(row.placed for row in rows):
            written.append(out / f"{task}.svg")
            written[-1].write_bytes(render_svg(rows))
    typer.echo(render_text(report))
    typer.echo(f"Wrote {', '.join(map(str, written))}")
