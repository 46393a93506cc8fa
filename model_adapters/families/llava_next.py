"""LLaVA-NeXT (LLaVA-1.6): any-resolution tiles for every image."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import cut_layouts
from model_adapters.layout import Layout
from model_adapters.relevance.places import TokenPlaces, any_resolution
from model_adapters.vision_limits import set_pinpoints


class LlavaNext(Family):
    """An image is its base view and its tiles, with a newline token after each row of theirs: one span.

    So is each of several images.
    """

    model_type = "llava_next"
    name = "LLaVA-NeXT"
    tiny = "model_adapters.tiny.llava_next:make_tiny_llava_next"
    closing_tokens = 1
    delimiters = ("closing",)
    limits = ("max_tiles",)
    former_names = ("llava_code", "nested")

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaNextForConditionalGeneration

        return LlavaNextForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        made = self._lengths(inputs)
        if len(made) != sum(images):
            raise ValueError(f"the batch should show {sum(images)} images, the processor made {len(made)}")
        lengths = iter(made)
        rows = [[next(lengths) for _ in range(count)] for count in images]
        return cut_layouts(inputs, rows, token=self.processor.image_token_id)

    def _lengths(self, inputs: Any) -> list[int]:
        """Tokens of each image of the batch."""
        sizes = inputs["image_sizes"].tolist() if "image_sizes" in inputs else []
        return [self._place((height, width)).length for height, width in sizes]

    def set_limits(self, model: Any, given: Mapping[str, int]) -> None:
        """See `Family.set_limits`; the base view comes on top of the tiles."""
        tile = int(self.processor.image_processor.crop_size["height"])
        set_pinpoints(self.processor, model.config, given["max_tiles"], tile=tile)

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`; images may follow each other without a token between them."""
        per_row = (inputs["input_ids"] == self.processor.image_token_id).sum(dim=1).tolist()
        lengths, counts = self._lengths(inputs), []
        for tokens in per_row:
            counts.append(0)
            while tokens > 0 and lengths:
                tokens -= lengths.pop(0)
                counts[-1] += 1
        return counts

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`."""
        return [[self._place((image.height, image.width)) for image in row] for row in images]

    def _place(self, size: tuple[int, int]) -> TokenPlaces:
        """Of a picture's height and width in pixels."""
        from transformers.image_processing_utils import select_best_resolution

        settings, patch = self.processor.image_processor, self.processor.patch_size
        tile = int(settings.crop_size["height"])
        return any_resolution(
            size=size,
            canvas=select_best_resolution(size, settings.image_grid_pinpoints),
            tile=tile,
            tokens=tile // patch,
            most_tiles=math.inf,
        )

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        pixels, sizes = batch.inputs["pixel_values"], batch.inputs["image_sizes"]
        if chosen is not None:
            pixels, sizes = pixels[list(chosen)], sizes[list(chosen)]
        encoded = model.get_image_features(pixels, sizes, return_dict=True)
        return [ImageFeatures(tokens) for tokens in encoded.pooler_output]
