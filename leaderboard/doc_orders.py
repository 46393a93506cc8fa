"""One doc in several orders of its images or options: its positions, scores and differences."""

from collections.abc import Sequence

from leaderboard.pairing import Doc, score_of


def always_right(doc: Doc) -> bool:
    """Whether it is right in all orders."""
    return all(score_of(sample) == 1 for sample in doc.samples)


def positions_of(doc: Doc) -> list[float]:
    """The position of the one image with the targets in each order, 0 first to 1 last; else empty."""
    positions = []
    for sample in doc.samples:
        ordering = sample.ordering
        if ordering is None or len(ordering.target_positions or ()) != 1 or len(ordering.order) < 2:
            return []
        positions.append((ordering.target_positions or (0,))[0] / (len(ordering.order) - 1))
    return positions


def points_of(docs: Sequence[Doc]) -> list[list[tuple[float, float]]]:
    """Position and score of each order of docs whose targets lie in one image."""
    return [
        [
            (position, score_of(sample))
            for position, sample in zip(positions_of(doc), doc.samples, strict=True)
        ]
        for doc in docs
    ]


def last_minus_first(doc: Doc) -> float | None:
    """The mean score with the image last, less that with it first, or None if it is not at both ends."""
    (points,) = points_of([doc])
    last, first = ([score for position, score in points if position == end] for end in (1.0, 0.0))
    return sum(last) / len(last) - sum(first) / len(first) if first and last else None


def others_minus_first(doc: Doc) -> float:
    """The mean score over the other orders, less that in the first one."""
    first, *others = (score_of(sample) for sample in doc.samples)
    return sum(others) / len(others) - first
