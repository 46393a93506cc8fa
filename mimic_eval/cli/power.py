"""`mimic power`."""

from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.records import UserError, check_integer

_USUAL = (1.0, 2.0, 5.0, 10.0)
_MOST_DOCS = 10_000_000


def power(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="--output_path of two runs to plan from; the baseline first.")
    ] = None,
    delta: Annotated[
        list[float] | None,
        typer.Option(help="Difference to show, in points; repeat for more. [default: 1, 2, 5 and 10]"),
    ] = None,
    docs: Annotated[
        int | None,
        typer.Option(
            help="Print the smallest difference that so many docs show. [default: those of the runs]"
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Also print the docs needed to show equivalence within so many points."),
    ] = None,
    discordant: Annotated[
        float | None, typer.Option(help="Share of docs right under one run alone, 0.2 for 20 %.")
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the docs' differences in points (graded scores, F1)."),
    ] = None,
    design_effect: Annotated[
        float, typer.Option(help="How many times more docs clusters need; 1: independent docs.")
    ] = 1.0,
    power: Annotated[float, typer.Option(help="Chance to show the difference.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Level of the two-sided test.")] = 0.05,
    tests: Annotated[
        int, typer.Option(help="Tests in the Holm family: each is planned at alpha / tests.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the simulations.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
) -> None:
    """Print how many docs a comparison needs, and the smallest difference that it would show.

    From given numbers, or from two runs: their discordant share (right and wrong: McNemar's exact test), the
    spread of their docs' differences (graded scores, F1: the test of mimic compare, and Wilcoxon by
    simulation), and the clusters of sweeps.
    """
    deltas = tuple(_within("--delta", one, 0, 100) / 100 for one in delta or _USUAL)
    check_integer("--tests", tests, least=1, most=1_000_000)
    check_integer("--seed", seed, least=0, most=2**63 - 1)
    check_integer("--docs", docs or 1, least=1, most=_MOST_DOCS)
    alpha, power = _within("--alpha", alpha, 0, 1), _within("--power", power, 0, 1)
    design = _within("--design-effect", design_effect, 0, 10_000)
    given = [
        name for name, value in (("--discordant", discordant), ("--spread", spread)) if value is not None
    ]
    if runs and (given or design != 1):
        raise UserError(f"{(given or ['--design-effect'])[0]} comes from the runs: leave it out, or the runs")
    if not runs and len(given) != 1:
        raise UserError("give two runs, or --discordant (right and wrong), or --spread (graded scores)")

    from leaderboard.planning import Goal, plan_runs, plan_share, plan_spread
    from leaderboard.planning_text import render_json, render_text

    within = 0.0 if margin is None else _within("--margin", margin, 0, 100) / 100
    goal = Goal(deltas, alpha / tests, power, docs or 0, seed, within)
    notes: list[str] = []
    if runs:
        from leaderboard.arms import read_arm

        plans, notes = plan_runs(goal, [read_arm(path) for path in runs])
    elif discordant is not None:
        share = _within("--discordant", discordant, 0, 1, ends=True)
        if share < max(deltas) and delta:
            raise UserError(
                f"--discordant {share:g} is below --delta {100 * max(deltas):g}: for a difference of so many "
                f"points at least {max(deltas):g} of the docs are right under one run alone"
            )
        plans = [plan_share(goal, share, design=design)]
    else:
        plans = plan_spread(goal, _within("--spread", spread or 0.0, 0, 200) / 100, design=design)
    typer.echo(render_json(goal, plans, notes) if json_ else render_text(goal, plans, notes))


def _within(name: str, value: float, low: float, high: float, *, ends: bool = False) -> float:
    """A number above `low` and below `high` (at most, with `ends`).

    Raises:
        UserError: it is not.
    """
    if not (low < value < high or (ends and value == high)):
        raise UserError(
            f"{name} must be above {low:g} and {'at most' if ends else 'below'} {high:g}, got {value:g}"
        )
    return value
