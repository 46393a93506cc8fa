"""A plan as text and JSON."""

import json
from collections.abc import Sequence

from leaderboard.planning import Goal, Plan


def render_text(goal: Goal, plans: Sequence[Plan], notes: Sequence[str]) -> str:
    """For a terminal: docs needed for each difference, then the smallest detectable ones and notes."""
    from tabulate import tabulate

    named = any(plan.task for plan in plans)
    headers = [*(["task", "metric", "n"] if named else []), "test", "from", "design effect"]
    headers += [f"docs for {100 * one:g} point{'s' * (one != 0.01)}" for one in goal.differences]
    body = []
    for plan in plans:
        cells = [plan.task, plan.metric, str(plan.n)] if named else []
        cells += [plan.test, _base(plan), f"{plan.design:.2f}"]
        cells += ["-" if one.docs is None else f"{one.docs}" for one in plan.needed]
        body.append(cells)
    lines = [tabulate(body, headers=headers, disable_numparse=True), ""]
    for plan in plans:
        where = f"{plan.task}: " if plan.task else ""
        if plan.docs:
            least = "too few docs to detect any difference, or none differs"
            if plan.detectable is not None:
                least = f"the smallest detectable difference is {100 * plan.detectable:.1f} points"
            lines.append(f"{where}with {plan.docs} docs {least} ({plan.test}).")
        if plan.equivalence:
            shown = plan.equivalence.docs
            wanted = plan.equivalence.reason if shown is None else f"{shown} docs"
            margin = f"{100 * goal.margin:g} point{'s' * (goal.margin != 0.01)}"
            lines.append(
                f"{where}to be called equivalent within {margin} where there is no difference: {wanted}."
            )
        for reason in dict.fromkeys(one.reason for one in plan.needed if one.reason):
            lines.append(f"{where}{plan.test}: {reason}.")
        if plan.note:
            lines.append(f"{where}{plan.test}: {plan.note}.")
    lines.append(f"Power {goal.power:g}, two-sided, level {goal.alpha:.4g} of one test.")
    return "\n".join([*lines, *notes])


def render_json(goal: Goal, plans: Sequence[Plan], notes: Sequence[str]) -> str:
    """Every number, shares not points."""
    rows = [{**plan._asdict(), "needed": [one._asdict() for one in plan.needed]} for plan in plans]
    return json.dumps({"goal": goal._asdict(), "plans": rows, "notes": list(notes)}, indent=1)


def _base(plan: Plan) -> str:
    if plan.discordant is not None:
        return f"{100 * plan.discordant:.1f} % discordant"
    return f"spread {100 * (plan.spread or 0):.1f} points"
