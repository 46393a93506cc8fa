"""Seeing first: the vision tower learns from the boxes which object each of its tokens lies on, in words.

The decoder alone teaches a fresh vision tower very slowly: a few answer tokens a picture, through six layers.
Here each visual token, as the decoder will get it, has two targets: the class of the object that
covers its middle, and that of the object whose middle lies in it (what counting needs). They are given as
words: visual tokens and the embeddings of class names come to share a space, as in contrastive pretraining.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, smooth_l1_loss

from finetune.reference.collate import IGNORED, prompt
from mimic_tasks.images import decode_strict
from mimic_tasks.pool import Pool
from mimic_tasks.scoring.plurals import plural
from model_adapters.families.base import Family, PreparedBatch
from model_adapters.layout import Layout
from model_adapters.relevance.places import TokenPlaces

EDGES_WEIGHT, EDGES_BETA = 4.0, 0.02
"""Of the smooth L1 loss of the edges, in shares of the picture."""
COUNTS_WEIGHT = 0.5
NUMBERS_WEIGHT = 0.5
CALM = 0.4
"""Share of the steps after which views are those of an evaluation, where edges are learnt."""

NOTHING = 0
"""The label of a token without an object; class c of the source is c + 1."""
MOST = 9
"""The largest number of objects that is learnt: numbers are words of one token."""


class View(NamedTuple):
    """How a picture is seen: a square of `side`, in shares of the picture, perhaps mirrored.

    The square may reach over the picture's edges; what is behind them has the colour of its first pixel.
    """

    left: float
    top: float
    side: float
    mirrored: bool

    @classmethod
    def drawn(cls, rng: Random, *, calm: bool = False) -> "View":
        """A random one: objects lie anywhere on the grid of patches, a little smaller or larger.

        Args:
            rng: for the draw.
            calm: whether it is nearly that of an evaluation: moved by at most 5 %, never mirrored.
        """
        if calm:
            side = rng.uniform(0.96, 1.04)
            left, top = ((1 - side) / 2 + rng.uniform(-0.05, 0.05) for _ in range(2))
            return cls(left, top, side, False)
        side = rng.uniform(0.8, 1.2)
        left, top = ((1 - side) / 2 + rng.uniform(-0.15, 0.15) for _ in range(2))
        return cls(left, top, side, rng.random() < 0.5)

    def of(self, picture: Image.Image) -> Image.Image:
        """The picture so seen, in its original size."""
        width, height = picture.size
        wide, start = (-self.side, self.left + self.side) if self.mirrored else (self.side, self.left)
        return picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            (wide, 0, start * width, 0, self.side, self.top * height),
            resample=Image.Resampling.BILINEAR,
            fillcolor=picture.getpixel((0, 0)),
        )

    def boxes(self, boxes: Tensor) -> Tensor:
        """Where boxes (n, 4) of the picture then lie; they may reach over the edges."""
        x0, y0, x1, y1 = ((boxes - boxes.new_tensor([self.left, self.top] * 2)) / self.side).unbind(dim=1)
        return torch.stack([1 - x1, y0, 1 - x0, y1] if self.mirrored else [x0, y0, x1, y1], dim=1)


class Glance(NamedTuple):
    """A picture, how it is seen, and its objects: boxes (n, 4) as shares x0, y0, x1, y1, and classes (n,).

    `counted`: whether the number of its objects of each class is learnt too.
    """

    path: Path
    view: View
    boxes: Tensor
    classes: Tensor
    counted: bool = False


class Glances:
    """Batch i of random pictures: a map-style dataset for `Trainer`.

    Args:
        pool: the scenes.
        steps: batches in all.
        images: pictures a batch.
        seed: of the draws.
        calm: share of the steps after which views are calm and objects are counted.
    """

    def __init__(self, pool: Pool, *, steps: int, images: int, seed: int, calm: float = 1.0) -> None:
        self._pool = pool
        self._calm = calm * steps
        self._steps = steps
        self._images = images
        self._seed = seed

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> list[Glance]:
        """Other pictures for each number, each transformed differently."""
        rng = Random(f"{self._seed}/glance/{number}")
        chosen = rng.sample(range(len(self._pool.source.images)), self._images)
        calm = number >= self._calm
        images = self._pool.source.images
        return [
            Glance(images[i].path, View.drawn(rng, calm=calm), *image_boxes(self._pool, i), counted=calm)
            for i in chosen
        ]


def image_boxes(pool: Pool, image: int) -> tuple[Tensor, Tensor]:
    """The objects of an image.

    Args:
        pool: of the image.
        image: its number there.

    Returns:
        Boxes, float64 (n, 4), as shares x0, y0, x1, y1; classes, int (n,), those of the source from 1 on.
    """
    size, boxes_here = pool.source.images[image], pool.boxes(image, frozenset())
    rows = [(box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]) for box in boxes_here]
    scale = torch.tensor([size.width, size.height] * 2, dtype=torch.float64)
    classes = [pool.source.classes.index(box["class"]) + 1 for box in boxes_here]
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
    for box, of_class in zip(boxes[order], classes[order], strict=True):
        x, y = places.centres.unbind(dim=1)
        labels[places.token[(box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])], 0] = of_class
        x, y = (box[:2] + box[2:]) / 2
        x0, y0, x1, y1 = places.parts.unbind(dim=1)
        labels[places.token[(x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)], 1] = of_class
    return labels


def token_edges(places: TokenPlaces, boxes: Tensor) -> Tensor:
    """How far the edges are of the object that a token lies on.

    Args:
        places: of the image's P tokens, each with one part or none.
        boxes: (n, 4), shares of the picture.

    Returns:
        float (P, 4): from the token's middle to the left, top, right and bottom edge of the smallest box that
        covers it, in shares of the picture; NaN without such a box.
    """
    edges = torch.full((places.length, 4), torch.nan, dtype=boxes.dtype)
    x, y = places.centres.unbind(dim=1)
    for box in boxes[((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argsort(descending=True)]:
        inside = (box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])
        distances = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y], dim=1)
        edges[places.token[inside]] = distances[inside].to(edges)
    return edges


def token_numbers(labels: Tensor, classes: Tensor) -> Tensor:
    """How many objects of its class the image shows, at each token with the middle of an object.

    Args:
        labels: int (P, 2), as `token_labels` returns them.
        classes: (n,), of all objects of the image.

    Returns:
        int (P,): `IGNORED` where no middle is, or the number is above `MOST`.
    """
    numbers = torch.full((len(labels),), IGNORED)
    for of_class in sorted(set(classes.tolist())):
        number = int((classes == of_class).sum())
        if number <= MOST:
            numbers[labels[:, 1] == of_class] = number
    return numbers


def counting_loss(logits: Tensor, labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """How far the expected number of objects is from the true one: smooth L1 over the classes of each image.

    Args:
        logits: (tokens of all images, classes + 1), of the object whose middle lies in the token.
        labels: (tokens,), as the second of `token_labels`.
        lengths: tokens of each image.
    """
    there = (labels != IGNORED).to(logits)[:, None]
    expected = logits.softmax(dim=-1) * there
    true = one_hot(labels.clamp(min=NOTHING), logits.shape[-1]) * there
    sums = torch.stack([part.sum(dim=0)[1:] for part in torch.split(expected, list(lengths))])
    targets = torch.stack([part.sum(dim=0)[1:] for part in torch.split(true, list(lengths))])
    present = targets > 0
    return smooth_l1_loss(sums[present], targets[present], beta=0.5)


def deepen(model: Any, layers: int) -> None:
    """Give a vision tower of SigLIP as many layers; the new ones are last and at first pass their input on.

    Args:
        model: a LLaVA-OneVision, or one of another family whose tower has as many layers already.
        layers: of the tower; one that has more stays as it is.
    """
    vision = model.config.vision_config
    more = layers - getattr(vision, "num_hidden_layers", layers)
    if more <= 0:
        return
    names = [name for name, module in model.named_modules() if name.endswith("vision_tower.encoder.layers")]
    blocks: Any = model.get_submodule(names[0])
    for _ in range(more):
        block = copy.deepcopy(blocks[-1])
        for writes in (block.self_attn.out_proj, block.mlp.fc2):
            nn.init.zeros_(writes.weight)
            nn.init.zeros_(writes.bias)
        blocks.append(block)
    vision.num_hidden_layers += more


class GlanceCollator:
    """Makes a batch of pictures: the inputs of the family's processor, in one prompt, and labels.

    Args:
        family: around the processor.
        edges: whether there are ``edges`` too, float (tokens of all pictures, 4).
        numbers: whether there are ``numbers`` too, int (tokens of all pictures,), see `token_numbers`.
    """

    def __init__(self, family: Family, *, edges: bool = False, numbers: bool = False) -> None:
        self.family = family
        self.edges = edges
        self.numbers = numbers

    def __call__(self, batches: Sequence[Sequence[Glance]]) -> dict[str, Any]:
        """See the class; ``labels`` is int (tokens of all pictures, 2)."""
        (glances,) = batches
        pictures = [glance.view.of(decode_strict(glance.path.read_bytes())) for glance in glances]
        made = self.family.prepare([pictures], [prompt(self.family, "", len(pictures))])
        (places,) = self.family.places(made.inputs, [pictures])
        labels = [
            token_labels(place, glance.view.boxes(glance.boxes), glance.classes)
            for place, glance in zip(places, glances, strict=True)
        ]
        edges = [
            token_edges(place, glance.view.boxes(glance.boxes))
            for place, glance in zip(places, glances, strict=True)
        ]
        counted = all(glance.counted for glance in glances)
        further: dict[str, Any] = {}
        if self.edges:
            further = {"edges": torch.cat(edges).float(), "counted": counted}
        if self.numbers:
            pairs = zip(labels, glances, strict=True)
            further["numbers"] = torch.cat([token_numbers(of_image, one.classes) for of_image, one in pairs])
        return {**made.inputs, "layouts": made.layouts, "labels": torch.cat(labels), **further}


class Seeing(nn.Module):
    """A model's vision tower, projector and word embeddings, without its decoder.

    A visual token's answer is the class whose name's embedding it is nearest to by inner product: the mean
    over the name's tokens, of each of the forms that prompts and answers have. The second answer goes through
    a separate linear map.

    Args:
        model: the complete model; the decoder's layers are not used.
        family: around the processor.
        names: of the classes.
        edges: whether it also learns where the edges are of the object that a token lies on, by a linear map.
        numbers: whether it also learns `token_numbers`, by a linear map to the words that numbers are written
            with.
    """

    ids: Tensor
    shares: Tensor
    digits: Tensor

    def __init__(
        self,
        model: Any,
        family: Family,
        *,
        names: Sequence[str],
        edges: bool = False,
        numbers: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self._family = family
        width = model.config.get_text_config().hidden_size
        self.nothing = nn.Parameter(torch.zeros(1, width))
        self.middle = nn.Linear(width, width)
        self.box = nn.Linear(width, 4) if edges else None
        self.number = nn.Linear(width, width) if numbers else None
        tokenizer = family.processor.tokenizer
        digits = [tokenizer(str(n), add_special_tokens=False)["input_ids"][0] for n in range(1, MOST + 1)]
        self.register_buffer("digits", torch.tensor(digits), persistent=False)
        forms = [[name, f" {name}", f" {plural(name)}"] for name in names]
        tokens = [
            [tokenizer(form, add_special_tokens=False)["input_ids"] for form in of_class]
            for of_class in forms
        ]
        longest = max(len(ids) for of_class in tokens for ids in of_class)
        shape = (len(forms[0]), len(names), longest)
        ids, shares = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        for c, of_class in enumerate(tokens):
            for form, ids_of_form in enumerate(of_class):
                ids[form, c, : len(ids_of_form)] = torch.tensor(ids_of_form)
                shares[form, c, : len(ids_of_form)] = 1 / len(ids_of_form)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("shares", shares, persistent=False)

    def forward(
        self,
        labels: Tensor,
        layouts: tuple[Layout, ...],
        edges: Tensor | None = None,
        counted: bool = False,
        numbers: Tensor | None = None,
        **inputs: Any,
    ) -> dict[str, Tensor]:
        """The mean loss over both answers and all forms, and the logits (forms, tokens, 2, classes + 1)."""
        made = self._family.image_features(self.model, PreparedBatch(inputs, layouts))
        features = torch.cat([image.tokens for image in made])
        both = torch.stack([features, self.middle(features)], dim=1)
        embedded = self.model.get_input_embeddings()(self.ids)
        words = (embedded * self.shares.to(embedded)[..., None]).sum(dim=2)
        nothing = self.nothing.expand(len(words), -1, -1)
        logits = torch.einsum("tad,fcd->ftac", both, torch.cat([nothing, words], dim=1))
        target = labels.expand(len(words), *labels.shape)
        loss = cross_entropy(logits.flatten(0, 2), target.flatten(), ignore_index=IGNORED)
        if self.number is not None and numbers is not None:
            there = numbers != IGNORED
            digits = self.model.get_input_embeddings()(self.digits)
            says = self.number(features[there]) @ digits.T
            loss = loss + NUMBERS_WEIGHT * cross_entropy(says, numbers[there] - 1)
        if self.box is not None and edges is not None:
            there = ~edges[:, 0].isnan()
            loss = loss + EDGES_WEIGHT * smooth_l1_loss(
                self.box(features)[there], edges[there], beta=EDGES_BETA
            )
        if counted:
            lengths = [len(image.tokens) for image in made]
            loss = loss + COUNTS_WEIGHT * counting_loss(logits[:, :, 1].mean(dim=0), labels[:, 1], lengths)
        return {"loss": loss, "logits": logits}

    def hand_over(self) -> Any:
        """The model, whose decoder starts by saying the words that its input is near to."""
        with torch.no_grad():
            self.model.get_output_embeddings().weight.copy_(self.model.get_input_embeddings().weight)
        return self.model
