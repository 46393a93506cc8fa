"""What the user requests of a build, and what follows from it for each task."""

from dataclasses import dataclass
from typing import NamedTuple

from mimic_eval.records import UserError
from mimic_tasks.task_spec import spec_of

DEFAULT_SIZES = (2, 6)
MAX_SIZE, MAX_TOTAL, MAX_CONFUSABLE = 64, 200, 20
LEAST_CONFUSABLE_SIZE = 3
_LONGEST_RANGE = 20
SPLITS = ("balanced", "unbalanced", "both")


class Range(NamedTuple):
    """A closed range of integers."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"

    def values(self) -> range:
        """The numbers in the range."""
        return range(self.low, self.high + 1)


def parse_range(option: str, text: str, *, minimum: int, maximum: int) -> Range:
    """``4`` or ``2-6`` as a `Range`.

    Raises:
        UserError: not of that form, out of range, or descending.
    """
    parts = text.split("-") if not text.startswith("-") else [text]
    if not 1 <= len(parts) <= 2 or not all(part.strip().isdecimal() for part in parts):
        raise UserError(f"{option} must be a number or a range like 2-6, got '{text}'")
    if len(text) > _LONGEST_RANGE:
        raise UserError(f"{option} must be within {minimum}-{maximum}, got a number of {len(text)} digits")
    low, high = int(parts[0]), int(parts[-1])
    if not minimum <= low <= high <= maximum:
        form = "an ascending range within" if len(parts) > 1 else "within"
        raise UserError(f"{option} must be {form} {minimum}-{maximum}, got '{text}'")
    return Range(low, high)


DEFAULT_TOTAL = Range(2, 8)


@dataclass(frozen=True)
class Controls:
    """The content of a build's docs. None: not given, so the default holds.

    Attributes:
        n_images: images a doc.
        spread: images with a target (Counting).
        distractors: images without one (Counting).
        k: target classes a question (Counting).
        split: ``balanced``, ``unbalanced`` or ``both`` (Counting).
        total: instances in all (Counting, balanced).
        hard: distractors show another class of a target's super-category (Counting).
        listed: classes to be listed (Listing).
        category: the only category of the questions (Listing).
        minority: images with the answer (Odd-One).
        confusable: other classes with a box, in whatever form, in exactly N - 1 of the N images (Common,
            Odd-One; N is 3 at least).
        narrowed: the user restricted the content, so that the answers may be fewer than a default build's.
    """

    n_images: Range | None = None
    spread: Range | None = None
    distractors: Range | None = None
    k: int = 1
    split: str = "both"
    total: Range = DEFAULT_TOTAL
    hard: bool = False
    listed: Range | None = None
    category: str | None = None
    minority: Range | None = None
    confusable: Range | None = None
    narrowed: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 5:
            raise UserError(f"--k must be within 1-5, got {self.k}")
        if self.split not in SPLITS:
            raise UserError(f"--split must be one of {', '.join(SPLITS)}, got '{self.split}'")
        if self.minority and 2 * self.minority.low >= MAX_SIZE:
            raise UserError(f"--minority {self.minority} must be under half of the images")
        if self.confusable and not 0 <= self.confusable.low <= self.confusable.high <= MAX_CONFUSABLE:
            raise UserError(
                f"--confusable must be an ascending range within 0-{MAX_CONFUSABLE}, got '{self.confusable}'"
            )
        if self.split == "unbalanced" and self.total != DEFAULT_TOTAL:
            raise UserError(f"--total {self.total} is for balanced docs, which --split unbalanced leaves out")
        if self.split != "unbalanced" and self.total.high < self.k:
            raise UserError(f"--total {self.total} cannot hold one instance of each of {self.k} classes")
        if not self.counting_shapes():
            raise UserError(
                f"no doc can have --n-images {self.n_images or Range(*DEFAULT_SIZES)}, "
                f"--spread {self.spread or 'any'} and --distractors {self.distractors or 'any'}: "
                f"n-images = spread + distractors{', and --hard needs a distractor' * self.hard}"
            )
        least = min(spread for _, spread in self.counting_shapes())
        if self.split != "unbalanced" and self.total.high < least:
            raise UserError(
                f"{least} images with a target need a total of at least {least}, but --total is "
                f"{self.total}: raise it, or give --split unbalanced"
            )

    def sizes(self, kind: str) -> range:
        """The numbers of images that may be tried for a task.

        Raises:
            UserError: none: all requested numbers are below the task's minimum.
        """
        sizes = self.servable_sizes(kind)
        if not sizes:
            why = (
                f" with --confusable {self.confusable}"
                if self._least(kind) > spec_of(kind).minimum_images
                else ""
            )
            raise UserError(
                f"--n-images {self.n_images}: {kind}{why} needs at least {self._least(kind)} images"
            )
        return sizes

    def servable_sizes(self, kind: str) -> range:
        """The requested numbers of images from the task's minimum on; there may be none."""
        requested = self.n_images or Range(*DEFAULT_SIZES)
        return range(max(requested.low, self._least(kind)), requested.high + 1)

    def _least(self, kind: str) -> int:
        spec = spec_of(kind)
        if self.confusable and "confusable" in spec.controls:
            return max(spec.minimum_images, LEAST_CONFUSABLE_SIZE)
        return spec.minimum_images

    def counting_shapes(self) -> list[tuple[int, int]]:
        """Every (N, s) that the options allow for Counting, s = images with a target, N - s without."""
        shapes = []
        if self.n_images is None and self.spread and self.distractors:
            sizes = range(
                self.spread.low + self.distractors.low, self.spread.high + self.distractors.high + 1
            )
        else:
            sizes = (self.n_images or Range(*DEFAULT_SIZES)).values()
            if self.n_images is None and self.spread and self.spread.high > DEFAULT_SIZES[1]:
                sizes = range(DEFAULT_SIZES[0], self.spread.high + 1)
            if self.n_images is None and self.distractors and self.distractors.high >= DEFAULT_SIZES[1]:
                sizes = range(DEFAULT_SIZES[0], self.distractors.high + DEFAULT_SIZES[1] + 1)
        for size in sizes:
            for spread in range(1, size + 1):
                distractors = size - spread
                if self.spread and not self.spread.low <= spread <= self.spread.high:
                    continue
                if self.distractors and not self.distractors.low <= distractors <= self.distractors.high:
                    continue
                if self.hard and not self.distractors and not distractors:
                    continue  # a doc without distractors has no hard ones
                shapes.append((size, spread))
        return [(size, spread) for size, spread in shapes if size <= MAX_SIZE]
