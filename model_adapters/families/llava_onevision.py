"""LLaVA-OneVision in the `-hf` format."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import cut_layouts
from model_adapters.layout import Layout
from model_adapters.relevance.places import TokenPlaces, any_resolution, joined, nowhere, padded_square
from model_adapters.vision_limits import set_pinpoints


class LlavaOnevision(Family):
    """Several images: base view and one newline token each, which belongs to the image's span (METHODS 3).

    One image: any-resolution tiles, all in one span, with a newline token after each row of their tokens.
    """

    model_type = "llava_onevision"
    name = "LLaVA-OneVision"
    tiny = "model_adapters.tiny.llava_onevision:make_tiny_llava_onevision"
    nested = True  # so that several images get no tiles
    closing_tokens = 1
    alone_differs = True
    limits = ("max_tiles",)
    delimiters = ("closing",)
    former_names = ("llava_code", "nested")

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaOnevisionForConditionalGeneration

        return LlavaOnevisionForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        several = self.processor.num_image_tokens + 1
        if self.processor.vision_feature_select_strategy == "default":
            several -= 1
        token = self.processor.image_token_id
        placeholders = (inputs["input_ids"] == token).sum(dim=1).tolist()
        sizes = [
            [several if count > 1 else alone] * count
            for count, alone in zip(images, placeholders, strict=True)
        ]
        return cut_layouts(inputs, sizes, token=token)

    def set_limits(self, model: Any, given: Mapping[str, int]) -> None:
        """See `Family.set_limits`; several images have one view each in any case."""
        tile = self.processor.image_processor.size["height"]
        set_pinpoints(self.processor, model.config, given["max_tiles"], tile=tile)

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`; the processor says how many each row with images has."""
        has_images = (inputs["input_ids"] == self.processor.image_token_id).any(dim=1).tolist()
        counts = iter(torch.as_tensor(inputs.get("batch_num_images", ())).tolist())
        numbers = [next(counts, 0) if any_image else 0 for any_image in has_images]
        if next(counts, None) is not None or any(
            any_image and not n for any_image, n in zip(has_images, numbers, strict=True)
        ):
            raise ValueError("batch_num_images should say how many images each row has")
        return numbers

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`."""
        return [
            [self._alone(row[0])] if len(row) == 1 else [self._among_others(image) for image in row]
            for row in images
        ]

    def _side(self) -> int:
        """Tokens a side of a tile."""
        return math.isqrt(self.processor.num_image_tokens)

    def _among_others(self, image: Image.Image) -> TokenPlaces:
        """The base view of one of several images, padded to a square, and its newline token."""
        base = padded_square(self._side(), self._side(), size=(image.height, image.width))
        return joined([base, nowhere(1)])

    def _alone(self, image: Image.Image) -> TokenPlaces:
        """The tiles of a doc's only image."""
        from transformers.image_processing_utils import select_best_resolution

        settings = self.processor.image_processor
        size = (image.height, image.width)
        return any_resolution(
            size=size,
            canvas=select_best_resolution(size, settings.image_grid_pinpoints),
            tile=settings.size["height"],
            tokens=self._side(),
            most_tiles=int(self.processor.vision_aspect_ratio.removeprefix("anyres_max_")),
        )

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        alone = [len(layout.images) == 1 for layout in batch.layouts for _ in layout.images]
        wanted = range(len(alone)) if chosen is None else chosen
        made: dict[int, ImageFeatures] = {}
        for tiled in (True, False):
            alike = [i for i in wanted if alone[i] == tiled]
            if alike:
                encoded = model.get_image_features(
                    batch.inputs["pixel_values"][alike],
                    batch.inputs["image_sizes"][alike],
                    # transformers tells images with tiles by rows of one; it needs no more of the others
                    batch_num_images=torch.tensor([1] * len(alike) if tiled else [max(2, len(alike))]),
                    return_dict=True,
                )
                made.update(zip(alike, map(ImageFeatures, encoded.pooler_output), strict=True))
        return [made[i] for i in wanted]
