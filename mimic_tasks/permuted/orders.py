"""Which orders of a doc's images a permuted task shows: a function of two variables and of the doc alone."""

import itertools
import math
import os
import re
from dataclasses import dataclass

from mimic_eval.records import UserError, nearest
from mimic_eval.records.order import draw_order, generator, parse_seed

RULE, SEED = "MIMIC_ORDERS", "MIMIC_SEED"
"""The environment variables."""

MOST_IMAGES_FOR_ALL = 5
MOST_RANDOM = 1000
_LISTED = 7
"""Up to so many images all orders are listed and drawn from; beyond, far fewer are drawn than there are."""


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
        """A doc's orders, all different, the stored one first.

        Args:
            base_hash: the doc's content hash.
            n: its images.

        Returns:
            Permutations of 0..n-1: the m-th image of the prompt is the doc's image number order[m].
            ``cyclic``: the n shifts, which put each image at each position once; ``all``: all n!;
            ``random:P``: P, or all n! if there are no more than that, drawn for each doc separately.

        Raises:
            UserError: ``all``, and too many images.
        """
        if self.rule == "cyclic":
            return [tuple((shift + i) % n for i in range(n)) for shift in range(max(n, 1))]
        if self.rule == "all":
            self.check(n)
            return list(itertools.permutations(range(n)))
        count = min(int(self.rule.removeprefix("random:")), math.factorial(n))
        draw = generator(self.seed, base_hash)
        if n <= _LISTED:
            others = list(itertools.permutations(range(n)))[1:]
            chosen = draw_order(draw, len(others))[: count - 1]
            return [tuple(range(n)), *(others[i] for i in chosen)]
        drawn = {tuple(range(n)): None}  # a dict keeps the order in which they were drawn
        while len(drawn) < count:
            drawn[draw_order(draw, n)] = None
        return list(drawn)

    def check(self, n: int, where: str = "a doc") -> None:
        """Check that a doc of `n` images can have these orders.

        Raises:
            UserError: it cannot.
        """
        if self.rule == "all" and n > MOST_IMAGES_FOR_ALL:
            raise UserError(
                f"{RULE}=all shows all N! orders, for docs of at most {MOST_IMAGES_FOR_ALL} images; {where} "
                f"has {n}: choose {RULE}=cyclic or random:P, or other docs (mimic build --n-images)"
            )


def orders_from_environment() -> Orders:
    """The orders that `MIMIC_ORDERS` and `MIMIC_SEED` define.

    Raises:
        UserError: one of them is not in its form.
    """
    return parse_orders(os.environ.get(RULE) or "cyclic", os.environ.get(SEED) or "0")


def parse_orders(rule: str, seed: str) -> Orders:
    """Read the two variables' texts.

    Raises:
        UserError: not in their form.
    """
    number = parse_seed(seed, SEED)
    name, _, count = rule.partition(":")
    if rule in ("cyclic", "all"):
        return Orders(rule, number)
    if name != "random":
        raise UserError(nearest(RULE, f"{rule:.60}", ("cyclic", "all", "random:P")))
    if not re.fullmatch(r"[0-9]{1,9}", count) or not 1 <= int(count) <= MOST_RANDOM:
        raise UserError(
            f"{RULE}=random:P takes the number of orders of a doc, an integer within 1-{MOST_RANDOM}, "
            f"got '{rule:.60}'"
        )
    return Orders(f"random:{int(count)}", number)
