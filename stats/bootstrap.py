"""Percentile bootstrap over docs, for statistics that have no better interval (METHODS 9)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import open_unit, whole_number


@dataclass(frozen=True)
class Bootstrap:
    """A statistic with its percentile interval; `undefined` is the share of resamples that have none.

    `estimate` is None where the docs themselves have none, `low` and `high` where fewer than half of the
    resamples have one.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    undefined: float
    method: str
    draws: int
    seed: int
    confidence: float


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float | None],
    n: int,
    *,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Bootstrap:
    """The percentile bootstrap (Efron 1979) of a statistic of docs.

    Args:
        statistic: of the docs with these indices, with repeats, shape (n,); None where it is not defined.
        n: docs, at least 1.
        draws: resamples, at least 1.
        seed: of NumPy's default generator; it is in the result.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: an argument is out of its range.
    """
    n, draws = whole_number("n", n, least=1), whole_number("draws", draws, least=1)
    confidence = open_unit("confidence", confidence)
    rng = np.random.default_rng(whole_number("seed", seed, least=0))
    found = [statistic(rng.integers(n, size=n)) for _ in range(draws)]
    values = [value for value in found if value is not None]
    estimate = statistic(np.arange(n))
    low = high = None
    if estimate is not None and 2 * len(values) >= draws:
        tail = (1 - confidence) / 2
        low, high = (float(np.quantile(values, share)) for share in (tail, 1 - tail))
    undefined = 1 - len(values) / draws
    return Bootstrap(
        None if estimate is None else float(estimate), low, high, n, undefined,
        "percentile bootstrap over docs", draws, seed, confidence,
    )  # fmt: skip
