"""CLIP: how near each place of a picture is to the question (METHODS 7)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_adapters.relevance.cache import Arrays
from model_adapters.relevance.outside import OutsideModel


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
    model_type = "clip"

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
        key = {"model": self.identity, "image": image_hash, "phrase": text}
        maps = self.cache.fetch(self.argument, key, lambda: self._maps(image, text))
        return PatchMaps(torch.from_numpy(maps["text"]), torch.from_numpy(maps["products"])).cosines(centres)

    @torch.inference_mode()
    def _maps(self, image: Image.Image, text: str) -> Arrays:
        maps = PatchMaps.of(self.patches(image), self.text(text))
        return {"text": np.asarray(maps.text.cpu()), "products": np.asarray(maps.products.cpu())}

    @torch.inference_mode()
    def patches(self, image: Image.Image) -> Tensor:
        """The projected patch embeddings of an image, float32 (g, g, D)."""
        model, processor = self.loaded
        side = model.config.vision_config.image_size
        pixels = processor.image_processor(
            images=image, size={"height": side, "width": side}, do_center_crop=False, return_tensors="pt"
        )["pixel_values"]
        tower = model.vision_model
        states = tower(pixel_values=pixels.to(self.device)).last_hidden_state[0, 1:]
        grid = side // model.config.vision_config.patch_size
        embedded: Tensor = model.visual_projection(tower.post_layernorm(states))
        return embedded.reshape(grid, grid, -1)

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
        features = model.get_text_features(tokens["input_ids"], tokens["attention_mask"], return_dict=True)
        embedded: Tensor = features.pooler_output[0]
        return embedded
