"""Several tests at once (METHODS 9): Holm's adjustment over a named family."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, within


@dataclass(frozen=True)
class Holm:
    """Adjusted p-values in the order they came, and the size of the family they were adjusted for."""

    adjusted: tuple[float, ...]
    family: int


def holm(pvalues: npt.ArrayLike) -> Holm:
    """Holm's step-down adjustment (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    The i-th smallest of m p-values is multiplied by m - i + 1, then made monotone and capped at 1. One test
    per comparison enters; the caller names the family. statsmodels' `multipletests` is the oracle in the
    tests; it collects the garbage of the whole process in each call (0.05 s and more).

    Args:
        pvalues: shape (tests,), each within [0, 1].

    Raises:
        ValueError: no test; NaN or a value outside [0, 1].
    """
    family = finite_vector("pvalues", pvalues)
    within("pvalues", family, (0.0, 1.0))
    order = np.argsort(family, kind="stable")
    adjusted = np.empty(len(family))
    adjusted[order] = np.maximum.accumulate(family[order] * np.arange(len(family), 0, -1)).clip(max=1.0)
    return Holm(tuple(adjusted.tolist()), len(family))
