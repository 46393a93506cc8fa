"""Tallies: the decoder's visual tokens learn in how many images so far there is the class that they show.

Common and Odd-One ask in how many images a class is. The token of an answer alone teaches that slowly; here
every visual token with an object is a target, halfway up the decoder.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, rms_norm

from finetune.reference.collate import IGNORED
from finetune.reference.lessons import MAX_IMAGES
from finetune.reference.seeing import NOTHING, image_boxes, token_labels
from mimic_tasks.pool import Pool

if TYPE_CHECKING:
    from finetune.reference.sight import Sight

TALLIES_WEIGHT = 0.5


class Tallies:
    """The tallies of sets of images.

    Args:
        pool: the scenes.
        sight: knows where the tokens of an image lie.
    """

    def __init__(self, pool: Pool, sight: "Sight") -> None:
        self._pool = pool
        self._sight = sight
        self._numbers = {image.path: i for i, image in enumerate(pool.source.images)}
        self._made: dict[tuple[int, bool], Tensor] = {}

    def of(self, images: Sequence[Path]) -> list[Tensor]:
        """The tallies of each image's tokens, int (P,): see `tallies`."""
        return tallies([self._classes(path, len(images)) for path in images])

    def _classes(self, path: Path, images: int) -> Tensor:
        """int (P,): the class that each token shows, the object in whose middle it is before others."""
        number = self._numbers[path]
        key = (number, images == 1)
        if key not in self._made:
            labels = token_labels(self._sight.places(images), *image_boxes(self._pool, number))
            self._made[key] = torch.where(labels[:, 1] > NOTHING, labels[:, 1], labels[:, 0])
        return self._made[key]


def tallies(classes: Sequence[Tensor]) -> list[Tensor]:
    """In how many images up to and including its image there is the class that a token shows.

    Args:
        classes: of each image, in order, int (P,): 1 and above; `NOTHING` or below for a token without one.

    Returns:
        Of each image, int (P,): 1 and above, `IGNORED` for a token without a class.
    """
    seen: dict[int, int] = {}
    made = []
    for shown in classes:
        tally = torch.full_like(shown, IGNORED)
        for of_class in sorted(set(shown[shown > NOTHING].tolist())):
            seen[of_class] = seen.get(of_class, 0) + 1
            tally[shown == of_class] = seen[of_class]
        made.append(tally)
    return made


def tallies_loss(hidden: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the tallies that visual tokens say, by a fixed map: it has no weights to store.

    Args:
        hidden: (..., D), hidden states of a layer.
        targets: int (...), `IGNORED` where none is learnt.
    """
    there = targets != IGNORED
    if not there.any():
        return hidden.new_zeros(())
    width = hidden.shape[-1]
    says = linear(rms_norm(hidden[there], (width,)), _directions(width).to(hidden))
    return cross_entropy(says, targets[there] - 1)


@cache
def _directions(width: int) -> Tensor:
    """Of the tallies 1 to `MAX_IMAGES`, (MAX_IMAGES, width): orthogonal, always the same."""
    made = torch.empty(MAX_IMAGES, width)
    return nn.init.orthogonal_(made, generator=torch.Generator().manual_seed(0))
