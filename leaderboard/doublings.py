"""MIMIC's question of a sweep over N: how the score changes per doubling of the number of images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log2
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from leaderboard.labels import Named, brief_labels, mask_in_words
from leaderboard.measures import CorpusF1, Estimate, Graded, measure_of
from leaderboard.pairing import Doc, Pair, doc_score, docs_of
from leaderboard.runs import Run, is_mimic
from leaderboard.sentences import interval_words, p_words, points, task_title, test_name
from stats import set_slopes

_NUMBERS = ("n_images", "distractors")
"""Keys of a cell that change N alone (MIMIC adds distractors); cells that differ in others are strata."""


class Doublings(NamedTuple):
    """Change of the score (Listing: of a doc's F1) per doubling of N, within matched sets, and B - A.

    `pvalue` is of the paired test of the difference over sets; it is in no Holm family.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    sets: int
    pvalue: float
    test: str


class _Slopes(NamedTuple):
    """Of each matched set, shape (sets,), in the order of their numbers; the steepest that can be."""

    slopes: npt.NDArray[np.float64]
    steepest: float


def slope_per_doubling(docs: Sequence[Doc]) -> Estimate | None:
    """Mean over matched sets of the least-squares slope of the score over log2 N, with its interval.

    Args:
        docs: scored docs of a sweep.

    Returns:
        Or None if the docs have no matched sets, or N does not vary by itself.
    """
    slopes = _slopes(docs)
    return None if slopes is None else _measure(slopes).estimate(slopes.slopes)


def slope_lines(task: str, runs: Mapping[str, Run]) -> list[str]:
    """A sentence for each run of a sweep over N; none for other sweeps.

    Args:
        task: the sweep's task, whose samples every run has.
        runs: by label.
    """
    lines = []
    for label, run in runs.items():
        docs = [doc for doc in docs_of(run.samples_of(task)).values() if doc.scored]
        slopes = _slopes(docs)
        if slopes is not None:
            slope = _measure(slopes).estimate(slopes.slopes)
            what = score_word(docs[0].samples[0].kind)
            lines.append(
                f"{task_title(task)}: {what} changes by {_change(slope)} per doubling of N under {label} "
                f"({interval_words(slope)}; n = {len(slopes.slopes)} matched sets)"
            )
    return lines


def sweep_sentences(runs: Sequence[Run], given: Mapping[str, str]) -> list[str]:
    """The sentence of every sweep over N of some runs; `given`: the user's names, by `Run.name`.

    Raises:
        UserError: samples are not in the form that our tasks write.
    """
    lines = []
    for task in sorted(
        {task for run in runs for task in run.samples if is_mimic(task) and run.samples[task]}
    ):
        with_task = [run for run in runs if run.samples.get(task)]
        if with_task[0].samples_of(task)[0].cell:
            lines += slope_lines(task, dict(zip(_names(with_task, given), with_task, strict=True)))
    return lines


def _names(runs: Sequence[Run], given: Mapping[str, str]) -> list[str]:
    """The user's names, or what distinguishes the runs; all different."""
    names = brief_labels([Named(run.model, run.settings) for run in runs], prose=True)
    if len(set(names)) < len(runs) or not all(names):
        names = [mask_in_words(run.settings) for run in runs]
    names = [given.get(run.name, name) for run, name in zip(runs, names, strict=True)]
    several = {name for name, count in Counter(names).items() if count > 1}
    return [
        f"{name} ({run.name})" if name in several else name for name, run in zip(names, runs, strict=True)
    ]


def doubling_sentence(task: str, kind: str, a: str, b: str, doublings: Doublings) -> str:
    """The slopes of two runs and their difference, with its test."""
    change = doublings.difference
    return (
        f"{task_title(task)}: {score_word(kind)} changes per doubling of N by {_change(doublings.b)} "
        f"under {b} ({interval_words(doublings.b)}) and by {_change(doublings.a)} under {a} "
        f"({interval_words(doublings.a)}); difference of slopes {_change(change)} ({interval_words(change)}; "
        f"{test_name(doublings.test)}, {p_words(doublings.pvalue)}, outside Holm's family; "
        f"n = {doublings.sets} matched sets)"
    )


def score_word(kind: str) -> str:
    """What the mean over docs of a kind is called."""
    return "the F1 of a doc" if isinstance(measure_of(kind, permuted=False), CorpusF1) else "accuracy"


def per_doubling(pairs: Sequence[Pair]) -> Doublings | None:
    """The slopes of two runs and their paired difference, or None as in `slope_per_doubling`."""
    a, b = (_slopes([pair[run] for pair in pairs]) for run in (0, 1))
    if a is None or b is None:
        return None
    measure = _measure(a)
    change = measure.compare(a.slopes, b.slopes)
    estimates = (measure.estimate(a.slopes), measure.estimate(b.slopes))
    return Doublings(*estimates, change.delta, len(a.slopes), change.pvalue, change.test)


def _change(slope: Estimate) -> str:
    return f"{points(slope.estimate, sign=True)} points"


def _measure(slopes: _Slopes) -> Graded:
    return Graded("slope per doubling of N", (-slopes.steepest, slopes.steepest))


def _slopes(docs: Sequence[Doc]) -> _Slopes | None:
    """The sets in which N varies while the other controls of the cells stay the same."""
    ordered = sorted(
        (doc for doc in docs if doc.matched_set is not None), key=lambda doc: doc.matched_set or 0
    )
    numbers = [doc.samples[0].n_images for doc in ordered]
    if not ordered or len(ordered) < len(docs) or not all(numbers):
        return None
    fitted = set_slopes(
        [log2(n) for n in numbers if n],
        [doc_score(doc) for doc in ordered],
        [doc.matched_set for doc in ordered],
        [_stratum(doc.samples[0].cell or "") for doc in ordered],
    )
    slopes = fitted.slopes[~np.isnan(fitted.slopes)]
    return _Slopes(slopes, fitted.steepest) if len(slopes) else None


def _stratum(cell: str) -> str:
    """What a cell varies besides N: ``n_images=4,hard=true``: hard=true."""
    return ",".join(part for part in cell.split(",") if part.partition("=")[0] not in _NUMBERS)
