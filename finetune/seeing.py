"""Seeing first: the vision tower learns from the boxes which object each of its tokens lies on.

The decoder alone teaches a fresh vision tower very slowly: a few answer tokens a picture, through six layers.
Here each visual token, as the decoder will get it, has two answers of its own under linear heads that are
thrown away afterwards: the class of the object that covers its middle, and the class of the object whose
middle lies in it (what counting needs).
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from finetune.collate import IGNORED, prompt
from mimic_tasks.images import decode_strict
from mimic_tasks.pool import Pool
from model_adapters.families import Family
from model_adapters.relevance.places import TokenPlaces

NOTHING = 0
"""The label of a token without an object; class c of the source is c + 1."""


class Glances:
    """Batch i of random pictures: a map-style dataset for `Trainer`.

    Args:
        pool: the scenes.
        steps: batches in all.
        images: pictures a batch.
        seed: of the draws.
    """

    def __init__(self, pool: Pool, *, steps: int, images: int, seed: int) -> None:
        self._pool = pool
        self._steps = steps
        self._images = images
        self._seed = seed

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> list[tuple[Path, Tensor, Tensor]]:
        """The path of each picture, its boxes (n, 4) as shares x0, y0, x1, y1, and their classes (n,)."""
        rng = Random(f"{self._seed}/glance/{number}")
        chosen = rng.sample(range(len(self._pool.source.images)), self._images)
        return [(self._pool.source.images[i].path, *self._boxes(i)) for i in chosen]

    def _boxes(self, image: int) -> tuple[Tensor, Tensor]:
        source = self._pool.source
        size, own = source.images[image], self._pool.boxes(image, frozenset())
        rows = [(box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]) for box in own]
        scale = torch.tensor([size.width, size.height] * 2, dtype=torch.float64)
        classes = [source.classes.index(box["class"]) + 1 for box in own]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4) / scale, torch.tensor(classes)


def token_labels(places: TokenPlaces, boxes: Tensor, classes: Tensor) -> Tensor:
    """What the tokens of an image lie on.

    Args:
        places: of the image's P tokens, each with one part or none.
        boxes: (n, 4), shares of the picture.
        classes: (n,), 1 and above.

    Returns:
        int (P, 2): the class of the smallest box that covers the token's middle; the class of a box whose
        middle lies in the token; `NOTHING` if there is none, `IGNORED` for a token that is not of a place.
    """
    labels = torch.full((places.length, 2), IGNORED)
    labels[places.token] = NOTHING
    order = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argsort(descending=True)
    for box, own in zip(boxes[order], classes[order], strict=True):
        x, y = places.centres.unbind(dim=1)
        labels[places.token[(box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])], 0] = own
        x, y = (box[:2] + box[2:]) / 2
        x0, y0, x1, y1 = places.parts.unbind(dim=1)
        labels[places.token[(x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)], 1] = own
    return labels


class GlanceCollator:
    """Makes a batch of pictures: what the family's processor says of them, shown in one prompt, and labels.

    Args:
        family: around the processor.
    """

    def __init__(self, family: Family) -> None:
        self.family = family

    def __call__(self, batches: Sequence[Sequence[tuple[Path, Tensor, Tensor]]]) -> dict[str, Any]:
        """See the class; ``labels`` is int (tokens of all pictures, 2)."""
        (glances,) = batches
        pictures = [decode_strict(path.read_bytes()) for path, _, _ in glances]
        made = self.family.prepare([pictures], [prompt(self.family, "", len(pictures))])
        (places,) = self.family.places(made.inputs, [pictures])
        labels = [token_labels(place, *own[1:]) for place, own in zip(places, glances, strict=True)]
        return {**made.inputs, "labels": torch.cat(labels)}


class Seeing(nn.Module):
    """A model's vision tower and projector under two linear heads.

    Args:
        model: the whole model; its decoder is not used.
        family: around the processor.
        classes: of objects.
    """

    def __init__(self, model: Any, family: Family, *, classes: int) -> None:
        super().__init__()
        self.model = model
        self._family = family
        self.heads = nn.Linear(model.config.get_text_config().hidden_size, 2 * (classes + 1))

    def forward(self, labels: Tensor, **inputs: Any) -> dict[str, Tensor]:
        """The mean loss over both answers, and the logits (tokens, 2, classes + 1)."""
        features = torch.cat(list(self._family.image_features(self.model, inputs)))
        logits = self.heads(features).unflatten(-1, (2, -1))
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return {"loss": loss, "logits": logits}
