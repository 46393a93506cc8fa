"""Which of several runs does best on some docs, and how firmly these docs say so (`mimic tune`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import numpy as np
import numpy.typing as npt

from leaderboard.arms import Arm
from leaderboard.measures import CorpusF1, Estimate, measure_of
from leaderboard.pairing import Doc, clusters_of, docs_of, values_of
from mimic_eval.records import UserError

RESAMPLES = 2000
INTERVAL = (
    f"values that the rule chooses in the middle 95 % of {RESAMPLES} resamples of the docs with replacement"
)
"""What the interval of a chosen value is."""

_ALIKE = 1e-12


@dataclass(frozen=True)
class Tried:
    """One value of the grid.

    Attributes:
        value: of the argument.
        score: mean of the tasks' scores.
        share: of the resamples in which the rule chooses it.
        tasks: the score on each task with its 95 % interval.
    """

    value: float
    score: float
    share: float
    tasks: Mapping[str, Estimate]


@dataclass(frozen=True)
class Choice:
    """The value that does best.

    Attributes:
        value: the chosen one.
        low: of its interval (`INTERVAL`).
        high: of its interval.
        rule: in words.
        grid: all values, rising.
        docs: of each task, those that were scored under every value.
    """

    value: float
    low: float
    high: float
    rule: str
    grid: tuple[Tried, ...]
    docs: Mapping[str, int]


def scored_in_all(arms: Sequence[Arm]) -> tuple[list[Arm], dict[str, int]]:
    """The runs without the docs that any of them left unscored, and how many these are by task.

    Args:
        arms: on the same docs.

    Raises:
        UserError: no doc of a task is left.
    """
    left_out: dict[str, int] = {}
    kept: list[dict[str, list[Any]]] = [{} for _ in arms]
    for task in arms[0].samples:
        rows = list(zip(*(arm.samples[task] for arm in arms), strict=True))
        scored = [row for row in rows if not any(sample.unscored for sample in row)]
        left_out[task] = len(rows) - len(scored)
        if not scored:
            raise UserError(f"{task}: no doc was scored under every value")
        for samples, column in zip(kept, zip(*scored, strict=True), strict=True):
            samples[task] = list(column)
    return [replace(arm, samples=samples) for arm, samples in zip(arms, kept, strict=True)], left_out


def choose(arms: Mapping[float, Arm], *, least_effect: float | None, seed: int = 0) -> Choice:
    """The value with the highest mean of the tasks' scores; of equal ones that of the least effect.

    Args:
        arms: the run of each value, all on the same docs, none unscored.
        least_effect: the value with the least effect; infinite if larger values have less; None if it is
            not known: then the smallest of equal ones is chosen.
        seed: of the resamples.
    """
    values = sorted(arms, key=lambda value: (_effect(value, least_effect), value))
    rng = np.random.default_rng(seed)
    tasks = list(arms[values[0]].samples)
    estimates: dict[str, list[Estimate]] = {}
    resampled = np.zeros((RESAMPLES, len(values)))
    for task in tasks:
        docs = [list(docs_of(arms[value].samples[task]).values()) for value in values]
        clusters = clusters_of(docs[0])
        first = docs[0][0].samples[0]
        measure = measure_of(first.kind, permuted=False)
        rows = [values_of(one, first.kind, permuted=False) for one in docs]
        estimates[task] = [measure.estimate(row, clusters) for row in rows]
        weights = _weights(docs[0], clusters, rng)
        scores = [_resampled(row, weights, corpus=isinstance(measure, CorpusF1)) for row in rows]
        resampled += np.stack(scores, axis=1) / len(tasks)
    scores_of = [sum(estimates[task][i].estimate for task in tasks) / len(tasks) for i in range(len(values))]
    best = values[_first_best(np.array([scores_of]))[0]]
    chosen = np.array(values)[_first_best(resampled)]
    low, high = _middle(chosen)
    grid = [
        Tried(
            value,
            scores_of[i],
            float((chosen == value).mean()),
            {task: estimates[task][i] for task in tasks},
        )
        for i, value in enumerate(values)
    ]
    return Choice(
        value=best,
        low=min(low, best),
        high=max(high, best),
        rule=_rule(least_effect, several=len(tasks) > 1),
        grid=tuple(sorted(grid, key=lambda tried: tried.value)),
        docs={task: len(arms[best].samples[task]) for task in tasks},
    )


def _effect(value: float, least_effect: float | None) -> float:
    """Rises with the effect that a value has."""
    if least_effect is None:
        return 0.0
    return -value if isinf(least_effect) else abs(value - least_effect)


def _rule(least_effect: float | None, *, several: bool) -> str:
    if least_effect is None:
        tie = "the smallest"
    else:
        tie = "the largest" if isinf(least_effect) else f"the one nearest to {least_effect:g}"
        tie += ", where the method changes least"
    score = "highest mean of the tasks' scores" if several else "highest score"
    return f"the value with the {score}; of equal ones {tie}"


def _weights(
    docs: Sequence[Doc], clusters: Sequence[int] | None, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """How often each resample has each doc, (resamples, docs): docs, or clusters of them, are drawn."""
    _, unit = np.unique(clusters or range(len(docs)), return_inverse=True)
    units = int(unit.max()) + 1
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    return drawn[:, unit].astype(np.float64)


def _resampled(
    rows: npt.NDArray[Any], weights: npt.NDArray[np.float64], *, corpus: bool
) -> npt.NDArray[np.float64]:
    """The score of each resample: the mean, or F1 from the summed counts."""
    if not corpus:
        return np.asarray(weights @ rows / weights.sum(axis=1))
    recalled, generated, relevant = (weights @ rows).T
    return np.asarray(2 * recalled / (generated + relevant))


def _middle(chosen: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The least and the largest of the middle 95 % of the chosen values."""
    ordered, ends = np.sort(chosen), (len(chosen) - 1) * np.array([0.025, 0.975])
    return float(ordered[int(np.floor(ends[0]))]), float(ordered[int(np.ceil(ends[1]))])


def _first_best(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The first column of each row that has the row's highest score."""
    return np.asarray(np.argmax(scores >= scores.max(axis=1, keepdims=True) - _ALIKE, axis=1))
