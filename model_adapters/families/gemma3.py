"""Gemma 3: sliding layers and images that attend in both directions are part of its base mask."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import layouts_of
from model_adapters.layout import Layout, Span, runs_of
from model_adapters.relevance.places import TokenPlaces, grid


class Gemma3(Family):
    """An image is resized to a square, which has the same number of tokens for all images.

    The start and the end token of an image are text, as Qwen's and InternVL's are (METHODS 3).
    """

    model_type = "gemma3"
    name = "Gemma 3"
    tiny = "model_adapters.tiny.gemma3:make_tiny_gemma3"
    nested = True
    delimiters = ("before", "after")

    def __init__(self, processor: Any) -> None:
        super().__init__(processor)
        if processor.image_processor.do_pan_and_scan:
            raise UserError(
                "the checkpoint's processor cuts crops (do_pan_and_scan), which is not supported: "
                "set it to false in its files, as in the published ones"
            )

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import Gemma3ForConditionalGeneration

        return Gemma3ForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        token, size = self.processor.tokenizer.image_token_id, self.processor.image_seq_length
        rows: list[list[list[Span]]] = []
        for row, count in zip(inputs["input_ids"], images, strict=True):
            runs = runs_of(row, token)
            if [run.length for run in runs] != [size] * count:
                raise ValueError(
                    f"{count} images of {size} tokens should be in the prompt, the processor made runs of "
                    f"{[run.length for run in runs]}"
                )
            rows.append([[run] for run in runs])
        return layouts_of(inputs, rows)

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`. A picture is resized to a square, and never cut or padded."""
        side = math.isqrt(self.processor.image_seq_length)
        return [[grid(side, side) for _ in row] for row in images]

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        pixels = batch.inputs["pixel_values"]
        if chosen is not None:
            pixels = pixels[list(chosen)]
        encoded = model.get_image_features(pixels, return_dict=True)
        return [ImageFeatures(tokens) for tokens in encoded.pooler_output]

    def encoder_outputs(self, features: Sequence[ImageFeatures]) -> Any:
        """See `Family.encoder_outputs`; Gemma 3's class takes one tensor."""
        outputs = super().encoder_outputs(features)
        outputs.pooler_output = torch.stack(outputs.pooler_output)
        return outputs

    def embedded(
        self,
        model: Any,
        batch: PreparedBatch,
        *,
        pool: int = 1,
        features: Sequence[ImageFeatures] | None = None,
    ) -> PreparedBatch:
        """See `Family.embedded`.

        Raises:
            UserError: always, where there is an image: transformers' `generate` takes no embeddings here.
        """
        if not any(layout.images for layout in batch.layouts):
            return batch
        raise UserError(f"pool={pool}: transformers takes no embeddings for {self.name}: leave it out")
