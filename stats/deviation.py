"""Relative standard deviation of accuracy over image positions (METHODS 16.1), and what chance gives."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, within
from stats._intervals import Floats

PositionScores = Sequence[float | None]
"""One answer: the score at each position of its images, None where nothing is asked."""


@dataclass(frozen=True)
class RelativeDeviation:
    """How unequal the accuracies of positions are.

    Attributes:
        estimate: population standard deviation over positions of the mean score, over their mean. Answers of
            n images have n positions; several n are averaged, weighted by their answers. None where every
            score is 0, or no number of images has scores at two positions.
        expected: the mean of the same over `draws` shuffles of the scores over positions: what scores that
            do not depend on the position give. Above 0, and larger for fewer docs. None without shuffles.
        answers: how many.
        draws: shuffles.
        seed: of them.
    """

    estimate: float | None
    expected: float | None
    answers: int
    draws: int
    seed: int


@dataclass(frozen=True)
class _Entries:
    """All scores end to end: the cell (number of images and position) and block of each, shape (scores,)."""

    score: Floats
    cell: npt.NDArray[np.int64]
    block: npt.NDArray[np.int64]
    cells: tuple[tuple[int, int], ...]
    weights: dict[int, int]


def relative_deviation(
    answers: Sequence[PositionScores],
    blocks: Sequence[Hashable],
    *,
    draws: int = 499,
    seed: int = 0,
) -> RelativeDeviation:
    """The relative standard deviation of the mean score over positions.

    Args:
        answers: of each answer, the score at each position, within [0, 1].
        blocks: of each answer: scores are shuffled within a block only. The doc where docs have several
            orders; else the number of images.
        draws: shuffles for `expected`.
        seed: of the shuffles.

    Raises:
        ValueError: no answer; lengths differ; a score outside [0, 1].
    """
    if not answers or len(answers) != len(blocks):
        raise ValueError(f"`answers` needs one block each, got {len(answers)} and {len(blocks)}")
    entries = _entries(answers, blocks)
    estimate = _deviation(entries, entries.score)
    draws = 0 if estimate is None else draws
    rng = np.random.default_rng(seed)
    by_block = np.argsort(entries.block, kind="stable")
    drawn = []
    for _ in range(draws):
        shuffled = np.empty_like(entries.score)
        shuffled[by_block] = entries.score[np.lexsort((rng.random(len(by_block)), entries.block))]
        drawn.append(_deviation(entries, shuffled))
    values = [value for value in drawn if value is not None]
    return RelativeDeviation(estimate, float(np.mean(values)) if values else None, len(answers), draws, seed)


def _entries(answers: Sequence[PositionScores], blocks: Sequence[Hashable]) -> _Entries:
    number = {block: i for i, block in enumerate(dict.fromkeys(blocks))}
    rows = [
        (score, (len(scores), position), number[block])
        for scores, block in zip(answers, blocks, strict=True)
        for position, score in enumerate(scores)
        if score is not None
    ]
    if not rows:
        raise ValueError("`answers` needs at least 1 score, got 0")
    cells = tuple(sorted({cell for _, cell, _ in rows}))
    at = {cell: i for i, cell in enumerate(cells)}
    score = finite_vector("score", [one for one, _, _ in rows])
    within("score", score, (0.0, 1.0))
    weights: dict[int, int] = {}
    for scores in answers:
        weights[len(scores)] = weights.get(len(scores), 0) + 1
    return _Entries(
        score,
        np.array([at[cell] for _, cell, _ in rows], dtype=np.int64),
        np.array([block for _, _, block in rows], dtype=np.int64),
        cells,
        weights,
    )


def _deviation(entries: _Entries, score: Floats) -> float | None:
    means = np.bincount(entries.cell, score) / np.bincount(entries.cell)
    values, weights = [], []
    for images, weight in entries.weights.items():
        of_size = means[[i for i, (n, _) in enumerate(entries.cells) if n == images]]
        if len(of_size) > 1 and of_size.any():
            values.append(float(of_size.std() / of_size.mean()))
            weights.append(weight)
    return float(np.average(values, weights=weights)) if values else None
