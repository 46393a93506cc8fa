"""Order bias (METHODS 9): correctness against the position of the image that holds the answer, per doc."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, within
from stats._intervals import Floats
from stats.means import Clusters, mean_interval

Orders = Sequence[tuple[float, float]]
"""One doc: per order the position of the image that holds the answer (0 first, 1 last) and correctness."""


@dataclass(frozen=True)
class PositionSlope:
    """Change of correctness from the first position to the last: a mean over the `n` docs that determine it.

    `constant_position` docs are left out: their image never moved.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    constant_position: int
    method: str
    confidence: float


@dataclass(frozen=True)
class PositionRho:
    """Mean over `n` docs of Spearman's rho of position and correctness, with its interval over docs.

    Left out, and counted once each: docs whose image never moved (`constant_position`), and of the others
    those always equally right (`constant_correct`): neither has a rho.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    constant_position: int
    constant_correct: int
    method: str
    confidence: float


class DocSlopes(NamedTuple):
    """Slope of each doc, NaN where its position never varies, shape (docs,); the steepest that can be."""

    slopes: Floats
    steepest: float


@dataclass(frozen=True)
class _Columns:
    """All orders of all docs end to end: doc of each, its position and correctness, shape (orders,)."""

    doc: npt.NDArray[np.int64]
    position: Floats
    correct: Floats
    docs: int


def position_slope(
    docs: Sequence[Orders], *, clusters: Clusters = None, confidence: float = 0.95
) -> PositionSlope:
    """Within-doc least-squares slope of correctness on position, averaged over docs (METHODS 9).

    A doc that is always equally right has slope 0; one whose image never moved has none. The interval is
    `mean_interval`'s over docs, where a slope lies within the steepest that any of these docs' positions
    allow for scores within [0, 1].

    Args:
        docs: per doc a sequence of (position, correct), one per order; position within [0, 1] (0: first),
            correct a bool or a score within [0, 1]. Docs may have unequal numbers of orders.
        clusters: the cluster of each doc, or None if each doc is one.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; a doc without orders; NaN, None or out of range; no doc whose position varies.
    """
    fitted = doc_slopes(docs)
    slopes = fitted.slopes[~np.isnan(fitted.slopes)]
    if not len(slopes):
        raise ValueError(f"a slope needs a doc whose position varies, got none in {len(fitted.slopes)}")
    bounds = (-fitted.steepest, fitted.steepest)
    varying = _of(clusters, ~np.isnan(fitted.slopes))
    mean = mean_interval(slopes, bounds=bounds, clusters=varying, confidence=confidence)
    still = len(fitted.slopes) - len(slopes)
    return PositionSlope(mean.estimate, mean.low, mean.high, mean.n, still, mean.method, confidence)


def doc_slopes(docs: Sequence[Orders]) -> DocSlopes:
    """Least-squares slope of correctness on position within each doc.

    Args:
        docs: as `position_slope`.

    Raises:
        ValueError: no doc; a doc without orders; NaN, None or out of range.
    """
    columns = _columns(docs)
    position, correct = _centred(columns, columns.position), _centred(columns, columns.correct)
    spread = _summed(columns, position**2)
    moved = _varies(columns, columns.position)
    slopes = np.full(columns.docs, np.nan)
    slopes[moved] = _summed(columns, position * correct)[moved] / spread[moved]
    if not moved.any():
        return DocSlopes(slopes, 0.0)
    # Correct where position is above its mean and wrong below: sum of |position| / 2 over the spread.
    steepest = float((_summed(columns, np.abs(position))[moved] / 2 / spread[moved]).max()) * (1 + 1e-9)
    return DocSlopes(slopes, steepest)


def spearman_per_doc(
    docs: Sequence[Orders], *, clusters: Clusters = None, confidence: float = 0.95
) -> PositionRho:
    """Spearman's rho of position and correctness within each doc, ties at mid ranks, averaged over docs.

    Args and the interval (a rho lies within [-1, 1]): as `position_slope`.

    Raises:
        ValueError: as `position_slope`; no doc in which both position and correctness vary.
    """
    columns = _columns(docs)
    moved, changed = _varies(columns, columns.position), _varies(columns, columns.correct)
    varying = moved & changed
    if not varying.any():
        raise ValueError(
            f"Spearman's rho needs a doc whose position and correctness vary, got none in {columns.docs}"
        )
    x = _centred(columns, _midranks(columns, columns.position))
    y = _centred(columns, _midranks(columns, columns.correct))
    product, x2, y2 = (_summed(columns, terms)[varying] for terms in (x * y, x * x, y * y))
    rho = np.clip(product / np.sqrt(x2 * y2), -1.0, 1.0)
    mean = mean_interval(rho, bounds=(-1.0, 1.0), clusters=_of(clusters, varying), confidence=confidence)
    still, same = int((~moved).sum()), int((moved & ~changed).sum())
    return PositionRho(mean.estimate, mean.low, mean.high, mean.n, still, same, mean.method, confidence)


def _of(clusters: Clusters, chosen: npt.NDArray[np.bool_]) -> Clusters:
    """The clusters of the chosen docs."""
    if clusters is None:
        return None
    if len(clusters) != len(chosen):
        raise ValueError(
            f"`clusters` must name the cluster of each of {len(chosen)} docs, got {len(clusters)}"
        )
    return [cluster for cluster, one in zip(clusters, chosen, strict=True) if one]


def _columns(docs: Sequence[Orders]) -> _Columns:
    if not len(docs):
        raise ValueError("`docs` needs at least 1 doc, got 0")
    for doc, orders in enumerate(docs):
        if not len(orders):
            raise ValueError(f"each doc needs at least 1 order, got 0 at doc {doc}")
    pairs = [pair for orders in docs for pair in orders]
    position = finite_vector("position", [pair[0] for pair in pairs])
    correct = finite_vector("correct", [pair[1] for pair in pairs])
    within("position", position, (0.0, 1.0))
    within("correct", correct, (0.0, 1.0))
    owner = np.repeat(np.arange(len(docs), dtype=np.int64), [len(orders) for orders in docs])
    return _Columns(owner, position, correct, len(docs))


def _summed(columns: _Columns, terms: Floats) -> Floats:
    """Sum of `terms` over the orders of each doc: shape (orders,) in, (docs,) out."""
    return np.bincount(columns.doc, terms, columns.docs).astype(np.float64)


def _centred(columns: _Columns, values: Floats) -> Floats:
    """`values` less their doc's mean, shape (orders,)."""
    return values - (_summed(columns, values) / np.bincount(columns.doc))[columns.doc]


def _varies(columns: _Columns, values: Floats) -> npt.NDArray[np.bool_]:
    """Whether `values` are not all the same within each doc, shape (docs,)."""
    first = values[np.searchsorted(columns.doc, columns.doc)]
    return _summed(columns, (values != first).astype(np.float64)) > 0


def _midranks(columns: _Columns, values: Floats) -> Floats:
    """Ranks of `values` over all docs in order of (doc, value), ties at mid ranks, shape (orders,).

    Within a doc they are the doc's ranks plus a constant, which leaves the correlation unchanged.
    """
    order = np.lexsort((values, columns.doc))
    fresh = (np.diff(columns.doc[order], prepend=-1) != 0) | (np.diff(values[order], prepend=-1.0) != 0)
    starts = np.flatnonzero(fresh)
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks
