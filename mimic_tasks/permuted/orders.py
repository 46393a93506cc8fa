"""Which orders of a doc's images a permuted task shows: a function of two variables and of the doc alone."""

import itertools
import math
import os
import random
import re
from dataclasses import dataclass

from mimic_eval.records import UserError, nearest

RULE, SEED = "MIMIC_ORDERS", "MIMIC_SEED"
"""The environment variables."""

MOST_IMAGES_FOR_ALL = 5
MOST_RANDOM = 1000
_LISTED = 7
"""Up to so many images all orders are listed and drawn from; beyond, far fewer are asked for."""

_SEED_DIGITS = 18


@dataclass(frozen=True)
class Orders:
    """A rule.

    Attributes:
        rule: ``cyclic``, ``all`` or ``random:P``.
        seed: of ``random``.
    """

    rule: str = "cyclic"
    seed: int = 0

    def of(self, *, base_hash: str, n: int) -> list[tuple[int, ...]]:
        """A doc's orders, all different, its own first.

        Args:
            base_hash: the doc's content hash.
            n: its images.

        Returns:
            Permutations of 0..n-1: the image shown m-th is the doc's image number order[m]. ``cyclic``: the n
            shifts, which show each image once at each place; ``all``: all n!; ``random:P``: P, or all n! if
            there are no more than that, drawn for each doc on its own.

        Raises:
            UserError: ``all``, and too many images.
        """
        if self.rule == "cyclic":
            return [tuple((shift + place) % n for place in range(n)) for shift in range(max(n, 1))]
        if self.rule == "all":
            self.check(n)
            return list(itertools.permutations(range(n)))
        asked = min(int(self.rule.removeprefix("random:")), math.factorial(n))
        # `shuffle` may change between Python versions; the numbers of `random()` may not.
        draw = random.Random(f"{self.seed}/{base_hash}")
        if n <= _LISTED:
            others = list(itertools.permutations(range(n)))[1:]
            keys = [draw.random() for _ in others]
            drawn = sorted(range(len(others)), key=keys.__getitem__)[: asked - 1]
            return [tuple(range(n)), *(others[i] for i in drawn)]
        found = {tuple(range(n)): None}  # a dict keeps the order in which they were drawn
        while len(found) < asked:
            keys = [draw.random() for _ in range(n)]
            found[tuple(sorted(range(n), key=keys.__getitem__))] = None
        return list(found)

    def check(self, n: int, where: str = "a doc") -> None:
        """Whether a doc of `n` images can be shown in these orders.

        Raises:
            UserError: it cannot.
        """
        if self.rule == "all" and n > MOST_IMAGES_FOR_ALL:
            raise UserError(
                f"{RULE}=all shows all N! orders, for docs of at most {MOST_IMAGES_FOR_ALL} images; {where} "
                f"has {n}: choose {RULE}=cyclic or random:P, or other docs (mimic build --n-images)"
            )


def orders_asked() -> Orders:
    """What `MIMIC_ORDERS` and `MIMIC_SEED` say.

    Raises:
        UserError: one of them is not in its form.
    """
    return parse_orders(os.environ.get(RULE) or "cyclic", os.environ.get(SEED) or "0")


def parse_orders(rule: str, seed: str) -> Orders:
    """Read the two variables' texts.

    Raises:
        UserError: not in their form.
    """
    if not re.fullmatch(rf"[0-9]{{1,{_SEED_DIGITS}}}", seed):
        raise UserError(f"{SEED} must be a whole number of at most {_SEED_DIGITS} digits, got '{seed:.60}'")
    name, _, count = rule.partition(":")
    if rule in ("cyclic", "all"):
        return Orders(rule, int(seed))
    if name != "random":
        raise UserError(nearest(RULE, f"{rule:.60}", ("cyclic", "all", "random:P")))
    if not re.fullmatch(r"[0-9]{1,9}", count) or not 1 <= int(count) <= MOST_RANDOM:
        raise UserError(
            f"{RULE}=random:P takes how many orders of a doc, a whole number within 1-{MOST_RANDOM}, "
            f"got '{rule:.60}'"
        )
    return Orders(f"random:{int(count)}", int(seed))
