"""InternVL in the `-hf` format: InternVL2 (converted), 2.5 and 3, with any decoder that class takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import layouts_of
from model_adapters.layout import Layout, Span, runs_of
from model_adapters.relevance.places import TokenPlaces, tiles


class Internvl(Family):
    """An image is one tile, or several and a thumbnail: all in one span, in the processor's order.

    The start and the end token of an image are text (METHODS 3). Every image keeps the processor's limit of
    tiles, however many images a doc has, as in InternVL2's own chat code.
    """

    model_type = "internvl"
    name = "InternVL"
    tiny = "model_adapters.tiny.internvl:make_tiny_internvl"
    delimiters = ("before", "after")
    limits = ("max_tiles",)
    former_names = ("nested", "internvl2_code")

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import InternVLForConditionalGeneration

        return InternVLForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        spans_of_rows = []
        for row, count in zip(inputs["input_ids"], images, strict=True):
            spans = self._spans(row)
            if len(spans) != count:
                raise ValueError(f"{count} images should be in the prompt, the processor made {len(spans)}")
            spans_of_rows.append([[span] for span in spans])
        layouts = layouts_of(inputs, spans_of_rows)
        placeholders = sum(span.length for layout in layouts for span in layout.images)
        pixels = inputs["pixel_values"].shape[0] if any(images) else 0
        if placeholders != pixels * self.processor.image_seq_length:
            raise ValueError(
                f"{pixels} tiles should fill {pixels * self.processor.image_seq_length} tokens of the "
                f"prompts, the processor made {placeholders}"
            )
        return layouts

    def _spans(self, row: Tensor) -> list[Span]:
        """The runs of image tokens of a row: an integer number of tiles between its start and end token."""
        processor, tile = self.processor, self.processor.image_seq_length
        spans = runs_of(row, processor.image_token_id)
        for m, span in enumerate(spans):
            if span.length % tile:
                raise ValueError(
                    f"the {span.length} tokens of image {m + 1} are not an integer number of tiles of {tile}"
                )
            around = row[span.start - 1 : span.start].tolist() + row[span.end : span.end + 1].tolist()
            if around != [processor.start_image_token_id, processor.end_image_token_id]:
                raise ValueError(f"the tokens of image {m + 1} lack their start or end token")
        return spans

    def set_limits(self, model: Any, given: Mapping[str, int]) -> None:
        """See `Family.set_limits`; a thumbnail comes on top of several tiles."""
        images, most = self.processor.image_processor, given["max_tiles"]
        if most < images.min_patches:
            raise UserError(f"max_tiles={most}: this checkpoint shows at least {images.min_patches}")
        images.max_patches = most

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`. The picture is resized to fill its tiles, and its thumbnail shows all of it.

        Raises:
            ValueError: the tiles do not fill an image's span.
        """
        rows_of_places = [[self._place(image) for image in row] for row in images]
        for row, places in zip(inputs["input_ids"], rows_of_places, strict=True):
            spans = [span.length for span in self._spans(row)]
            if spans != [place.length for place in places]:
                raise ValueError(
                    f"images of {[place.length for place in places]} tokens do not fill spans of {spans}"
                )
        return rows_of_places

    def _place(self, image: Image.Image) -> TokenPlaces:
        from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

        settings = self.processor.image_processor
        side = math.isqrt(self.processor.image_seq_length)
        columns, rows = 1, 1
        if settings.crop_to_patches:
            columns, rows = get_optimal_tiled_canvas(
                (image.height, image.width),
                (settings.size["height"], settings.size["width"]),
                settings.min_patches,
                settings.max_patches,
            )
        return tiles(rows, columns, tokens=(side, side), thumbnail=rows * columns > 1)

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        pixels = batch.inputs["pixel_values"]
        lengths = [span.length for layout in batch.layouts for span in layout.images]
        if chosen is not None:
            parts = pixels.split([length // self.processor.image_seq_length for length in lengths])
            pixels, lengths = torch.cat([parts[i] for i in chosen]), [lengths[i] for i in chosen]
        encoded = model.get_image_features(pixels, return_dict=True)
        return [ImageFeatures(tokens) for tokens in encoded.pooler_output.flatten(0, 1).split(lengths)]

    def encoder_outputs(self, features: Sequence[ImageFeatures]) -> Any:
        """See `Family.encoder_outputs`; InternVL's class takes one tensor."""
        outputs = super().encoder_outputs(features)
        outputs.pooler_output = torch.cat(outputs.pooler_output)
        return outputs
