"""The questions about a set of images: those of the tasks, and some that only training has."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from random import Random
from typing import NamedTuple

import numpy as np

from mimic_eval.records import TASK_KINDS
from mimic_tasks.coco_classes import COCO_CLASSES
from mimic_tasks.planning import PlannedDoc
from mimic_tasks.pool import Mask, Pool
from mimic_tasks.prompts import framed
from mimic_tasks.scoring.plurals import plural
from mimic_tasks.task_spec import spec_of

DESCRIBE = "For each image, name every object class and how many objects of it there are."
"""All classes of each image with their counts are the answer, so that every picture has much to teach."""

IN_EVERY_IMAGE = "Name the object classes in every one of these images."
IN_A_MINORITY = "Name the object classes in fewer than half of these images."
IN_HOW_MANY_IMAGES = "In how many of these images is there a {name}?"
NO_CLASS = "none"
POSITIONAL = ("pqa", "retrieval")
"""Tasks of the order suite, whose questions may be further ones."""
LONGEST_LIST = 6
"""Classes in the answer of a question for lists that only training has; longer ones are left out."""


class Turn(NamedTuple):
    """A question as the user's turn has it (framed), its answer, and its query apart from the wording."""

    question: str
    answer: str
    about: tuple[str, ...]


class Questions:
    """The questions that METHODS 2 allows over the images of a pool.

    Args:
        pool: where the docs were planned.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.classes = pool.source.classes

    @cached_property
    def _clear(self) -> Mask:
        """bool (I, C): all instances of the class in the image can be counted, be it none."""
        return np.asarray((self.pool.countable > 0) | ~self.pool.present)

    def primary(self, doc: PlannedDoc, rng: Random) -> Turn:
        """The question that a doc was planned for."""
        names = [self.classes[c] for c in doc.targets]
        spec = spec_of(doc.kind)
        question = spec.question(rng, classes=names, category=doc.category)
        return Turn(framed(question), doc.gt, (doc.kind, *(spec.named(names, doc.category) or ("",))))

    def counting(self, images: Sequence[int], rng: Random) -> list[Turn]:
        """How many of each class that is there and can be counted, in random order.

        The larger a number, the likelier it is among the first: Counting asks for all numbers equally often.
        """
        chosen, counting = list(images), spec_of("counting")
        totals = self.pool.countable[chosen].sum(axis=0)
        candidates = np.flatnonzero(self._clear[chosen].all(axis=0) & (totals > 0)).tolist()
        candidates.sort(key=lambda c: rng.random() ** (1 / totals[c]), reverse=True)
        return [
            Turn(framed(counting.question(rng, classes=[name])), str(total), ("counting", name))
            for name, total in ((self.classes[c], totals[c]) for c in candidates)
        ]

    def several(self, images: Sequence[int], rng: Random, *, most: int) -> list[Turn]:
        """One Counting question about 2 to `most` classes at once, if there are as many."""
        single = self.counting(images, rng)[: rng.randint(2, most)]
        if len(single) < 2:
            return []
        names = [turn.about[1] for turn in single]
        answer = ", ".join(f"{turn.about[1]}: {turn.answer}" for turn in single)
        question = framed(spec_of("counting").question(rng, classes=names))
        return [Turn(question, answer, ("counting", *names))]

    def across(self, images: Sequence[int], rng: Random, *, kind: str) -> list[Turn]:
        """What Common and Odd-One need, asked of any images: in which and in how many images a class is.

        Args:
            images: of the pool.
            rng: chooses the classes.
            kind: of the doc's question, whose answer is not asked for again.
        """
        presence = self.pool.boxed[list(images)].sum(axis=0)
        present = np.flatnonzero(presence).tolist()
        turns = []
        lists = [("common", IN_EVERY_IMAGE, presence == len(images))] if len(images) > 1 else []
        if len(images) > 2:
            lists.append(("oddone", IN_A_MINORITY, (presence > 0) & (2 * presence < len(images))))
        for about, question, chosen in lists:
            names = sorted(self.classes[c] for c in np.flatnonzero(chosen))
            if kind != about and len(names) <= LONGEST_LIST:
                turns.append(Turn(framed(question), ", ".join(names) or NO_CLASS, ("list", about)))
        for c in rng.sample(present, min(2, len(present))) if len(images) > 1 else ():
            question = framed(IN_HOW_MANY_IMAGES.format(name=self.classes[c]))
            turns.append(Turn(question, str(presence[c]), ("images", self.classes[c])))
        return turns

    def positions(self, images: Sequence[int], rng: Random) -> list[Turn]:
        """A question of PQA about a class, in half of them one of another picture, and one of Retrieval."""
        if len(images) < 2:
            return []
        boxed = self.pool.boxed[list(images)]
        number = boxed.sum(axis=0)
        some, one = np.flatnonzero(number).tolist(), np.flatnonzero(number == 1).tolist()
        chosen = rng.choice(some) if rng.random() < 0.8 else rng.randrange(len(self.classes))
        entries = ", ".join("yes" if there else "no" for there in boxed[:, chosen])
        turns = [self._turn("pqa", chosen, entries, rng)]
        if one:
            chosen = rng.choice(one)
            turns.append(self._turn("retrieval", chosen, str(int(boxed[:, chosen].argmax()) + 1), rng))
        return turns

    def _turn(self, kind: str, chosen: int, answer: str, rng: Random) -> Turn:
        """A question of a task about one class."""
        name = self.classes[chosen]
        return Turn(framed(spec_of(kind).question(rng, classes=[name])), answer, (kind, name))

    def listing(self, images: Sequence[int], rng: Random) -> list[Turn]:
        """Which classes of each category that is there and can be listed, in random order."""
        chosen = list(images)
        fine = np.asarray(self._clear[chosen].all(axis=0))
        totals = self.pool.countable[chosen].sum(axis=0)
        turns = []
        for category, members in self.pool.category_members.items():
            present = sorted(self.classes[c] for c in members if totals[c])
            if present and fine[list(members)].all():
                question = framed(spec_of("listing").question(rng, category=category))
                turns.append(Turn(question, ", ".join(present), ("listing", category)))
        rng.shuffle(turns)
        return turns

    def describe(self, images: Sequence[int]) -> Turn:
        """Image by image, every class with its number of objects, small ones too, in alphabetical order."""
        return Turn(framed(DESCRIBE), "; ".join(self._described(image) for image in images), ("describe",))

    def _described(self, image: int) -> str:
        counts = self.pool.annotated[image]
        present = sorted((self.classes[c], int(counts[c])) for c in np.flatnonzero(counts))
        return ", ".join(f"{name}: {count}" for name, count in present)


def vocabulary() -> tuple[str, ...]:
    """The words that questions and answers differ in: classes, their plurals, categories."""
    names = [entry.name for entry in COCO_CLASSES]
    return (*dict.fromkeys((*names, *map(plural, names), *(entry.supercategory for entry in COCO_CLASSES))),)


def corpus() -> tuple[str, ...]:
    """Every wording with every COCO class and category, and their answers: what a tokenizer learns from."""
    return tuple(_lines())


def _lines() -> Iterator[str]:
    names = [coco_class.name for coco_class in COCO_CLASSES]
    wordings = [wording for kind in (*TASK_KINDS, *POSITIONAL) for wording in spec_of(kind).wordings]
    texts = [
        framed(wording.format(things=plural(thing.name), category=thing.supercategory))
        for wording in wordings
        for thing in COCO_CLASSES
    ]
    texts += [framed(text) for text in (DESCRIBE, IN_EVERY_IMAGE, IN_A_MINORITY) for _ in names]
    texts += [framed(IN_HOW_MANY_IMAGES.format(name=name)) for name in names]
    for (
        question
    ) in texts:  # behind pictures, and as a further turn, in the chat template of the tiny checkpoints
        yield from (f"\n{question}", f"user \n{question}", "user ", "assistant\n")
    yield from names
    yield from (f"{first}, {second}" for first in names for second in names[:: len(names) // 8])
    yield from (f"{name}: {count}, {name}: {count}; {name}: 1" for name in names for count in range(1, 10))
    yield from (f"{first}, {second}" for first in ("yes", "no") for second in ("yes", "no") for _ in names)
    yield from (str(number) for number in range(100) for _ in range(10))
