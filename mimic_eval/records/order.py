"""The order in which a doc's images are shown: a function of the run's setting and of the doc alone.

The adapter shows the images in it, and whoever reads the run's record can draw it again.
"""

import random
import re

from mimic_eval.records.errors import UserError, nearest

ORDERS = ("fixed", "reversed", "seeded", "seeded:SEED")
"""The forms of an order; `seeded` is `seeded:0`."""

_SEED_DIGITS = 18


def parse_order(text: str) -> str:
    """The order in the form that records hold: ``fixed``, ``reversed`` or ``seeded:SEED``.

    Raises:
        UserError: none of `ORDERS`, or a seed that is not a whole number.
    """
    if text in ("fixed", "reversed"):
        return text
    name, _, seed = text.partition(":")
    if name != "seeded":
        raise UserError(nearest("order", text, ORDERS))
    if text == name:
        return "seeded:0"
    if not re.fullmatch(rf"[0-9]{{1,{_SEED_DIGITS}}}", seed):
        raise UserError(
            f"order=seeded:SEED takes a whole number of at most {_SEED_DIGITS} digits, got '{text}'"
        )
    return f"seeded:{int(seed)}"


def image_order(order: str, *, content_hash: str, n: int) -> tuple[int, ...]:
    """Which of the doc's images is shown at each place.

    Args:
        order: one of `ORDERS`. Seeded: a uniform permutation, drawn for each doc on its own.
        content_hash: of the doc (`content_hash`).
        n: images of the doc.

    Returns:
        A permutation of 0..n-1: the image shown m-th is the doc's image number result[m].

    Raises:
        UserError: an unknown order.
    """
    order = parse_order(order)
    if order == "reversed":
        return tuple(reversed(range(n)))
    if order == "fixed":
        return tuple(range(n))
    # `shuffle` may change between Python versions; the numbers of `random()` may not.
    draw = random.Random(f"{order.removeprefix('seeded:')}/{content_hash}")
    keys = [draw.random() for _ in range(n)]
    return tuple(sorted(range(n), key=keys.__getitem__))
