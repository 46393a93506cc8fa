"""Docs of two runs side by side, by what they are and not by their number."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leaderboard.arms import Arm
from leaderboard.matched_sets import INDEPENDENT, matched_sets, number_of, undetermined
from leaderboard.measures import CorpusF1, Measure, measure_of
from leaderboard.upstream import DocScores, measure_by
from mimic_eval.records import Item, Sample, UserError

_NAMED = 5  # docs that a message names


class Doc(NamedTuple):
    """What one run did with one doc.

    Attributes:
        doc_id: its number in the run's task.
        samples: one, or one for each image order.
        scored: every one of them has a score.
        matched_set: of a sweep, the number of its matched set, or None.
    """

    doc_id: int
    samples: tuple[Sample, ...]
    scored: bool
    matched_set: int | None = None


class Pair(NamedTuple):
    """A doc as two runs saw it."""

    a: Doc
    b: Doc


class PairedTask(NamedTuple):
    """A task that two runs have in common.

    Attributes:
        task: its name.
        kind: counting, listing, common or oddone.
        permuted: its docs have several image orders.
        measure: its kind of score.
        pairs: docs scored in both.
        clusters: the matched set of each pair, or None if docs are independent.
        unscored_a: docs that A left unscored.
        unscored_b: docs that B left unscored.
        docs: all that both ran.
        higher_is_better: else a lower score is.
    """

    task: str
    kind: str
    permuted: bool
    measure: Measure
    pairs: tuple[Pair, ...]
    clusters: tuple[int, ...] | None
    unscored_a: int
    unscored_b: int
    docs: int
    higher_is_better: bool = True


def docs_of(samples: Sequence[Sample]) -> dict[tuple[str, int], Doc]:
    """The docs of a task by their identity: content hash, and for equal docs their number."""
    groups: dict[tuple[str, int], list[Sample]] = {}
    seen: Counter[tuple[Any, ...]] = Counter()
    sets: Sequence[int | None] = matched_sets(samples) or [None] * len(samples)
    set_of: dict[tuple[str, int], int | None] = {}
    for sample, number in zip(samples, sets, strict=True):
        identity = (sample.base_hash, *order_of(sample))
        seen[identity] += 1
        key = (sample.base_hash, seen[identity])
        groups.setdefault(key, []).append(sample)
        set_of.setdefault(key, number)
    return {key: _doc(of_doc, set_of[key]) for key, of_doc in groups.items()}


def order_of(sample: Sample) -> tuple[int, ...]:
    """Which of the doc's images is at each position; empty for a task of one order."""
    return () if sample.ordering is None else sample.ordering.order


def _doc(samples: Sequence[Sample], matched_set: int | None) -> Doc:
    ordered = tuple(sorted(samples, key=lambda one: one.ordering.order_index if one.ordering else 0))
    return Doc(number_of(ordered[0]), ordered, not any(one.unscored for one in ordered), matched_set)


def pair_tasks(a: Arm, b: Arm) -> tuple[list[PairedTask], list[str]]:
    """The tasks that both arms ran, doc by doc, and a note for each task that only one ran.

    Raises:
        UserError: no common task, or a task that they ran on different docs or image orders.
    """
    common = [task for task in a.samples if task in b.samples]
    metrics = [key for key in a.upstream if key in b.upstream]
    if not common and not metrics:
        raise UserError(
            f"{a.path} and {b.path} have no MIMIC task in common: {', '.join(_names(a))} against "
            f"{', '.join(_names(b))}"
        )
    notes = [
        f"{name} is left out: only {arm.path} ran it"
        for arm, other in ((a, b), (b, a))
        for name in _names(arm)
        if name not in _names(other)
    ]
    paired = [_paired(a, b, task, a.samples[task], b.samples[task]) for task in common]
    for key in metrics:
        paired.append(_paired_upstream(a, b, a.upstream[key], b.upstream[key]))
        prompts = sum(pair.a.samples[0].question != pair.b.samples[0].question for pair in paired[-1].pairs)
        if prompts:
            notes.append(f"{' '.join(key)}: {prompts} docs had another prompt in {a.path} than in {b.path}")
    notes += [f"{task}: {INDEPENDENT}" for task in common if undetermined(a.samples[task])]
    return paired, notes


def _names(arm: Arm) -> list[str]:
    return [*arm.samples, *(f"{task} {metric}" for task, metric in arm.upstream)]


def _paired_upstream(a: Arm, b: Arm, scores_a: DocScores, scores_b: DocScores) -> PairedTask:
    name = max(scores_a.metric, scores_b.metric, key=len)
    return _paired(a, b, scores_a.task, scores_a.samples, scores_b.samples)._replace(
        measure=measure_by(name, [*scores_a.values, *scores_b.values]),
        higher_is_better=scores_a.higher_is_better,
    )


