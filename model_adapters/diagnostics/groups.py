"""The groups that attention is summed over (METHODS 5, 8).

Rows: the text before the first image (`prefix`), between images (`between`) and after the last one
(`question`), the last token of that (`last`), which predicts the first token of the answer, each image, and
the generated tokens (`answer`). Keys: the same, and of each image four groups:
a sink or not, inside the truth boxes or not. Every token is in one group of rows and one of keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model_adapters.layout import Layout

TEXTS = ("prefix", "between", "question", "last")
"""The groups of text that come first in both lists."""


class RowGroup(NamedTuple):
    """A group of rows.

    Attributes:
        name: one of `TEXTS`, ``image`` or ``answer``.
        image: from 1; None for text.
    """

    name: str
    image: int | None = None


class KeyGroup(NamedTuple):
    """A group of keys.

    Attributes:
        name: as of `RowGroup`.
        image: from 1; None for text.
        sink: whether its tokens are sinks of the layer; None for text.
        inside: whether its tokens overlap a truth box; None for text.
    """

    name: str
    image: int | None = None
    sink: bool | None = None
    inside: bool | None = None


def row_groups(images: int) -> tuple[RowGroup, ...]:
    """Those of a doc, Q = images + 5: those of text, each image, the answer."""
    return (*map(RowGroup, TEXTS), *(RowGroup("image", m + 1) for m in range(images)), RowGroup("answer"))


def key_groups(images: int) -> tuple[KeyGroup, ...]:
    """Those of a doc, G = 4 images + 5: those of text, four of each image, the answer."""
    of_images = [
        KeyGroup("image", m + 1, sink, inside)
        for m in range(images)
        for inside in (False, True)
        for sink in (False, True)
    ]
    return (*map(KeyGroup, TEXTS), *of_images, KeyGroup("answer"))


@dataclass(frozen=True, eq=False)
class TokenGroups:
    """The groups of one doc's prompt.

    Attributes:
        images: M.
        rows: int (N), the group of each row among `row_groups`; -1 at padding.
        keys: int (N), the group of each key among `key_groups` if no token is a sink; -1 at padding.
    """

    images: int
    rows: Tensor
    keys: Tensor

    @classmethod
    def of(
        cls, layout: Layout, inside: Sequence[Tensor] | None = None, *, device: torch.device | None = None
    ) -> "TokenGroups":
        """The groups of a layout; text between the spans of one image is `between`.

        Args:
            layout: of the doc.
            inside: for each image bool (P,), True = the token overlaps a truth box; None: no boxes are known.
            device: of the result.

        Raises:
            ValueError: `inside` does not fit the images.
        """
        if inside is not None and [len(image) for image in inside] != [x.length for x in layout.images]:
            raise ValueError("`inside` must hold a value for each token of each image")
        rows = torch.full((layout.length,), -1)
        start = layout.images[0].start if layout.images else layout.end
        end = layout.images[-1].end if layout.images else layout.end
        rows[layout.padding : start] = TEXTS.index("prefix")
        rows[start:end] = TEXTS.index("between")
        rows[end : layout.end] = TEXTS.index("question")
        if end < layout.end:
            rows[layout.end - 1] = TEXTS.index("last")
        keys = rows.clone()
        for m, image in enumerate(layout.images):
            index = image.indices()
            rows[index] = len(TEXTS) + m
            keys[index] = len(TEXTS) + 4 * m
            if inside is not None:
                keys[index] += 2 * inside[m].to(keys)
        return cls(len(layout.images), rows.to(device), keys.to(device))

    def indicator(self, sinks: Tensor | None, *, dtype: torch.dtype) -> Tensor:
        """(N, G), 1 where a token is in a group, with the sinks of a layer.

        Args:
            sinks: bool (N), of visual tokens only; None: no sinks are known.
            dtype: of the result.
        """
        keys = self.keys if sinks is None else self.keys + sinks.to(self.keys)
        groups = 4 * self.images + len(TEXTS) + 1
        return torch.nn.functional.one_hot(keys + 1, groups + 1)[:, 1:].to(dtype)
