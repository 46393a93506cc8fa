"""What an intervention did in a run, summed over its docs, for the run's record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mimic_eval.records.processes import together
from model_adapters.interventions.record import summarize_edits

DocKey = tuple[str, int]
"""Task and doc id."""


def from_all_processes(local: Mapping[DocKey, Mapping[str, Any]]) -> dict[DocKey, Mapping[str, Any]]:
    """The records of this process's docs and of those of the others in a run; each doc once.

    Args:
        local: `Answer.record` by doc. Upstream gives a process a doc of another where their numbers differ.
            Processes that run one model together have the same docs.
    """
    distributed = torch.distributed
    if together() or not (distributed.is_available() and distributed.is_initialized()):
        return dict(local)
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, dict(local))
    return {key: record for part in parts for key, record in part.items()}


def summarize_work(work: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The run's record of what the model read and wrote: sums of `Answer.work` and the output tokens.

    Args:
        work: of each doc that has an answer.
    """
    total: Counter[str] = Counter()
    for of_doc in work:
        total.update(of_doc)
    return {"docs": len(work), **total}


def summarize_effects(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The run's record of what was done.

    Args:
        records: one for each doc, as `Answerer.reply` makes them.

    Returns:
        ``edits`` (`summarize_edits`) and ``relevance`` (``docs`` and the sums of the counts of
        `RelevanceSource.relevance`), where any record has them; ``passes`` (``docs``, how many of them in one
        pass, all ``passes`` and the ``most`` of a doc, the different ``pictures`` that each doc's passes
        show, and the sums of what was counted at decoding steps), of a mask of several; ``long_prompts``
        (``docs``, the ``longest`` in tokens, the decoder's ``limit``), where any prompt is longer than that;
        ``calibrated_on`` (``docs`` that are among those that the sinks were calibrated on), if there are any;
        ``image_marks`` (``docs``, and the sums of `MarkCounts`), where any text has marks for images.
    """
    effects: dict[str, Any] = {}
    edits = [record["edits"] for record in records if "edits" in record]
    if edits:
        effects["edits"] = summarize_edits(edits)
    counts = [record["relevance"] for record in records if "relevance" in record]
    if counts:
        total: Counter[str] = Counter(docs=len(counts))
        for local in counts:
            total.update(local)
        effects["relevance"] = dict(total)
    passes = [record["passes"] for record in records if "passes" in record]
    if passes:
        sums: Counter[str] = Counter()
        for local in passes:
            sums.update(local)
        numbers = [local["passes"] for local in passes]
        effects["passes"] = {
            "docs": len(passes),
            "docs_in_one_pass": numbers.count(1),
            "most": max(numbers),
            **sums,
        }
    long = [record["long_prompt"] for record in records if "long_prompt" in record]
    if long:
        longest, limit = max(long)
        effects["long_prompts"] = {"docs": len(long), "longest": longest, "limit": limit}
    if calibrated_on := sum("calibrated_on" in record for record in records):
        effects["calibrated_on"] = {"docs": calibrated_on}
    marks = [record["image_marks"] for record in records if "image_marks" in record]
    if marks:
        effects["image_marks"] = {
            "docs": len(marks),
            **{name: sum(local[name] for local in marks) for name in marks[0]},
        }
    return effects
