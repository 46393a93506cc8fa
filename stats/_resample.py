"""Bootstrap draws with bounded memory, and the BCa interval; used by every bootstrap but `micro_f1`'s."""

from math import sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CHUNK_CELLS = 2**20
"""Indices or weights held at once, (draws in a chunk) x (units): 8 MiB of int64, near a core's cache."""

_DISTINCT_SHARE = 8
"""Below one distinct row in this many, drawing how often each occurs is quicker than drawing rows."""

_MANY_COLUMNS = 32
"""Above this many columns too: the draws are made once, and each column costs a product and no gathering."""


def resampled_sums(rows: Floats, *, draws: int, seed: int) -> Floats:
    """Column sums of resampled rows: as many rows as there are, drawn with replacement.

    The rows are sorted first, so their order does not matter: the same rows and seed give the same sums.
    Where few rows differ, or columns are many, what is drawn is how often each occurs (a multinomial: the
    same law).

    Args:
        rows: shape (units, columns).
        draws: number of resamples.
        seed: of NumPy's default generator.

    Returns:
        Sums, shape (draws, columns). Memory beside it is bounded by `_CHUNK_CELLS`.
    """
    distinct, copies = np.unique(rows, axis=0, return_counts=True)
    few = len(distinct) * _DISTINCT_SHARE <= len(rows) or rows.shape[1] > _MANY_COLUMNS
    columns = (distinct if few else np.repeat(distinct, copies, axis=0)).T.copy()
    units = len(rows)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, len(columns)))
    step = max(1, _CHUNK_CELLS // columns.shape[1])
    for start in range(0, draws, step):
        size = min(step, draws - start)
        if few:
            weights = rng.multinomial(units, copies / units, size=size).astype(np.float64)
            sums[start : start + size] = weights @ columns.T
        else:
            drawn = rng.integers(0, units, size=(size, units))
            for at, column in enumerate(columns):
                sums[start : start + size, at] = column[drawn].sum(axis=1)
    return sums


def percentile_ends(drawn: Floats, confidence: float) -> tuple[float, float]:
    """The quantiles of `drawn`, shape (draws,), that leave half of 1 - confidence on either side."""
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(drawn, [tail, 1 - tail]))
    return low, high


def bca_ends(drawn: Floats, estimate: float, left_out: Floats, confidence: float) -> tuple[float, float]:
    """The bias-corrected and accelerated interval (Efron 1987; Efron and Tibshirani 1993, chapter 14.3).

    Draws equal to the estimate count half for the bias correction (few docs or few values give many).

    Args:
        drawn: the statistic of each resample, shape (draws,).
        estimate: the statistic of the data.
        left_out: the statistic with each unit left out in turn (the jackknife), shape (units,).
        confidence: between 0 and 1, both excluded.
    """
    from scipy.special import ndtr, ndtri

    slack = 1e-9 * float(np.ptp(drawn))  # equal up to the rounding of sums
    below = (drawn < estimate - slack).mean() + 0.5 * (np.abs(drawn - estimate) <= slack).mean()
    bias = float(ndtri(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn))))
    pull = left_out.mean() - left_out
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread * sqrt(spread)) if spread > 0 else 0.0
    levels = []
    for z, furthest in ((float(ndtri((1 - confidence) / 2)), 0.0), (float(ndtri((1 + confidence) / 2)), 1.0)):
        under = 1 - acceleration * (bias + z)
        levels.append(float(ndtr(bias + (bias + z) / under)) if under > 0 else furthest)
    low, high = (float(end) for end in np.quantile(drawn, levels))
    return low, high


def unseen_share(units: int, confidence: float) -> float:
    """Upper bound for the share of units unlike the ones seen, when all `units` seen are alike.

    The first unit says what they are like, the others are trials without an event: the exact one-sided
    bound for 0 of units - 1 (Clopper and Pearson 1934), 1 for a single unit.
    """
    return 1.0 if units < 2 else 1 - (1 - confidence) ** (1 / (units - 1))


def alike_ends(
    value: float, units: int, bounds: tuple[float, float], confidence: float
) -> tuple[float, float]:
    """Where the mean of bounded values can lie when all `units` seen equal `value`: see `unseen_share`."""
    share = unseen_share(units, confidence)
    return value - share * (value - bounds[0]), value + share * (bounds[1] - value)
