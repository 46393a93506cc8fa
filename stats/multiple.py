"""Several tests at once (METHODS 9): Holm's adjustment over a named family."""

from dataclasses import dataclass

import numpy.typing as npt

from stats._checks import finite_vector, within


@dataclass(frozen=True)
class Holm:
    """Adjusted p-values in the order they came, and the size of the family they were adjusted for."""

    adjusted: tuple[float, ...]
    family: int


def holm(pvalues: npt.ArrayLike) -> Holm:
    """Holm's step-down adjustment (Holm 1979, Scandinavian Journal of Statistics 6, 65-70), by statsmodels.

    One test per comparison enters; the caller names the family.

    Args:
        pvalues: shape (tests,), each within [0, 1].

    Raises:
        ValueError: no test; NaN or a value outside [0, 1].
    """
    from statsmodels.stats.multitest import multipletests

    family = finite_vector("pvalues", pvalues)
    within("pvalues", family, (0.0, 1.0))
    return Holm(tuple(multipletests(family, method="holm")[1].tolist()), len(family))
