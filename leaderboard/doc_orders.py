"""One doc in several orders of its images or options: its positions, scores and differences."""

from collections.abc import Sequence

from leaderboard.pairing import Doc, answers_of, score_of
from stats import RelativeDeviation, pairwise_disagreement, relative_deviation


def always_right(doc: Doc) -> bool:
    """Whether it is right in all orders."""
    return all(score_of(sample) == 1 for sample in doc.samples)


def positions_of(doc: Doc) -> list[float]:
    """The positions of `points_of`, 0 first to 1 last; empty where no image holds the answer alone."""
    return [position for position, _ in _points(doc)]


def points_of(docs: Sequence[Doc]) -> list[list[tuple[float, float]]]:
    """Position and score in all orders of docs: of the one image with the targets, else empty.

    In a task with an entry for each image: of every image, with the score of its entry.
    """
    return [_points(doc) for doc in docs]


def _points(doc: Doc) -> list[tuple[float, float]]:
    points = []
    for sample in doc.samples:
        ordering = sample.ordering
        if ordering is None or len(ordering.order) < 2:
            return []
        last = len(ordering.order) - 1
        if sample.position_scores is not None:
            scores = enumerate(sample.position_scores)
            points += [(position / last, score) for position, score in scores if score is not None]
        elif len(ordering.target_positions or ()) == 1:
            points.append(((ordering.target_positions or (0,))[0] / last, score_of(sample)))
        else:
            return []
    return points


def disagreement_of(doc: Doc) -> float:
    """The share of pairs of orders whose answers differ; the mean over images that have an entry each."""
    of_images = zip(*map(answers_of, doc.samples), strict=True)
    shares = [pairwise_disagreement([answers]).estimate for answers in of_images]
    return sum(shares) / len(shares)


def deviation_of(docs: Sequence[Doc]) -> RelativeDeviation | None:
    """Of the scores over positions, where the answers of a task name images by their position."""
    scores = [sample.position_scores for doc in docs for sample in doc.samples]
    blocks = [number for number, doc in enumerate(docs) for _ in doc.samples]
    answers = [of_sample for of_sample in scores if of_sample is not None]
    return relative_deviation(answers, blocks) if len(answers) == len(blocks) else None


def last_minus_first(doc: Doc) -> float | None:
    """The mean score with the image last, less that with it first, or None if it is not at both ends."""
    (points,) = points_of([doc])
    last, first = ([score for position, score in points if position == end] for end in (1.0, 0.0))
    return sum(last) / len(last) - sum(first) / len(first) if first and last else None


def others_minus_first(doc: Doc) -> float:
    """The mean score over the other orders, less that in the first one."""
    first, *others = (score_of(sample) for sample in doc.samples)
    return sum(others) / len(others) - first
