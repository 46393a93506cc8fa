"""Scores of the four tasks: pure functions from (response, doc) to the parsed answer and its score.

`ours` matches full words, `official` repeats the release bug for bug (METHODS 2.1), `corpus`
shows both over a task.
"""

from mimic_tasks.scoring.corpus import CorpusScore, corpus_score, read_jsonl
from mimic_tasks.scoring.official import (
    ListingCounts,
    OfficialCount,
    official_contains,
    official_counting,
    official_listing,
    official_listing_f1,
)
from mimic_tasks.scoring.ours import (
    ScoredAnswer,
    Status,
    score,
    score_common,
    score_counting,
    score_listing,
    score_oddone,
)
from mimic_tasks.scoring.plurals import plural
from mimic_tasks.scoring.vocabulary import COCO_CLASSES, Mention, doc_classes, find_mentions

__all__ = [
    "COCO_CLASSES",
    "CorpusScore",
    "ListingCounts",
    "Mention",
    "OfficialCount",
    "ScoredAnswer",
    "Status",
    "corpus_score",
    "doc_classes",
    "find_mentions",
    "official_contains",
    "official_counting",
    "official_listing",
    "official_listing_f1",
    "plural",
    "read_jsonl",
    "score",
    "score_common",
    "score_counting",
    "score_listing",
    "score_oddone",
]
