"""The change of corpus micro F1 between two conditions (METHODS 9: Listing's headline)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import open_unit, whole_number
from stats._resample import Floats, percentile_ends, resampled_sums
from stats.bootstrap import _stacked, f1_from_counts

PerDoc = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
"""`recalled`, `generated` and `relevant` as `micro_f1` takes them, integers, each of shape (docs,)."""


@dataclass(frozen=True)
class F1Difference:
    """F1 of a minus F1 of b (`estimate`) within [-1, 1] with its bootstrap interval."""

    estimate: float
    low: float
    high: float
    f1_a: float
    f1_b: float
    docs: int
    confidence: float
    draws: int
    seed: int
    method: str = "percentile bootstrap over docs, paired"


def micro_f1_difference(
    counts_a: PerDoc, counts_b: PerDoc, *, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> F1Difference:
    """Corpus micro F1 under a minus that under b, docs drawn in pairs (METHODS 9).

    Each resample draws docs with replacement and takes both conditions' counts of the docs drawn, so what
    the conditions share cancels. The order of the docs does not matter.

    With one doc the interval is the trivial [-1, 1]. If no doc's counts differ it is [0, 0]: no drawn
    corpus can differ; how many docs might change is `flip_rate`'s bound to give.

    Args:
        counts_a: (recalled, generated, relevant) under a, integers as in `micro_f1`, shape (docs,) each.
        counts_b: the same of the same docs, in the same order, under b.
        confidence: between 0 and 1, both excluded.
        draws: number of resamples, at least 1.
        seed: of NumPy's default generator, at least 0; it is in the result.

    Raises:
        ValueError: as `micro_f1`; not three arrays; the numbers of docs differ.
    """
    confidence = open_unit("confidence", confidence)
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    a, b = _counts("counts_a", counts_a), _counts("counts_b", counts_b)
    if len(a) != len(b):
        raise ValueError(f"`counts_a` and `counts_b` must hold the same docs, got {len(a)} and {len(b)}")
    f1_a, f1_b = (f1_from_counts(*(int(total) for total in counts.sum(axis=0))).f1 for counts in (a, b))
    low, high = -1.0, 1.0
    if len(a) > 1:
        drawn = drawn_micro_f1([counts_a, counts_b], draws=draws, seed=seed)
        low, high = percentile_ends(drawn[:, 0] - drawn[:, 1], confidence)
    return F1Difference(f1_a - f1_b, low, high, f1_a, f1_b, len(a), confidence, draws, seed)


def drawn_micro_f1(counts: Sequence[PerDoc], *, draws: int = 10_000, seed: int = 0) -> Floats:
    """Corpus micro F1 of several conditions in the same resamples of their docs.

    The difference of two columns is the paired bootstrap of `micro_f1_difference`; with many conditions the
    docs are drawn once and not once for each pair.

    Args:
        counts: (recalled, generated, relevant) of each condition, of the same docs in the same order.
        draws: number of resamples, at least 1.
        seed: of NumPy's default generator, at least 0.

    Returns:
        Shape (draws, conditions).

    Raises:
        ValueError: as `micro_f1_difference`; no condition.
    """
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    given = [_counts(f"counts[{i}]", own) for i, own in enumerate(counts)]
    if len({len(own) for own in given}) != 1:
        raise ValueError(f"`counts` must hold the same docs, got {[len(own) for own in given]}")
    # F1 = 2 * recalled / (generated + relevant): two columns tell all, per condition.
    halves = [column for c in given for column in (c[:, 0], c[:, 1] + c[:, 2])]
    sums = resampled_sums(np.stack(halves, axis=1).astype(np.float64), draws=draws, seed=seed)
    return _f1(sums[:, 0::2], sums[:, 1::2])


def _f1(recalled: Floats, below: Floats) -> Floats:
    """2 * recalled / below, and 0 where nothing is below the line (there recalled is 0 too)."""
    return np.divide(2 * recalled, below, out=np.zeros_like(below), where=below > 0)


def _counts(name: str, counts: PerDoc) -> npt.NDArray[np.int64]:
    if len(counts) != 3:
        raise ValueError(f"`{name}` must be (recalled, generated, relevant), got {len(counts)} arrays")
    named = zip(("recalled", "generated", "relevant"), counts, strict=True)
    return _stacked([(each, np.asarray(values)) for each, values in named])
