"""Micro F1 over a corpus of lists, with a percentile bootstrap over docs (METHODS 9: Listing's headline)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stats._checks import open_unit, whole_number

_CHUNK_CELLS = 2**22
"""Weights held at once, (draws in a chunk) x (distinct docs): 32 MiB of int64."""

Counts = npt.NDArray[np.int64]


class F1(NamedTuple):
    """Precision, recall and their harmonic mean, each within [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class F1Interval:
    """Corpus micro F1 (`estimate`) with its bootstrap interval, and what it was computed from."""

    estimate: float
    low: float
    high: float
    precision: float
    recall: float
    docs: int
    confidence: float
    draws: int
    seed: int


def f1_from_counts(recalled: int, generated: int, relevant: int) -> F1:
    """Precision = recalled / generated, recall = recalled / relevant, F1 = 2PR / (P + R).

    A ratio with nothing below the line is 0; F1 is 0 when both are 0.
    """
    precision = recalled / generated if generated else 0.0
    recall = recalled / relevant if relevant else 0.0
    both = precision + recall
    return F1(precision, recall, 2 * precision * recall / both if both else 0.0)


def micro_f1(
    recalled: npt.ArrayLike,
    generated: npt.ArrayLike,
    relevant: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> F1Interval:
    """Micro F1 over the corpus: counts are summed over docs before the ratios are taken (METHODS 9).

    The interval is the percentile bootstrap: docs are drawn with replacement, n out of n, and the F1 of
    each drawn corpus is kept. Docs with equal counts are interchangeable, so what is drawn is how often
    each distinct triple of counts occurs (a multinomial: the same law as drawing docs one by one). So the
    order of the docs does not matter: the same docs and seed give the same numbers in any order.

    With one doc every drawn corpus is that doc: one doc says nothing about spread, and the interval is
    the trivial [0, 1].

    Args:
        recalled: items found and right, integers, shape (docs,).
        generated: items in the answer, integers, shape (docs,), each >= recalled.
        relevant: items in the ground truth, integers, shape (docs,), each >= recalled.
        confidence: between 0 and 1, both excluded.
        draws: number of resampled corpora, at least 1.
        seed: of NumPy's default generator, at least 0; it is in the result.

    Raises:
        ValueError: no doc; shapes differ or are not (docs,); not integers; negative counts; more
            recalled than generated or relevant; an option out of its range.
    """
    confidence = open_unit("confidence", confidence)
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    named = (("recalled", recalled), ("generated", generated), ("relevant", relevant))
    counts = _stacked([(name, np.asarray(values)) for name, values in named])
    docs = len(counts)
    precision, recall, estimate = f1_from_counts(*(int(total) for total in counts.sum(axis=0)))
    low, high = 0.0, 1.0
    if docs > 1:
        tail = (1 - confidence) / 2
        low, high = (float(end) for end in np.quantile(_drawn_f1(counts, draws, seed), [tail, 1 - tail]))
    return F1Interval(estimate, low, high, precision, recall, docs, confidence, draws, seed)


def _drawn_f1(counts: Counts, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """F1 of each resampled corpus, shape (draws,); memory is bounded by `_CHUNK_CELLS`."""
    triples, copies = np.unique(counts, axis=0, return_counts=True)
    shares = copies / len(counts)
    rng = np.random.default_rng(seed)
    f1 = np.zeros(draws)
    step = max(1, _CHUNK_CELLS // len(triples))
    for start in range(0, draws, step):
        weights = rng.multinomial(len(counts), shares, size=min(step, draws - start))
        right, made, wanted = (weights @ triples).T
        # 2PR / (P + R) is 2 * recalled / (generated + relevant) wherever P + R > 0, and 0 elsewhere.
        below = made + wanted
        np.divide(2.0 * right, below, out=f1[start : start + len(below)], where=below > 0)
    return f1


def _stacked(columns: list[tuple[str, npt.NDArray[np.generic]]]) -> Counts:
    """The three count arrays as one, shape (docs, 3)."""
    shapes = {name: values.shape for name, values in columns}
    docs = columns[0][1].shape
    if len(docs) != 1 or any(shape != docs for shape in shapes.values()):
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"counts must be three arrays of one shape (docs,), got {told}")
    if docs[0] == 0:
        raise ValueError("micro F1 needs at least 1 doc, got 0")
    for name, values in columns:
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"`{name}` must hold integers >= 0, got {values.dtype}")
        if values.min() < 0:
            raise ValueError(f"`{name}` must hold integers >= 0, got {values.min()}")
    counts: Counts = np.stack([values.astype(np.int64) for _, values in columns], axis=1)
    for other, name in ((1, "generated"), (2, "relevant")):
        over = np.flatnonzero(counts[:, 0] > counts[:, other])
        if len(over):
            doc = int(over[0])
            came = f"{counts[doc, 0]} > {counts[doc, other]} at doc {doc}"
            raise ValueError(f"`recalled` must not exceed `{name}`, got {came}")
    return counts
