"""Extra supervision from the boxes: what hidden states must hold before they can answer (METHODS 2).

An answer is a few tokens, and says little about why it is wrong. Linear heads, which training has and the
checkpoint does not, read from the decoder's hidden states how many objects of each class each image shows,
and in how many images each class is. Their loss fades out before training ends.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from finetune.reference.lessons import MAX_IMAGES, Conversation
from mimic_tasks.pool import Pool
from model_adapters.layout import Layout
from model_adapters.tiny.common import seeded

MOST_OBJECTS = 9
"""Objects of a class in an image that are told apart; more of them count as these."""
FADES = (0.6, 0.9)
"""Shares of the steps between which the heads' loss fades out."""
ACROSS = frozenset({"common", "oddone"})
"""Tasks whose answer follows from the numbers of images of all classes."""


class Truths:
    """What the boxes say of the images of a batch.

    Args:
        pool: the scenes.
    """

    def __init__(self, pool: Pool) -> None:
        self._counts = torch.from_numpy(np.minimum(pool.annotated, MOST_OBJECTS).astype(np.int64))
        self._numbers = {image.path: i for i, image in enumerate(pool.source.images)}

    def of(
        self, conversations: Sequence[Conversation], layouts: Sequence[Layout], starts: Sequence[int]
    ) -> dict[str, Tensor]:
        """Positions (row, token) and the truth there, for both heads.

        Args:
            conversations: the rows.
            layouts: of the rows.
            starts: where each row's first answer starts.
        """
        ends = [(b, image.end - 1) for b, layout in enumerate(layouts) for image in layout.images]
        counts = [self._counts[[self._numbers[path] for path in one.images]] for one in conversations]
        asked = [b for b, one in enumerate(conversations) if one.turns[0].about[0] in ACROSS]
        images = [torch.zeros(0, self._counts.shape[1], dtype=torch.long)]
        images += [(counts[b] > 0).sum(dim=0, keepdim=True) for b in asked]
        return {
            "ends": torch.tensor(ends).reshape(-1, 2),
            "counts": torch.cat(counts),
            "last": torch.tensor([(b, starts[b] - 1) for b in asked]).reshape(-1, 2),
            "images": torch.cat(images),
        }


class Heads(nn.Module):
    """The linear heads: objects per class at each image's last token, images per class before the answer.

    The first reads the hidden states after a third of the decoder's layers, the second those before the last
    layer but one.

    Args:
        width: of the decoder.
        depth: its layers.
        classes: of the scenes.
    """

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.layers = (max(1, depth // 3), max(1, depth - 2))
        self.classes = classes
        self.objects = nn.Parameter(torch.randn(classes * (MOST_OBJECTS + 1), width) * width**-0.5)
        self.images = nn.Parameter(torch.randn(classes * (MAX_IMAGES + 1), width) * width**-0.5)

    def forward(self, states: Sequence[Tensor], truths: dict[str, Tensor]) -> Tensor:
        """The sum of both losses.

        Args:
            states: (B, N, D) each, those that enter each layer and those that leave the last.
            truths: of `Truths.of`.
        """
        first = self._loss(states[self.layers[0]], self.objects, truths["ends"], truths["counts"])
        if not len(truths["last"]):
            return first
        return first + self._loss(states[self.layers[1]], self.images, truths["last"], truths["images"])

    def _loss(self, states: Tensor, head: Tensor, positions: Tensor, truth: Tensor) -> Tensor:
        """Cross entropy, classes that are there and classes that are not weighing the same."""
        chosen = states[positions[:, 0], positions[:, 1]]
        chosen = nn.functional.rms_norm(chosen, chosen.shape[-1:])
        logits = (chosen @ head.T).view(len(chosen), self.classes, -1)
        losses = cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none")
        there = truth.flatten() > 0
        return (losses[there].mean() + losses[~there].mean()) / 2


def heads_of(model: Any, pool: Pool, *, seed: int) -> Heads:
    """Fresh heads for a model, on its device."""
    config = model.config.get_text_config()
    with seeded(seed):
        heads = Heads(config.hidden_size, config.num_hidden_layers, len(pool.source.classes))
    return heads.to(model.device)


def fading(step: int, steps: int) -> float:
    """The factor on the heads' loss at a step: 1, then falling to 0 between `FADES`."""
    start, end = FADES
    return min(1.0, max(0.0, (end - step / steps) / (end - start)))
