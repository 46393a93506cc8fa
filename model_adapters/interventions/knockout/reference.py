"""Knockout as a matrix (METHODS 5): the oracle of `kernel`, written out token by token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model_adapters.layout import Layout


def blocked_pairs(layout: Layout, edges: str, *, targets: Sequence[bool] = (), generated: int = 0) -> Tensor:
    """bool (N + generated, N + generated), True = blocked, between tokens that see each other or not.

    Args:
        layout: of length N.
        edges: ``QUERY>KEY`` joined by ``+``.
        targets: whether each image is a target.
        generated: tokens after the prompt.
    """
    total = layout.length + generated
    names = [_names(layout, i, targets) for i in range(total)]
    blocked = torch.zeros(total, total, dtype=torch.bool)
    image = torch.nn.functional.pad(layout.image_numbers(), (0, generated), value=-1).tolist()
    for edge in edges.split("+") if layout.images else ():
        query, key = edge.split(">")
        for i in range(total):
            for j in range(total):
                if query not in names[i] or i == j:
                    continue
                if key == "other":
                    blocked[i, j] |= image[j] >= 0 and image[j] != image[i]
                elif key == "later":
                    blocked[i, j] |= image[j] > image[i]
                else:
                    blocked[i, j] |= key in names[j]
    return blocked


def _names(layout: Layout, token: int, targets: Sequence[bool]) -> set[str]:
    """All groups that a token is in."""
    if token >= layout.length:
        return {"answer"}
    if not layout.padding <= token < layout.end or not layout.images:
        return set()
    image = int(layout.image_numbers()[token])
    if image >= 0:
        role = ["target" if targets[image] else "distractor"] if targets else []
        return {"image", *(f"image[{name}]" for name in [*role, image + 1])}
    if token < layout.images[0].start:
        return {"prefix"}
    if token < layout.images[-1].end:
        return {"between"}
    return {"question", "last"} if token == layout.end - 1 else {"question"}
