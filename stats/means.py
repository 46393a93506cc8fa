"""A mean over docs with its bootstrap interval (METHODS 9: this image pool, docs are the units)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, whole_number, within
from stats._resample import Floats, alike_ends, bca_ends, resampled_sums

BCA = "BCa bootstrap over docs"
ALIKE = "all docs alike: exact bound on the share of others"


@dataclass(frozen=True)
class MeanInterval:
    """A mean over `n` docs with its interval; `method` says which interval it is."""

    estimate: float
    low: float
    high: float
    n: int
    method: str
    confidence: float
    draws: int
    seed: int


def mean_interval(
    values: npt.ArrayLike,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> MeanInterval:
    """The mean over docs with a BCa bootstrap interval (Efron 1987); for 0/1 scores take `wilson`.

    The order of the docs does not matter: the same docs and seed give the same numbers in any order.

    When all docs have one value v the data show no spread, and the interval is not [v, v]: with p the
    exact bound for the share of docs unlike them (0 of n - 1, one-sided), the mean lies within v - p (v -
    bounds[0]) and v + p (bounds[1] - v). With one doc that is the trivial interval, `bounds` itself.

    Args:
        values: one finite number per doc, shape (docs,), each within `bounds`.
        bounds: the values a score can take, (0, 1) for shares and F1, (-1, 1) for their differences;
            None: unknown.
        confidence: between 0 and 1, both excluded.
        draws: number of resamples, at least 1.
        seed: of NumPy's default generator, at least 0; it is in the result.

    Raises:
        ValueError: no doc; NaN or a value outside `bounds`; an option out of its range; all values equal
            (or one doc) and `bounds` is None.
    """
    confidence = open_unit("confidence", confidence)
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    scores = np.sort(finite_vector("values", values))
    if bounds is not None:
        within("values", scores, bounds, " (`bounds`)")
    n = len(scores)
    if scores[0] == scores[-1]:
        low, high = alike_ends(float(scores[0]), n, _needed(bounds, n), confidence)
        return MeanInterval(float(scores[0]), low, high, n, ALIKE, confidence, draws, seed)
    low, high = _bca_of_mean(scores, confidence, draws, seed)
    return MeanInterval(float(scores.mean()), low, high, n, BCA, confidence, draws, seed)


def _bca_of_mean(scores: Floats, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    n = len(scores)
    drawn = resampled_sums(scores[:, None], draws=draws, seed=seed)[:, 0] / n
    left_out = (scores.sum() - scores) / (n - 1)
    # A mean of n copies of a value can leave its range by a rounding error.
    low, high = bca_ends(drawn, float(scores.mean()), left_out, confidence)
    return max(low, float(scores[0])), min(high, float(scores[-1]))


def _needed(bounds: tuple[float, float] | None, n: int) -> tuple[float, float]:
    if bounds is None:
        raise ValueError(f"all {n} values are equal: they give no interval without `bounds`")
    return bounds
