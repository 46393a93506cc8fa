"""Proof that nothing moved but what the sweep varies: cells' histograms, and a test of their difference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimic_eval.records import UserError
from mimic_tasks.sweeps.spec import Sweep
from mimic_tasks.task_spec import spec_of

ALPHA = 0.05
"""A build fails when a test's p is below this."""

_RESAMPLES = 4999
_LEAST_EXPECTED = 5


class Balance(NamedTuple):
    """How one thing is spread over the cells.

    Attributes:
        of: ``classes`` (Counting: those of the question; Listing: categories; else the answer's class) or
            ``answers`` (Counting: the number for each class; Listing: the listed classes).
        histograms: of each cell by its name: value -> count.
        moves: None, or why this may differ between the cells of this sweep, so that it is not tested.
        statistic: Pearson's chi-squared of the cells x values table; None if not tested.
        pvalue: that all cells come from one distribution.
        test: that p is of, by its exact name.
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
    results = []
    spec = spec_of(sweep.kind)
    for of, values in (("classes", spec.class_values), ("answers", spec.answer_values)):
        histograms = {name: Counter(v for doc in rows for v in values(doc)) for name, rows in docs.items()}
        moves = _moves(sweep, of)
        if moves is not None:
            results.append(Balance(of, histograms, moves, None, None, "not tested"))
        else:
            results.append(Balance(of, histograms, None, *chi_squared(list(histograms.values()))))
    return results


def require_balance(sweep: Sweep, results: Sequence[Balance]) -> None:
    """Refuse cells that differ in what the sweep should leave alone.

    Raises:
        UserError: naming the histogram, the test and p.
    """
    for part in results:
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


def _moves(sweep: Sweep, of: str) -> str | None:
    """Why the sweep itself moves a histogram; None if it does not."""
    varied = set(sweep.vary)
    if "category" in varied:
        return "category varies"
    if of == "classes":
        return None
    deciding = varied.intersection(spec_of(sweep.kind).answer_controls)
    if deciding:
        return f"{', '.join(sorted(deciding))} varies"
    natural = sweep.cells[0].controls.split == "unbalanced"
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
