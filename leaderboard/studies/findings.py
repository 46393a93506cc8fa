"""What a study measured beside scores, and whether it is what the paper says in words."""

from collections.abc import Sequence
from typing import NamedTuple

from leaderboard.measures import Estimate
from mimic_eval.studies.outputs import Claim


class Finding(NamedTuple):
    """A number with its interval that a claim may be about.

    Attributes:
        of: of `mimic_eval.studies.outputs.FINDINGS`.
        name: what it is: ``change from s = 1 to s = 4``.
        setting: of the study.
        label: of the cell.
        task: or several, joined by commas.
        estimate: with its interval.
        n: docs or matched sets behind it.
        pvalue: of its test, or None.
    """

    of: str
    name: str
    setting: str
    label: str
    task: str
    estimate: Estimate
    n: int
    pvalue: float | None = None


class CheckedClaim(NamedTuple):
    """A claim of the paper with one measurement; `finding` is None where nothing was measured."""

    claim: Claim
    finding: Finding | None
    verdict: str


AGREES, OPPOSITE, NOT_SHOWN, NO_CHANGE, CHANGE, MISSING = (
    "as the paper says",
    "the opposite",
    "not shown: the interval holds both",
    "no change shown, which is not the same as none",
    "a change: not as the paper says",
    "not measured",
)
"""Verdicts."""


def checked_claims(claims: Sequence[Claim], findings: Sequence[Finding]) -> list[CheckedClaim]:
    """Each claim with each finding that it is about, or one line without any."""
    rows = []
    for claim in claims:
        found = [
            one
            for one in findings
            if one.of == claim.of and claim.name in one.name
            if claim.setting in ("", one.setting) and claim.task in ("", one.task)
        ]
        rows += [CheckedClaim(claim, one, verdict(claim.expect, one.estimate)) for one in found]
        if not found:
            rows.append(CheckedClaim(claim, None, MISSING))
    return rows


def verdict(expect: str, estimate: Estimate) -> str:
    """What an interval says of an expectation: ``below 0``, ``above 0``, ``near 0``, or another number."""
    kind, _, number = expect.partition(" ")
    level = float(number)
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        why = estimate.method.removeprefix("no interval ")
        return f"no interval: {why}" if why else "no interval"
    if kind == "near":
        return NO_CHANGE if low <= level <= high else CHANGE
    below, above = high < level, low > level
    if kind == "below":
        return AGREES if below else OPPOSITE if above else NOT_SHOWN
    return AGREES if above else OPPOSITE if below else NOT_SHOWN
