"""Visual tokens of the training pictures, made once: in the stage of questions what makes them is frozen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune.reference.collate import PER_TOKEN, prompt
from mimic_tasks.images import decode_strict
from model_adapters.families.base import Family, PreparedBatch
from model_adapters.layout import Layout
from model_adapters.relevance.places import TokenPlaces

GROUP = 32
"""Pictures that go through the vision tower together, always the same ones, so that a resumed run goes on."""


class Sight:
    """What `Family.prepare` makes of pictures of one size, with visual tokens instead of pixels.

    Args:
        model: whose vision tower and projector are left as they are from now on.
        family: around the processor; the tokens of an image do not depend on those beside it, but for
            `Family.alone_differs`.
        pictures: all that will be shown, of one size.
    """

    def __init__(self, model: Any, family: Family, pictures: Sequence[Path]) -> None:
        self._model = model
        self._family = family
        self._pictures = pictures
        self._numbers = {path: i for i, path in enumerate(pictures)}
        self._made: dict[tuple[int, bool], Tensor] = {}
        self._starts: dict[int, PreparedBatch] = {}
        self._places: dict[int, TokenPlaces] = {}

    def prepare(self, images: Sequence[Sequence[Path]], prompts: Sequence[str]) -> PreparedBatch:
        """The inputs of a batch, padded on the left, and ``features``: the visual tokens of each image.

        Args:
            images: the pictures of each row, at least one each.
            prompts: the text of each row, chat template applied.
        """
        starts = [self._start(len(row)) for row in images]
        tails = [self._tail(text) for text in prompts]
        lengths = [
            start.inputs["input_ids"].shape[1] + len(tail) for start, tail in zip(starts, tails, strict=True)
        ]
        length = max(lengths)
        names = [name for name in PER_TOKEN if name in starts[0].inputs]
        inputs: dict[str, Any] = {
            name: torch.zeros((len(tails), length), dtype=starts[0].inputs[name].dtype) for name in names
        }
        inputs["input_ids"].fill_(self._family.pad_token_id)
        layouts = []
        for b, (start, tail, size) in enumerate(zip(starts, tails, lengths, strict=True)):
            padding = length - size
            for name in names:
                inputs[name][b, padding : length - len(tail)] = start.inputs[name][0]
            inputs["input_ids"][b, length - len(tail) :] = torch.tensor(tail)
            inputs["attention_mask"][b, length - len(tail) :] = 1
            spans = tuple(image.moved(padding) for image in start.layouts[0].images)
            layouts.append(Layout(length, padding, spans))
        for name in starts[0].inputs:
            if name not in names:
                inputs[name] = torch.cat([start.inputs[name] for start in starts])
        inputs["features"] = [self._features(path, alone=len(row) == 1) for row in images for path in row]
        return PreparedBatch(inputs, tuple(layouts))

    def places(self, images: int) -> TokenPlaces:
        """Where the tokens of an image lie that is one of so many; all images have one size."""
        self._start(images)
        return self._places[images]

    def _features(self, path: Path, *, alone: bool) -> Tensor:
        """The visual tokens of a picture (tokens, D)."""
        key = (self._numbers[path], alone and self._family.alone_differs)
        if key not in self._made:
            first = key[0] // GROUP * GROUP
            group = self._pictures[first : first + GROUP]
            size = 1 if key[1] else 2
            rows = [group[i : i + size] for i in range(0, len(group), size)]
            if len(rows[-1]) < size:
                rows[-1] = [rows[-1][0], rows[-1][0]]  # its companion is not looked at
            images = [[decode_strict(one.read_bytes()) for one in row] for row in rows]
            batch = self._family.prepare(images, [prompt(self._family, "", len(row)) for row in rows])
            pixels = batch.inputs["pixel_values"].to(self._model.dtype)
            there = {**batch.inputs, "pixel_values": pixels}
            there = {name: x.to(self._model.device) for name, x in there.items()}
            with torch.no_grad():
                made = self._family.image_features(self._model, PreparedBatch(there, batch.layouts))
            for i in range(len(group)):
                self._made[first + i, key[1]] = made[i].tokens.clone()
        return self._made[key]

    def _start(self, images: int) -> PreparedBatch:
        """A row's inputs up to its last image, by the processor."""
        if images not in self._starts:
            text = prompt(self._family, "", images)
            pictures = [decode_strict(self._pictures[0].read_bytes())] * images
            made = self._family.prepare([pictures], [text])
            ids, tail = made.inputs["input_ids"][0], self._tail(text)
            if ids[len(ids) - len(tail) :].tolist() != tail:
                raise ValueError(f"{self._family.name}: what follows the images is not tokenized apart")
            end = len(ids) - len(tail)
            inputs = {
                name: x[:, :end] if name in PER_TOKEN else x
                for name, x in made.inputs.items()
                if name != "pixel_values"
            }
            self._starts[images] = PreparedBatch(inputs, made.layouts)
            self._places[images] = self._family.places(made.inputs, [pictures])[0][0]
        return self._starts[images]

    def _tail(self, text: str) -> list[int]:
        """The tokens behind the last image."""
        after = text.rpartition(self._family.processor.image_token)[2]
        return list(self._family.processor.tokenizer(after, add_special_tokens=False)["input_ids"])
