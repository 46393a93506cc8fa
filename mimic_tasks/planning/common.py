"""Common: the one class that is in every image (METHODS 2)."""

from random import Random

import numpy as np

from mimic_tasks.planning.base import PlannedDoc, Planner, sample, shuffled, span
from mimic_tasks.planning.tree import ChoiceTree, Prefix

_SWAPS = 60


class CommonPlanner(Planner):
    """Draws images of a class and swaps some until no other class is annotated in all of them."""

    kind = "common"

    def tree(self) -> ChoiceTree:
        supply = {c: len(self.stock.where(self.pool.countable[:, c] > 0)) for c in self.askable()}
        return ChoiceTree(
            [
                lambda p: list(self.controls.sizes("common")),
                lambda p: [c for c in supply if supply[c] >= p[0]],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        n, answer = leaf
        candidates = self.stock.where(self.pool.countable[:, answer] > 0)
        if len(candidates) < n:
            return None
        images = sample(rng, candidates, n)
        for _ in range(_SWAPS):
            shared = np.asarray(self.pool.present[images].all(axis=0))
            shared[answer] = False
            if not shared.any():
                return PlannedDoc(
                    kind="common",
                    images=shuffled(rng, images),
                    targets=(answer,),
                    gt=self.names([answer])[0],
                    spread=n,
                )
            rival = rng.choice(np.flatnonzero(shared).tolist())
            without_rival = np.setdiff1d(candidates[~self.pool.present[candidates, rival]], images)
            if not len(without_rival):
                return None  # the rival is wherever the answer is
            images[rng.randrange(n)] = sample(rng, without_rival, 1)[0]
        return None

    def shortage(self) -> str:
        supply = {c: len(self.stock.where(self.pool.countable[:, c] > 0)) for c in self.askable()}
        best = max(supply, key=lambda c: supply[c], default=None)
        if best is None or not supply[best]:
            return "no image has a target class whose objects are all large enough (5 %) and not a crowd"
        return (
            f"asked: {span(list(self.controls.sizes('common')))} images that share one class and no other; "
            f"the best-served class, '{self.names([best])[0]}', has {supply[best]} images"
        )
