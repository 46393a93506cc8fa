"""Listing: every class of a category that is seen over N images (METHODS 2)."""

from random import Random

import numpy as np

from mimic_eval.records import UserError
from mimic_tasks.planning.base import Indices, PlannedDoc, Planner, Stock, sample, shuffled, span
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.tree import ChoiceTree, Prefix

_LEAST_CLASSES = 2
_NAMED = 4


class ListingPlanner(Planner):
    """Draws a category, N and the number of images that show it; the rest show none of it."""

    kind = "listing"
    searches = 20  # of which some may show too few or too many classes (`--listed`)

    def __init__(self, stock: Stock, controls: Controls) -> None:
        super().__init__(stock, controls)
        self._version = -1
        self._supplies: dict[str, tuple[Indices, Indices]] = {}

    def tree(self) -> ChoiceTree:
        supply = {name: self.supply(name) for name in self.categories()}

        def shapes(name: str) -> list[tuple[int, int]]:
            positive, distractors = supply[name]
            return [
                (n, s)
                for n in self.controls.sizes(self.kind)
                for s in range(1, n + 1)
                if s <= len(positive) and n - s <= len(distractors)
            ]

        return ChoiceTree(
            [
                lambda p: [name for name in supply if shapes(name)],
                lambda p: sorted({n for n, _ in shapes(p[0])}),
                lambda p: [s for n, s in shapes(p[0]) if n == p[1]],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        category, n, s = leaf
        positive, distractors = self.supply(category)
        if len(positive) < s or len(distractors) < n - s:
            return None
        seen = sample(rng, positive, s)
        members = list(self.pool.category_members[category])
        visible = [c for c in members if (self.pool.countable[seen, c] > 0).any()]
        requested = self.controls.listed
        if requested and not requested.low <= len(visible) <= requested.high:
            return None
        visible.sort(key=lambda c: self.pool.source.classes[c])
        return PlannedDoc(
            kind=self.kind,
            images=shuffled(rng, seen + sample(rng, distractors, n - s)),
            targets=tuple(visible),
            gt=", ".join(self.names(visible)),
            spread=s,
            category=category,
        )

    def categories(self) -> list[str]:
        """The categories that a question may name; those that the profile leaves out only on request.

        Raises:
            UserError: the one that the user chose cannot be listed.
        """
        members, requested = self.pool.category_members, self.controls.category
        if requested is None:
            return [name for name in members if name not in self.pool.profile.unlisted]
        if requested not in members:
            known = ", ".join(sorted(members)) or "none"
            raise UserError(f"category '{requested}' has not two or more classes to list; there are: {known}")
        return [requested]

    def supply(self, category: str) -> tuple[Indices, Indices]:
        """The images for a category, computed again when images have been used up."""
        if self._version != self.stock.version:
            self._version, self._supplies = self.stock.version, {}
        if category not in self._supplies:
            self._supplies[category] = self._compute_supply(category)
        return self._supplies[category]

    def _compute_supply(self, category: str) -> tuple[Indices, Indices]:
        """(Images that show the category, all of it large, no crowd and askable; images without it).

        A class that is there only because a listed one is a kind of it is not listed beside that one.
        """
        members = list(self.pool.category_members[category])
        present = self.pool.present[:, members]
        good = (self.pool.countable[:, members] > 0) & self.pool.askable[members]
        fine = good | ~present
        above = self.pool.ancestors[np.ix_(members, members)]
        if above.any():
            certain = self.pool.sure[:, members] & ~self.pool.possible[:, members]
            fine |= certain & ~self.pool.boxed[:, members] & (good @ above)
        positive = good.any(axis=1) & fine.all(axis=1)
        return self.stock.where(np.asarray(positive)), self.stock.where(np.asarray(~present.any(axis=1)))

    def shortage(self) -> str:
        if not self.categories():
            return self._no_category()
        best = max(self.categories(), key=lambda name: len(self.supply(name)[0]))
        positive, distractors = self.supply(best)
        sizes = span(list(self.controls.sizes(self.kind)))
        listed = f" with {self.controls.listed} classes to list" if self.controls.listed else ""
        return (
            f"asked: {sizes} images{listed}; the best-served category, '{best}', "
            f"has {len(positive)} images with all its objects large enough, and {len(distractors)} without it"
        )

    def _no_category(self) -> str:
        """Why the data has no category to list."""
        source = self.pool.source
        names = {name for name in source.categories if name}
        if not names:
            return "no class of the data has a super-category, which Listing needs"
        reasons = []
        for name in sorted(names):
            size = source.categories.count(name)
            if name in self.pool.category_members:
                reasons.append(f"'{name}' is left out by the profile {self.pool.profile.name}")
            elif size < _LEAST_CLASSES:
                reasons.append(f"'{name}' has {size} class")
            else:
                reasons.append(f"'{name}' is the name of one of its classes")
        more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        return f"the data has no category of two or more classes to list: {', '.join(reasons[:_NAMED])}{more}"
