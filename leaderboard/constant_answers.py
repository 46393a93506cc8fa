"""What the best answer that is the same for all docs would score."""

from collections import Counter
from collections.abc import Iterable, Sequence

from mimic_eval.records import Sample, measure_name, positional_of
from stats import f1_from_counts


def constant_of(metric: str, samples: Sequence[Sample]) -> float | None:
    """What the best constant answer scores on the docs of some samples; None where the metric has none.

    Raises:
        UserError: a sample does not contain its right answer.
    """
    truths = list(map(gt_of, samples))
    positional = positional_of(samples[0].kind) if samples else None
    if positional is not None and metric in ("exact_match", "mean_score"):
        return positional.constant([[truth] for truth in truths])
    return best_constant(metric, truths)


def gt_of(sample: Sample) -> str:
    """The right answer.

    Raises:
        UserError: the sample does not contain it.
    """
    if sample.gt is None:
        raise sample.missing("gt")
    return sample.gt


def best_constant(metric: str, answers: Iterable[str]) -> float | None:
    """The score of the best answer that is the same for all docs.

    For exact match the most frequent right answer (for several target classes, the most frequent numbers);
    for F1 the best list of classes, which is exact: for a given length, the most frequent classes are the
    best.

    Args:
        metric: others than ``exact_match`` and ``f1`` have none here.
        answers: the right answers (`gt`).
    """
    parts = [answer.lower().split(", ") for answer in answers]
    if not parts or metric not in ("exact_match", "f1"):
        return None
    if metric == "exact_match":
        common = Counter(tuple(part.rpartition(": ")[2] for part in answer) for answer in parts)
        return common.most_common(1)[0][1] / len(parts)
    best, recalled, relevant = 0.0, 0, sum(map(len, parts))
    for length, (_, docs) in enumerate(Counter(name for gt in parts for name in gt).most_common(), 1):
        recalled += docs
        best = max(best, f1_from_counts(recalled, length * len(parts), relevant).f1)
    return best


def constant_over_orders(kind: str, answers: Iterable[str]) -> float:
    """The mean over docs of what one answer to all docs scores in every order of a permuted task.

    Listing: the best of the lists of the most frequent classes, by the mean F1 of the docs.

    Args:
        kind: the task's.
        answers: the right answers (`gt`).
    """
    if measure_name(kind) != "corpus_f1":
        return best_constant("exact_match", answers) or 0.0
    parts = [set(answer.lower().split(", ")) for answer in answers]
    common = [name for name, _ in Counter(name for gt in parts for name in gt).most_common()]
    best = 0.0
    for length in range(1, len(common) + 1):
        answer = set(common[:length])
        best = max(best, sum(2 * len(answer & gt) / (length + len(gt)) for gt in parts) / len(parts))
    return best
