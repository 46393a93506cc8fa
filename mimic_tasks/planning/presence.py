"""PQA and Retrieval: in which of N images a class is (METHODS 16.1)."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from mimic_eval.records import UserError
from mimic_tasks.planning.base import Indices, PlannedDoc, Planner, Stock, sample, span
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.tree import ChoiceTree, Prefix


class PresenceSupply(NamedTuple):
    """The images with large objects of a class only, and those without any annotation of it."""

    present: Indices
    absent: Indices


class PresencePlanner(Planner):
    """Draws images with a class and images without it; `arranged` then puts them in order.

    Positions are not drawn for each doc but dealt out over all docs of one number of images, so that each
    position has the class equally often, but for one doc where the numbers do not divide.
    """

    def __init__(self, stock: Stock, controls: Controls) -> None:
        super().__init__(stock, controls)
        self._supplies: dict[int, tuple[int, PresenceSupply]] = {}
        self.shapes = self.allowed_shapes()
        if not self.shapes:
            raise UserError(f"no {self.kind} doc can have these --n-images, --spread and --distractors")

    @abstractmethod
    def allowed_shapes(self) -> list[tuple[int, int]]:
        """(N, s) pairs that the options allow, s images with the class."""

    @abstractmethod
    def truth(self, positions: Sequence[int], n: int) -> str:
        """The truth of `n` images of which those at these positions, from 0, show the class."""

    def askable(self) -> list[int]:
        """The classes that may be targets, less those that the profile says cannot be counted."""
        return [
            c for c in super().askable() if self.pool.source.classes[c] not in self.pool.profile.uncounted
        ]

    def supply(self, c: int) -> PresenceSupply:
        """The images for a class, computed again when images have been used up."""
        version, supply = self._supplies.get(c, (-1, None))
        if supply is None or version != self.stock.version:
            absent = ~self.pool.present[:, c]
            if self.controls.hard:
                absent &= self.pool.present[:, self.siblings((c,))].any(axis=1)
            supply = PresenceSupply(self.stock.showing(c), self.stock.where(absent))
            self._supplies[c] = self.stock.version, supply
        return supply

    def serves(self, c: int, n: int, s: int) -> bool:
        """A class has the images of a doc."""
        supply = self.supply(c)
        return s <= len(supply.present) and n - s <= len(supply.absent)

    def tree(self) -> ChoiceTree:
        return ChoiceTree(
            [
                lambda p: sorted({n for n, _ in self.shapes}),
                lambda p: [c for c in self.askable() if self._spreads(p[0], c)],
            ]
        )

    def _spreads(self, n: int, c: int) -> list[int]:
        """The numbers of images with the class that a doc may have; with s also n - s, where that may be."""
        of_size = [s for size, s in self.shapes if size == n]
        served = [s for s in of_size if self.serves(c, n, s)]
        return [s for s in served if n - s in served or n - s not in of_size]

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        n, c = leaf
        spreads = self._spreads(n, c)
        if not spreads:
            return None
        rng.shuffle(spreads)
        s = min(spreads, key=lambda one: self.stock.shapes[n, one])  # so that the docs have all of them
        supply = self.supply(c)
        return self.doc(c, sample(rng, supply.present, s), sample(rng, supply.absent, n - s))

    def doc(self, c: int, present: Sequence[int], absent: Sequence[int]) -> PlannedDoc:
        """The doc of some images, those with the class first."""
        images = (*present, *absent)
        return PlannedDoc(
            kind=self.kind,
            images=images,
            targets=(c,),
            gt=self.truth(range(len(present)), len(images)),
            spread=len(present),
        )

    def arranged(self, docs: Sequence[PlannedDoc], rng: Random) -> list[PlannedDoc]:
        """The docs with their images at the positions that have had the class least often."""
        uses: defaultdict[int, list[int]] = defaultdict(list)
        turned = list(docs)
        for i in rng.sample(range(len(docs)), len(docs)):
            n = len(docs[i].images)
            counts = uses[n] = uses[n] or [0] * n
            positions = sorted(range(n), key=lambda position: (counts[position], rng.random()))
            chosen = set(positions[: docs[i].spread])
            for position in chosen:
                counts[position] += 1
            turned[i] = self._at(docs[i], chosen, rng)
        return turned

    def _at(self, doc: PlannedDoc, positions: set[int], rng: Random) -> PlannedDoc:
        """The doc with the images of its class at these positions."""
        shows = self.pool.countable[list(doc.images), doc.targets[0]] > 0
        present = [i for i, visible in zip(doc.images, shows.tolist(), strict=True) if visible]
        absent = [i for i, visible in zip(doc.images, shows.tolist(), strict=True) if not visible]
        rng.shuffle(present)
        rng.shuffle(absent)
        n = len(doc.images)
        images = tuple((present if position in positions else absent).pop() for position in range(n))
        return replace(doc, images=images, gt=self.truth(sorted(positions), n))

    def shortage(self) -> str:
        best = max(self.askable(), key=lambda c: min(map(len, self.supply(c))), default=None)
        if best is None or not any(len(self.supply(c).present) for c in self.askable()):
            return "no image has a target class whose objects are all large enough (5 %) and not a crowd"
        supply = self.supply(best)
        kind = "hard distractors" if self.controls.hard else "images without it"
        return (
            f"asked: {span([n for n, _ in self.shapes])} images, {span([s for _, s in self.shapes])} of them "
            f"with the class; the best-served class, '{self.names([best])[0]}', has {len(supply.present)} "
            f"images and {len(supply.absent)} {kind}"
        )


class PqaPlanner(PresencePlanner):
    """Without `--spread` and `--distractors` some images of a doc show the class and some do not.

    A class that can serve s of N images is then used only if it can serve N - s too, and both are drawn
    equally often, so that over all docs one half of the entries is yes.
    """

    kind = "pqa"

    def allowed_shapes(self) -> list[tuple[int, int]]:
        sizes = self.controls.sizes(self.kind)
        either = self.controls.spread is None and self.controls.distractors is None
        return [
            (n, s) for n, s in self.controls.counting_shapes() if n >= sizes.start and not (either and s == n)
        ]

    def truth(self, positions: Sequence[int], n: int) -> str:
        return ", ".join("yes" if position in positions else "no" for position in range(n))


class RetrievalPlanner(PresencePlanner):
    """One image shows the class."""

    kind = "retrieval"

    def allowed_shapes(self) -> list[tuple[int, int]]:
        controls = replace(self.controls, spread=None)
        sizes = controls.sizes(self.kind)
        return [(n, s) for n, s in controls.counting_shapes() if n >= sizes.start and s == 1]

    def truth(self, positions: Sequence[int], n: int) -> str:
        (position,) = positions
        return str(position + 1)
