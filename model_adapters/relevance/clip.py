"""CLIP: how near each place of a picture is to the question (METHODS 7)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_adapters.relevance.cache import Arrays
from model_adapters.relevance.outside import OutsideModel
from model_adapters.relevance.query import Query

_PICTURES, _TEXTS = 32, 256
"""Embeddings that stay in memory: 2 MB a picture at ViT-L/14-336, 3 kB a text."""


class PatchMaps(NamedTuple):
    """All that cosines at any place of a picture need of its g x g patch embeddings e and the text's t.

    A bilinear sample is sum_k w_k e_k over four neighbours, so its cosine needs t . e_k and the products of
    neighbours only: a few numbers a patch, not the embedding.

    Attributes:
        text: (g, g), t . e with t of length 1.
        products: (5, g, g), of the patch at (y, x) with itself, its right neighbour, the one below, the one
            below right; and of the right neighbour with the one below. Zero where there is no neighbour.
    """

    text: Tensor
    products: Tensor

    @classmethod
    def of(cls, patches: Tensor, text: Tensor) -> "PatchMaps":
        """From patch embeddings (g, g, D) and the text's embedding (D,)."""
        products = patches.new_zeros(5, *patches.shape[:2])
        products[0] = (patches * patches).sum(-1)
        products[1, :, :-1] = (patches[:, :-1] * patches[:, 1:]).sum(-1)
        products[2, :-1] = (patches[:-1] * patches[1:]).sum(-1)
        products[3, :-1, :-1] = (patches[:-1, :-1] * patches[1:, 1:]).sum(-1)
        products[4, :-1, :-1] = (patches[:-1, 1:] * patches[1:, :-1]).sum(-1)
        return cls(patches @ (text / text.norm()), products)

    def grid(self) -> Tensor:
        """The cosine of the text and each patch embedding, float64 (g, g); 0 where the embedding is 0."""
        norm = self.products[0].double().sqrt()
        return torch.where(
            norm > 0, self.text.double() / norm.clamp(min=torch.finfo(torch.float64).tiny), 0.0
        )

    def cosines(self, centres: Tensor) -> Tensor:
        """The cosine of the text and the bilinearly sampled patch embedding.

        Patch centres lie at (i + 1/2) / g; beyond the outermost ones the nearest value holds (`grid_sample`
        with ``align_corners=False, padding_mode="border"``).

        Args:
            centres: (R, 2), x and y, normalised.

        Returns:
            float64 (R,); 0 where the sampled embedding is 0.
        """
        side = self.text.shape[0]
        text, products = self.text.double(), self.products.double()
        point = (centres.double() * side - 0.5).clamp(0, side - 1)
        first = point.floor().long()
        x0, y0 = first.unbind(-1)
        x1, y1 = (first + 1).clamp(max=side - 1).unbind(-1)
        x, y = (point - first).unbind(-1)
        a, b, c, d = (
            (1 - y) * (1 - x),
            (1 - y) * x,
            y * (1 - x),
            y * x,
        )  # of e(y0,x0) e(y0,x1) e(y1,x0) e(y1,x1)
        dot = a * text[y0, x0] + b * text[y0, x1] + c * text[y1, x0] + d * text[y1, x1]
        corner, right, below, diagonal, across = products
        square = (
            a * a * corner[y0, x0] + b * b * corner[y0, x1] + c * c * corner[y1, x0] + d * d * corner[y1, x1]
        )
        square += 2 * (a * b * right[y0, x0] + c * d * right[y1, x0])
        square += 2 * (a * c * below[y0, x0] + b * d * below[y0, x1])
        square += 2 * (a * d * diagonal[y0, x0] + b * c * across[y0, x0])
        norm = square.clamp(min=0).sqrt()
        return torch.where(norm > 0, dot / norm.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


class Clip(OutsideModel):
    """Scores places of a picture by their cosine with a text."""

    argument = "clip"
    default = "openai/clip-vit-large-patch14-336"
    title = "CLIP"
    model_types = ("clip",)
    encodes_once = True

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        super().__init__(name, **settings)
        self._patches: OrderedDict[str, Tensor] = OrderedDict()
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @staticmethod
    def model_class() -> Any:
        """See `OutsideModel.model_class`."""
        from transformers import CLIPModel

        return CLIPModel

    def cosines(self, image: Image.Image, image_hash: str, text: str, centres: Tensor) -> Tensor:
        """The cosine of a text and the patch embedding at each place.

        Args:
            image: RGB; it is resized to a square without cropping.
            image_hash: of it (`Query.image_hashes`).
            text: cut to the model's 77 tokens.
            centres: (R, 2), x and y, normalised.

        Returns:
            float64 (R,).

        Raises:
            UserError: the model or the cache is out of reach.
        """
        return self.maps(image, image_hash, text).cosines(centres)

    def maps(self, image: Image.Image, image_hash: str, text: str) -> PatchMaps:
        """What cosines at any place need, from the cache or the model; arguments as of `cosines`."""
        maps = self.output(image, image_hash, text)
        return PatchMaps(torch.from_numpy(maps["text"]), torch.from_numpy(maps["products"]))

    def text_of(self, query: Query) -> str:
        """The bare question."""
        return query.question

    def output_key(self, image_hash: str, text: str) -> dict[str, Any]:
        """See `OutsideModel.output_key`."""
        return self.key(image=image_hash, phrase=text)

    @torch.inference_mode()
    def outputs(
        self, images: Sequence[Image.Image], image_hashes: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[Arrays]]:
        """`PatchMaps` as arrays; pictures do not pad each other, as all are resized to one square.

        The embeddings of the last pictures and texts stay in memory.
        """
        new = {
            key: image for key, image in zip(image_hashes, images, strict=True) if key not in self._patches
        }
        patches = {key: self._patches[key] for key in image_hashes if key not in new}
        if new:
            patches |= dict(zip(new, self.patches(list(new.values())), strict=True))
        self._patches.update(patches)
        while len(self._patches) > _PICTURES:
            self._patches.popitem(last=False)
        compared = []
        for key, texts_of_image in zip(image_hashes, texts, strict=True):
            maps = [PatchMaps.of(patches[key], self._text(text)) for text in texts_of_image]
            compared.append(
                [
                    {"text": np.asarray(one.text.cpu()), "products": np.asarray(one.products.cpu())}
                    for one in maps
                ]
            )
        return compared

    def forget(self) -> None:
        """Drop the embeddings that are in memory."""
        self._patches.clear()
        self._texts.clear()

    def _text(self, text: str) -> Tensor:
        if text not in self._texts:
            self._texts[text] = self.text(text)
        while len(self._texts) > _TEXTS:
            self._texts.popitem(last=False)
        return self._texts[text]

    @torch.inference_mode()
    def patches(self, images: Sequence[Image.Image]) -> Tensor:
        """The projected patch embeddings of some images, float32 (B, g, g, D)."""
        model, processor = self.loaded
        side = model.config.vision_config.image_size
        pixels = processor.image_processor(
            images=list(images),
            size={"height": side, "width": side},
            do_center_crop=False,
            return_tensors="pt",
        )["pixel_values"]
        tower = model.vision_model
        with self.precision():
            states = tower(pixel_values=pixels.to(self.device)).last_hidden_state[:, 1:]
            embedded: Tensor = model.visual_projection(tower.post_layernorm(states))
        grid = side // model.config.vision_config.patch_size
        return embedded.float().reshape(len(images), grid, grid, -1)

    @torch.inference_mode()
    def text(self, text: str) -> Tensor:
        """The projected embedding of a text, float32 (D,)."""
        model, processor = self.loaded
        tokens = processor.tokenizer(
            text,
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        with self.precision():
            features = model.get_text_features(
                tokens["input_ids"], tokens["attention_mask"], return_dict=True
            )
        embedded: Tensor = features.pooler_output[0].float()
        return embedded
