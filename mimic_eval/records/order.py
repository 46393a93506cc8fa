"""Image orders: their texts, how they are drawn, and how they are applied, in one place.

A run's order (``order=``) is a function of the setting and of the doc alone, so whoever reads the run's
record can draw it again. The orders of permuted tasks (`mimic_tasks.permuted.orders`) use the same functions.
"""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from mimic_eval.records.errors import UserError, nearest

ORDERS = ("fixed", "reversed", "seeded", "seeded:SEED")
"""The forms of an order; `seeded` is `seeded:0`."""

_SEED_DIGITS = 18

T = TypeVar("T")


def parse_seed(text: str, name: str) -> int:
    """The seed of a draw.

    Args:
        text: decimal digits.
        name: of the setting, for the message.

    Raises:
        UserError: not a natural number of at most 18 digits.
    """
    if not re.fullmatch(rf"[0-9]{{1,{_SEED_DIGITS}}}", text):
        raise UserError(f"{name} must be an integer of 1 to {_SEED_DIGITS} digits, got '{text:.60}'")
    return int(text)


def draw_order(draw: random.Random, n: int) -> tuple[int, ...]:
    """A uniform permutation of 0..n-1.

    It is drawn with `random()`, whose numbers never change between Python versions; `shuffle` may.
    """
    keys = [draw.random() for _ in range(n)]
    return tuple(sorted(range(n), key=keys.__getitem__))


def generator(seed: int, content_hash: str) -> random.Random:
    """The random numbers of a doc under a seed."""
    return random.Random(f"{seed}/{content_hash}")


def reordered(values: Sequence[T], order: Sequence[int]) -> list[T]:
    """The values of a doc's images in that order; as they are if there is not one value for each image."""
    return [values[i] for i in order] if len(values) == len(order) else list(values)


def order_text(order: Sequence[int]) -> str:
    """An order as people read it, images counted from 1: ``2, 1, 3``."""
    return ", ".join(str(i + 1) for i in order)


def parse_order(text: str) -> str:
    """The order in the form that records hold: ``fixed``, ``reversed`` or ``seeded:SEED``.

    Raises:
        UserError: none of `ORDERS`, or a seed that is not a natural number.
    """
    if text in ("fixed", "reversed"):
        return text
    name, _, seed = text.partition(":")
    if name != "seeded":
        raise UserError(nearest("order", text, ORDERS))
    if text == name:
        return "seeded:0"
    return f"seeded:{parse_seed(seed, 'SEED in order=seeded:SEED')}"


def image_order(order: str, *, content_hash: str, n: int) -> tuple[int, ...]:
    """Which of the doc's images stands at each position.

    Args:
        order: one of `ORDERS`. Seeded: a uniform permutation, drawn for each doc separately.
        content_hash: of the doc (`content_hash`).
        n: images of the doc.

    Returns:
        A permutation of 0..n-1: the m-th image of the prompt is the doc's image number result[m].

    Raises:
        UserError: an unknown order.
    """
    order = parse_order(order)
    if order == "reversed":
        return tuple(reversed(range(n)))
    if order == "fixed":
        return tuple(range(n))
    return draw_order(generator(int(order.removeprefix("seeded:")), content_hash), n)
