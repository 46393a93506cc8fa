"""PQA: yes or no for each image of a list (METHODS 16.1)."""

from mimic_eval.records import UserError
from mimic_tasks.scoring.positions import UNREAD, entries_of
from mimic_tasks.scoring.response import answer_text
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, Status, no_answer, unreadable
from mimic_tasks.scoring.vocabulary import doc_classes
from mimic_tasks.scoring.yes_no import json_entries, read_entries


def score_pqa(response: str, doc: Doc) -> ScoredAnswer:
    """PQA: the share of images whose entry is right; ``exact_list`` is 1 if all are.

    An answer with a wrong number of entries that does not say which images they are for is not parsed. An
    image that a parsed answer leaves out is wrong.

    Args:
        response: the model's answer.
        doc: needs `gt`; `targets` and `boxes` add to the vocabulary where present.

    Raises:
        UserError: gt is not yes or no for each image.
    """
    truth = entries_of(str(doc["gt"]))
    if UNREAD in truth:
        raise UserError(f"gt must be yes or no for each image, got {doc['gt']!r}")
    n = len(truth)
    entries = json_entries(response, n)
    if entries is None:
        text = answer_text(response)
        failed = unreadable(text)
        if failed is not None:
            return _wrong(n, failed)
        targets = [str(name) for name in doc.get("targets") or ()]
        entries = read_entries(text, n, targets, doc_classes(doc, targets) if targets else ())
        if entries is None:
            return _wrong(n, no_answer(text))
    scores = tuple(float(entry == right) for entry, right in zip(entries, truth, strict=True))
    return ScoredAnswer(
        ", ".join(entry or UNREAD for entry in entries),
        "parsed",
        sum(scores) / n,
        further={"exact_list": float(all(scores))},
        position_scores=scores,
    )


def _wrong(n: int, status: Status) -> ScoredAnswer:
    return ScoredAnswer(None, status, 0.0, further={"exact_list": 0.0}, position_scores=(0.0,) * n)