def _paired(
    a: Arm, b: Arm, task: str, samples_a: Sequence[Sample], samples_b: Sequence[Sample]
) -> PairedTask:
    docs_a, docs_b = docs_of(samples_a), docs_of(samples_b)
    alone = [_alone(here, there) for here, there in ((docs_a, docs_b), (docs_b, docs_a))]
    if any(alone):
        lists = "; ".join(
            f"{len(ids)} only in {arm.path} (doc {_some(ids)})"
            for arm, ids in zip((a, b), alone, strict=True)
            if ids
        )
        raise UserError(
            f"{a.path} and {b.path} ran {task} on different docs: {lists}. Run both on the same data "
            "and limit"
        )
    pairs = [Pair(docs_a[key], docs_b[key]) for key in docs_a]
    orders = [pair for pair in pairs if _orders(pair.a) != _orders(pair.b)]
    if orders:
        raise UserError(
            f"{a.path} and {b.path} ran {task} under different image orders (first: doc "
            f"{orders[0].a.doc_id}): give both the same MIMIC_ORDERS and MIMIC_SEED"
        )
    first = pairs[0].a.samples[0]
    scored = tuple(pair for pair in pairs if pair.a.scored and pair.b.scored)
    return PairedTask(
        task,
        first.kind,
        first.ordering is not None,
        measure_of(first.kind, permuted=first.ordering is not None),
        scored,
        clusters_of([pair.a for pair in scored]),
        sum(not pair.a.scored for pair in pairs),
        sum(not pair.b.scored for pair in pairs),
        len(pairs),
    )


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")


def _alone(here: Mapping[tuple[str, int], Doc], there: Mapping[tuple[str, int], Doc]) -> list[int]:
    return sorted(doc.doc_id for key, doc in here.items() if key not in there)


def _orders(doc: Doc) -> list[tuple[int, ...]]:
    return [order_of(sample) for sample in doc.samples]


def score_of(sample: Sample) -> float:
    """The score of a scored sample, 0 to 1; Listing: the doc's F1.

    Raises:
        UserError: it has none.
    """
    if sample.score is None:
        raise sample.missing("score")
    return sample.score


def doc_score(doc: Doc) -> float:
    """The mean score over the doc's orders."""
    return sum(map(score_of, doc.samples)) / len(doc.samples)


def clusters_of(docs: Sequence[Doc]) -> tuple[int, ...] | None:
    """The matched set of each doc, or None if docs are independent."""
    sets = tuple(doc.matched_set for doc in docs if doc.matched_set is not None)
    return sets if sets and len(sets) == len(docs) else None


def values_of(docs: Sequence[Doc], kind: str, *, permuted: bool) -> npt.NDArray[Any]:
    """What `measure_of(kind, permuted=permuted)` takes of scored docs: one row for each."""
    if isinstance(measure_of(kind, permuted=permuted), CorpusF1):
        return np.array([counts_of(doc.samples[0]) for doc in docs], dtype=np.int64).reshape(-1, 3)
    return np.array([doc_score(doc) for doc in docs])


def paired_values(task: PairedTask) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """What the task's measure takes of the docs under A and under B."""
    a, b = ([pair[run] for pair in task.pairs] for run in (0, 1))
    return values_of(a, task.kind, permuted=task.permuted), values_of(b, task.kind, permuted=task.permuted)


def images_of(task: PairedTask) -> list[list[str]] | None:
    """What docs share with others: their images and matched set; None if samples do not name their images."""
    images = [pair.a.samples[0].image_ids for pair in task.pairs]
    if not all(images):
        return None
    return [
        [str(image) for image in ids or ()] + [f"set {pair.a.matched_set}"] * (pair.a.matched_set is not None)
        for ids, pair in zip(images, task.pairs, strict=True)
    ]


def counts_of(sample: Sample) -> tuple[int, int, int]:
    """Recalled, generated and relevant classes of a scored sample of Listing.

    Raises:
        UserError: it has none.
    """
    counts = sample.items.get("f1", Item()).counts
    if counts is None:
        raise sample.missing("f1.counts")
    return counts


def answers_of(sample: Sample) -> tuple[str, ...]:
    """The normalised answer; of a task with an entry for each image, the entries of the images as stored."""
    scores = sample.position_scores
    if scores is None or None in scores:
        return (answer_of(sample),)
    if not isinstance(sample.parsed, str):
        return (answer_of(sample),) * len(scores)
    return tuple(sample.parsed.split(", "))


def answer_of(sample: Sample) -> str:
    """The normalised answer of a scored sample: as it was parsed, or its words.

    Lists are compared as sets: the order of the names is not part of the answer.
    """
    parsed = sample.parsed
    if parsed is None:
        return "unread: " + " ".join((sample.response or "").casefold().split())
    if isinstance(parsed, str):
        return _quoted(parsed)
    if isinstance(parsed, list | tuple):
        parsed = sorted({_quoted(name) if isinstance(name, str) else json.dumps(name) for name in parsed})
    return json.dumps(parsed, sort_keys=True) if isinstance(parsed, dict | list) else json.dumps(parsed)


_quoted = lru_cache(maxsize=1 << 12)(json.JSONEncoder().encode)
"""A text as JSON: names of classes are few."""
