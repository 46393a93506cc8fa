"""What the planners share: a planned doc, and what has been used up so far."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.pool import Mask, Pool

Indices = npt.NDArray[np.int64]
_MISSES_BEFORE_RETIRING = 25


@dataclass(frozen=True)
class PlannedDoc:
    """One doc before its pictures are opened. Images and classes are positions in the pool's source.

    Attributes:
        kind: the task.
        images: the images in the doc's order, all different.
        targets: Counting: the classes of the question in its order; Listing: the classes to be listed,
            alphabetical; Common, Odd-One: the answer.
        gt: the ground truth as text.
        spread: images with at least one target (Odd-One: the minority's size; Common: all).
        category: the super-category of the question (Listing).
        split: ``balanced`` or ``unbalanced`` (Counting).
    """

    kind: str
    images: tuple[int, ...]
    targets: tuple[int, ...]
    gt: str
    spread: int
    category: str | None = None
    split: str | None = None

    @property
    def key(self) -> tuple[frozenset[int], frozenset[int]]:
        """No two docs of a task may share it: the same targets over the same set of images."""
        return frozenset(self.targets), frozenset(self.images)


class Stock:
    """The pool as a task's docs use it up: which docs exist, how often each image has served.

    Attributes:
        pool: the pool.
        free: bool (I,), the images that may serve.
        version: rises when images are retired.
        shapes: how many docs have N images of which s have a target, by (N, s).
    """

    def __init__(self, pool: Pool, *, max_reuse: int | None) -> None:
        self.pool = pool
        self.free: Mask = pool.usable.copy()
        self.version = 0
        self._taken: set[tuple[frozenset[int], frozenset[int]]] = set()
        self._uses: Counter[int] = Counter()
        self.shapes: Counter[tuple[int, int]] = Counter()
        self._max_reuse = max_reuse
        self._showing: dict[int, tuple[int, Indices]] = {}

    def is_new(self, doc: PlannedDoc) -> bool:
        """No doc taken so far has the same targets and the same set of images."""
        return doc.key not in self._taken

    def take(self, doc: PlannedDoc) -> None:
        """Enter a doc, and retire the images that have now served often enough."""
        self._taken.add(doc.key)
        self.shapes[len(doc.images), doc.spread] += 1
        if self._max_reuse is None:
            return
        self._uses.update(doc.images)
        worn = [image for image in doc.images if self._uses[image] >= self._max_reuse]
        if worn:
            self.free[worn] = False
            self.version += 1

    def where(self, mask: Mask) -> Indices:
        """The free images of a mask."""
        return np.flatnonzero(mask & self.free)

    def showing(self, c: int) -> Indices:
        """The free images with countable objects of a class."""
        version, images = self._showing.get(c, (-1, None))
        if images is None or version != self.version:
            images = self.where(self.pool.countable[:, c] > 0)
            self._showing[c] = self.version, images
        return images


class MatchedSetSource(ABC):
    """A tree of choices and, for each leaf, a search for images: what a build and a sweep draw docs from.

    A *matched set* is one doc for each cell of a sweep, alike but for what the cells vary. A build has one
    cell.

    Attributes:
        searches: how many failed searches like the last one show that a choice cannot be served.
    """

    searches = 1

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.pool = stock.pool

    @abstractmethod
    def tree(self) -> ChoiceTree:
        """The choices to be made, fresh."""

    @abstractmethod
    def matched(self, leaf: Prefix, rng: Random) -> list[PlannedDoc] | None:
        """A random matched set for the choices made, or None when the data cannot serve them."""

    @abstractmethod
    def shortage(self) -> str:
        """Which constraint the data could not satisfy, and what it could give, in a few words."""

    def arranged(self, docs: Sequence[PlannedDoc], rng: Random) -> list[PlannedDoc]:
        """All docs that were drawn (of a sweep: for a cell), with the orders of their images settled."""
        return list(docs)

    def names(self, classes: Sequence[int]) -> list[str]:
        """Class names."""
        return [self.pool.source.classes[c] for c in classes]


class Drawing:
    """Draws matched sets from a source until no choice is left."""

    def __init__(self, source: MatchedSetSource) -> None:
        self._source = source
        self.restart()

    def restart(self) -> None:
        """Make all choices possible again."""
        self._tree = self._source.tree()
        self._misses: Counter[Prefix] = Counter()

    def next(self, rng: Random, accept: Callable[[list[PlannedDoc]], bool]) -> list[PlannedDoc] | None:
        """The next matched set that is accepted; None when no choice is left."""
        while (leaf := self._tree.draw(rng)) is not None:
            docs = self._source.matched(leaf, rng)
            if docs is None:
                self._misses[leaf] += _MISSES_BEFORE_RETIRING // self._source.searches + 1
            elif accept(docs):
                return docs
            else:
                self._misses[leaf] += 1
            if self._misses[leaf] >= _MISSES_BEFORE_RETIRING:
                self._tree.retire(leaf)
        return None


class Planner(MatchedSetSource):
    """Draws docs of one task.

    Attributes:
        kind: the task.
        split: of its docs; None if the task has no splits.
    """

    kind: str
    split: str | None = None

    def __init__(self, stock: Stock, controls: Controls) -> None:
        super().__init__(stock)
        self.controls = controls

    @abstractmethod
    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        """One random doc for the choices made, or None when the data cannot serve them."""

    def matched(self, leaf: Prefix, rng: Random) -> list[PlannedDoc] | None:
        doc = self.attempt(leaf, rng)
        return None if doc is None else [doc]

    def askable(self) -> list[int]:
        """The classes that may be targets."""
        return [int(c) for c in np.flatnonzero(self.pool.askable)]

    def siblings(self, targets: tuple[int, ...]) -> list[int]:
        """The other classes of the targets' super-categories."""
        categories = self.pool.source.categories
        wanted = {categories[c] for c in targets} - {""}
        return [c for c, category in enumerate(categories) if category in wanted and c not in targets]


def in_random_order(rng: Random, population: Indices) -> Iterator[int]:
    """The members one by one, each order equally likely; drawn only as far as they are used."""
    members = population.tolist()
    for i in range(len(members)):
        j = rng.randrange(i, len(members))
        members[i], members[j] = members[j], members[i]
        yield members[i]


def sample(rng: Random, population: Indices, n: int) -> list[int]:
    """`n` different members, each set equally likely."""
    return [int(population[i]) for i in rng.sample(range(len(population)), n)]


def without(population: Indices, taken: Sequence[int]) -> Indices:
    """The members that are not taken. As `numpy.setdiff1d` for sorted members, at a tenth of its time."""
    some = np.asarray(taken, dtype=population.dtype)
    at = population.searchsorted(some)
    inside = at < len(population)
    at, some = at[inside], some[inside]
    left = np.ones(len(population), dtype=bool)
    left[at[population[at] == some]] = False
    return population[left]


def shuffled(rng: Random, images: list[int]) -> tuple[int, ...]:
    """The images in a random order."""
    rng.shuffle(images)
    return tuple(images)


def span(numbers: Sequence[int]) -> str:
    """``2-5`` or ``3`` or ``none`` for a message."""
    if not numbers:
        return "none"
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}-{high}"
