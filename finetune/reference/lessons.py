"""The batches of a training run: scenes, planned docs and a curriculum, each batch fixed by its number."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from finetune.reference.questions import Questions, Turn
from mimic_eval.records import TASK_KINDS
from mimic_eval.records.folders import write_atomically
from mimic_eval.records.reading import read_json
from mimic_tasks.planning import Controls, PlannedDoc, Range, plan_task
from mimic_tasks.pool import Pool

MAX_IMAGES = 6
"""Images of the longest doc in training."""


@dataclass(frozen=True)
class Conversation:
    """Pictures, and questions about them with their answers, the first one without context."""

    images: tuple[Path, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum.

    Attributes:
        until: where it ends, as a share of the steps.
        images: the most images a doc.
        describe: share of the batches whose only question is what each image shows.
    """

    until: float
    images: int
    describe: float


CURRICULUM = (Stage(0.1, 1, 0.6), Stage(0.25, 2, 0.4), Stage(1.0, MAX_IMAGES, 0.2))
"""One image first, then two images, then all sizes."""


@dataclass(frozen=True)
class LessonPlan:
    """What the batches depend on beside the scenes.

    Attributes:
        steps: batches in all.
        seed: of every draw.
        docs: planned docs a task.
        images: the most pictures a batch.
        batch: the most docs a batch; two thirds of it where each has several questions.
        extra: questions per doc besides the one of the task.
        common: how much likelier a doc is one of Common than one of Counting, both in number of images.
        oddone: the same of Odd-One: further questions never are of these two tasks.
        classes: the most classes of a Counting question.
        across: further questions also ask in which and in how many images a class is.
        positions: further questions are also those of PQA and Retrieval.
        describe: this share of `Stage.describe` in all batches, which then are of all sizes from the start.
    """

    steps: int
    seed: int = 0
    docs: int = 8000
    images: int = 48
    batch: int = 32
    extra: int = 7
    common: int = 3
    oddone: int = 9
    classes: int = 1
    across: bool = False
    positions: bool = False
    describe: float | None = None


class Lessons:
    """Batch i of a run, the same at each access: a map-style dataset for `Trainer`.

    Each doc is one that `plan_task` drew, as an evaluation's, and comes with further questions that its
    images can answer: the pictures are most of the cost.

    Args:
        pool: the scenes.
        plan: what the batches are like.
        stored: a file that holds the planned docs, or gets them: planning takes minutes.
    """

    def __init__(self, pool: Pool, plan: LessonPlan, stored: Path | None = None) -> None:
        self.plan = plan
        self._questions = Questions(pool)
        self._paths = [image.path for image in pool.source.images]
        self._docs = _planned(pool, plan, stored)
        weights = {"common": plan.common, "oddone": plan.oddone}
        self._kinds = {
            n: [kind for kind, size in self._docs if size == n for _ in range(weights.get(kind, 1))]
            for n in range(1, MAX_IMAGES + 1)
        }

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, number: int) -> list[Conversation]:
        rng = Random(f"{self.plan.seed}/lesson/{number}")
        share = number / self.plan.steps
        stage = self._stage(share)
        n = rng.randint(1, stage.images)
        describe = rng.random() < stage.describe
        most = self.plan.batch if describe else 2 * self.plan.batch // 3
        return [
            self._conversation(n, rng, describe=describe) for _ in range(min(most, self.plan.images // n))
        ]

    def _stage(self, share: float) -> Stage:
        """Of the batch before which that share of the steps lies."""
        if self.plan.describe is not None:
            return Stage(1.0, MAX_IMAGES, self.plan.describe)
        return next(stage for stage in CURRICULUM if share < stage.until)

    def _conversation(self, n: int, rng: Random, *, describe: bool) -> Conversation:
        doc = rng.choice(self._docs[rng.choice(self._kinds[n]), n])
        ask = self._questions
        paths = tuple(self._paths[i] for i in doc.images)
        if describe:
            return Conversation(paths, (ask.describe(doc.images),))
        primary = ask.primary(doc, rng)
        further = [*ask.counting(doc.images, rng)[:5], *ask.listing(doc.images, rng)[:2]]
        if self.plan.classes > 1:
            further += ask.several(doc.images, rng, most=self.plan.classes)
        if self.plan.across:
            further += ask.across(doc.images, rng, kind=doc.kind)
        if self.plan.positions:
            further += ask.positions(doc.images, rng)
        rng.shuffle(further)
        turns = [primary, *(turn for turn in further if turn.about != primary.about)]  # no query twice
        return Conversation(paths, tuple(turns[: 1 + self.plan.extra]))


def _planned(
    pool: Pool, plan: LessonPlan, stored: Path | None
) -> dict[tuple[str, int], Sequence[PlannedDoc]]:
    """Docs by task and number of images."""
    if stored is not None and stored.is_file():
        docs = [_read(entry) for entry in read_json(stored)]
    else:
        wanted = [(kind, 1) for kind in TASK_KINDS] + [("counting", k) for k in range(2, plan.classes + 1)]
        docs = []
        for kind, k in wanted:
            controls = Controls(n_images=Range(1, MAX_IMAGES), k=k)
            docs += plan_task(kind, pool, controls, docs=plan.docs // k, seed=plan.seed).docs
        if stored is not None:
            write_atomically(stored, json.dumps([asdict(doc) for doc in docs]).encode())
    groups: dict[tuple[str, int], list[PlannedDoc]] = {}
    for doc in docs:
        groups.setdefault((doc.kind, len(doc.images)), []).append(doc)
    return groups  # type: ignore[return-value]


def _read(entry: dict[str, Any]) -> PlannedDoc:
    return PlannedDoc(**{**entry, "images": tuple(entry["images"]), "targets": tuple(entry["targets"])})
