"""Proof that nothing moved but what the sweep varies: cells' histograms, and a test of their difference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimic_eval.records import UserError
from mimic_tasks.sweeps.spec import Sweep

ALPHA = 0.05
"""A build fails when a test's p is below this."""

_RESAMPLES = 4999
_LEAST_EXPECTED = 5


class Balance(NamedTuple):
    """How one thing is spread over the cells.

    Attributes:
        of: ``classes`` (Counting: the asked ones; Listing: categories; else the answer's class) or
            ``answers`` (Counting: the number for each asked class; Listing: the listed classes).
        histograms: of each cell by its name: value -> count.
        moves: None, or why this may differ between the cells of this sweep, so that it is not tested.
        statistic: Pearson's chi-squared of the cells x values table; None if not tested.
        pvalue: that all cells come from one distribution.
        test: how p was found, by its exact name.
    """

    of: str
    histograms: Mapping[str, Mapping[str, int]]
    moves: str | None
    statistic: float | None
    pvalue: float | None
    test: str

    def record(self) -> dict[str, Any]:
        """As a JSON-able mapping."""
        return {**self._asdict(), "histograms": {cell: dict(h) for cell, h in self.histograms.items()}}


def balance(sweep: Sweep, docs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Balance]:
    """Class and answer histograms of every cell, tested where the sweep leaves them alone.

    The cells of a matched sweep share their draws, so that the tests, which take cells for independent
    samples, find less than their level by chance; where every cell has the same histogram, p is 1.

    Args:
        sweep: what varies.
        docs: the finished docs of each cell by its name.
    """
    found = []
    for of, histogram in (("classes", _classes), ("answers", _answers)):
        histograms = {name: histogram(sweep.kind, rows) for name, rows in docs.items()}
        moves = _moves(sweep, of)
        if moves is not None:
            found.append(Balance(of, histograms, moves, None, None, "not tested"))
        else:
            found.append(Balance(of, histograms, None, *chi_squared(list(histograms.values()))))
    return found


def require_balance(sweep: Sweep, found: Sequence[Balance]) -> None:
    """Refuse cells that differ in what the sweep should leave alone.

    Raises:
        UserError: naming the histogram, the test and p.
    """
    for part in found:
        if part.pvalue is not None and part.pvalue < ALPHA:
            raise UserError(
                f"{sweep.task}: the {part.of} differ between the cells (chi-squared {part.statistic:.1f}, "
                f"p = {part.pvalue:.2g}, {part.test}): something else than {', '.join(sweep.vary)} moves. "
                "Ask for more docs, another seed, or other classes"
            )


def chi_squared(histograms: Sequence[Mapping[str, int]]) -> tuple[float, float, str]:
    """Pearson's test that histograms come from one distribution.

    Returns:
        Statistic, p and the test's name: by permutation (seeded) where an expected count is under 5.
    """
    from scipy.stats import PermutationMethod, chi2_contingency

    values = sorted(set().union(*histograms))
    table = np.array([[h.get(value, 0) for value in values] for h in histograms], dtype=np.int64)
    table = table[table.sum(axis=1) > 0]
    if len(table) < 2 or len(values) < 2:
        return 0.0, 1.0, "nothing to compare: one cell, or one value in all cells"
    plain = chi2_contingency(table, correction=False)
    if plain.expected_freq.min() >= _LEAST_EXPECTED or plain.statistic < 1e-9:
        return float(plain.statistic), float(plain.pvalue), "chi-squared test"
    method = PermutationMethod(n_resamples=_RESAMPLES, rng=np.random.default_rng(0))
    drawn = chi2_contingency(table, correction=False, method=method)
    return float(drawn.statistic), float(drawn.pvalue), f"chi-squared by {_RESAMPLES} permutations, seed 0"


def _classes(kind: str, docs: Sequence[Mapping[str, Any]]) -> Counter[str]:
    if kind == "listing":
        return Counter(doc["category"] for doc in docs)
    return Counter(name for doc in docs for name in doc["targets"])


def _answers(kind: str, docs: Sequence[Mapping[str, Any]]) -> Counter[str]:
    if kind == "listing":
        return Counter(name for doc in docs for name in doc["targets"])
    if kind == "counting":
        return Counter(part.rpartition(": ")[2] for doc in docs for part in doc["gt"].split(", "))
    return Counter(doc["gt"] for doc in docs)


def _moves(sweep: Sweep, of: str) -> str | None:
    """Why the sweep itself moves a histogram; None if it does not."""
    varied = set(sweep.vary)
    if "category" in varied:
        return "category varies"
    if of == "classes":
        return None
    deciding = {"counting": {"total"}, "listing": {"listed"}}.get(sweep.kind, set()) & varied
    if deciding:
        return f"{', '.join(sorted(deciding))} varies"
    natural = sweep.kind == "counting" and sweep.cells[0].controls.split == "unbalanced"
    if natural and "k" not in varied and _spread_moves(sweep):
        return "unbalanced: more target images hold more instances"
    return None


def _spread_moves(sweep: Sweep) -> bool:
    """Whether s differs between cells: it varies itself, or N does at a fixed d."""
    varied = set(sweep.vary)
    fixed = sweep.cells[0].controls
    return "spread" in varied or (
        bool(varied & {"n_images", "distractors"})
        and fixed.spread is None
        and fixed.distractors is not None
        and not {"n_images", "distractors"} <= varied
    )
