"""LLaVA in the `-hf` format: one view for each image. LLaVA-Interleave is trained on several."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from model_adapters.checkpoint_files import CheckpointFiles
from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import cut_layouts
from model_adapters.layout import Layout
from model_adapters.relevance.places import Rectangle, TokenPlaces, grid, joined, nowhere, without_first

MANTIS_PROCESSOR = "MLlavaProcessor"
"""What the published Mantis checkpoints of LLaVA's shape name as their processor."""


class Llava(Family):
    """Each image is resized to one size, so that all have the same number of tokens; no token ends it."""

    model_type = "llava"
    name = "LLaVA"
    tiny = "model_adapters.tiny.llava:make_tiny_llava"
    former_names = ("llava_code", "nested")

    @classmethod
    def fits(cls, files: CheckpointFiles) -> bool:
        """See `Family.fits`; Mantis has a family of its own."""
        return files.processor_class != MANTIS_PROCESSOR

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        size = self._size(inputs) if any(images) else 0
        return cut_layouts(inputs, [[size] * count for count in images], token=self.processor.image_token_id)

    def _size(self, inputs: Any) -> int:
        """Tokens of an image."""
        rows, columns = self._grid(inputs)
        size: int = rows * columns + self.processor.num_additional_image_tokens
        return size - int(self.processor.vision_feature_select_strategy == "default")

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`; images may follow each other without a token between them."""
        if inputs.get("pixel_values") is None:
            return super().image_counts(inputs)
        counts = (inputs["input_ids"] == self.processor.image_token_id).sum(dim=1).tolist()
        return [tokens // self._size(inputs) for tokens in counts]

    def _grid(self, inputs: Any) -> tuple[int, int]:
        """Rows and columns of an image's patches."""
        height, width = inputs["pixel_values"].shape[-2:]
        return height // self.processor.patch_size, width // self.processor.patch_size

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`. A class token is not of a place."""
        rows, columns = self._grid(inputs) if any(images) else (0, 0)
        return [[self._place(rows, columns, image) for image in row] for row in images]

    def _place(self, rows: int, columns: int, image: Image.Image) -> TokenPlaces:
        classes = nowhere(self.processor.num_additional_image_tokens)
        encoded = joined([classes, grid(rows, columns, view=self._view(image))])
        dropped = self.processor.vision_feature_select_strategy == "default"  # of whatever tower
        return without_first(encoded) if dropped else encoded

    def _view(self, image: Image.Image) -> Rectangle:
        """What is left of a picture that is cut in the middle, in its own coordinates."""
        settings = self.processor.image_processor
        if not getattr(settings, "do_center_crop", False):
            return (0.0, 0.0, 1.0, 1.0)
        shortest = settings.size.get("shortest_edge")
        if shortest is None:
            height, width = settings.size["height"], settings.size["width"]
        else:
            scale = shortest / min(image.size)
            width, height = image.width * scale, image.height * scale
        across, down = settings.crop_size["width"] / width / 2, settings.crop_size["height"] / height / 2
        return (0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        pixels = batch.inputs["pixel_values"]
        if chosen is not None:
            pixels = pixels[list(chosen)]
        return [
            ImageFeatures(tokens)
            for tokens in model.get_image_features(pixels, return_dict=True).pooler_output
        ]
