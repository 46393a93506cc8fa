"""Evaluation during training: held-out docs, prompted and scored as in `lmms_eval`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mimic_tasks.lmms_hooks import doc_to_messages
from mimic_tasks.scoring import score
from mimic_tasks.stored_docs import chosen_files, read_docs
from mimic_tasks.task_spec import spec_of
from model_adapters.answering import Answerer
from model_adapters.doc_prompt import take_images

COLUMNS = ("question", "gt", "targets", "category", "k", "n_images", "images", "image_ids", "boxes")


class Exam:
    """Docs of a build that are evaluated at regular steps.

    Args:
        folder: a task folder.
        batch: docs at a time.
        docs: of each task, the first ones; None for all.
    """

    def __init__(self, folder: Path, *, batch: int = 16, docs: int | None = None) -> None:
        self._docs = {
            kind: list(islice(read_docs(file, COLUMNS), docs))
            for kind, file in chosen_files(folder, None).items()
        }
        self._batch = batch

    def scores(self, answerer: Answerer) -> dict[str, float]:
        """Mean score of each task, and of each task and number of images (``counting/2``).

        A doc scores as in an evaluation: 1 or 0, in Listing its F1.
        """
        scores_of: dict[str, list[float]] = defaultdict(list)
        for kind, docs in self._docs.items():
            for start in range(0, len(docs), self._batch):
                part = docs[start : start + self._batch]
                for doc, text in zip(part, replies_to(answerer, kind, part), strict=True):
                    value = float(score(kind, text, doc).score)
                    scores_of[kind].append(value)
                    scores_of[f"{kind}/{doc['n_images']}"].append(value)
        return {name: sum(values) / len(values) for name, values in sorted(scores_of.items())}


def replies_to(answerer: Answerer, kind: str, docs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The answers of a model to a batch of docs of a task, prompted as in an evaluation."""
    prepared = [take_images(doc_to_messages(doc)) for doc in docs]
    prompts = [answerer.family.prompt(messages) for messages, _ in prepared]
    replies = answerer.reply(
        [images for _, images in prepared], prompts, {"max_new_tokens": spec_of(kind).max_new_tokens()}
    )
    return [reply.text for reply in replies]
