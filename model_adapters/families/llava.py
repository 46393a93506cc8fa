"""LLaVA in the `-hf` format: one view for each image. LLaVA-Interleave is trained on several."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.layout import Layout, Span, padding_of
from model_adapters.relevance.places import Rectangle, TokenPlaces, grid


class Llava(Family):
    """Each image is resized to one size, so that all have the same number of tokens; no token ends it."""

    model_type = "llava"
    name = "LLaVA"
    tiny = "model_adapters.tiny.llava:make_tiny_llava"
    former_names = ("llava_code", "nested")

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        size = self._size(inputs) if any(images) else 0
        return equal_layouts(inputs, images, [size] * len(images), token=self.processor.image_token_id)

    def _size(self, inputs: Any) -> int:
        """Tokens of an image."""
        rows, columns = self._grid(inputs)
        size: int = rows * columns + self.processor.num_additional_image_tokens
        return size - int(self.processor.vision_feature_select_strategy == "default")

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`; images may follow each other without a token between them."""
        if inputs.get("pixel_values") is None:
            return super().image_counts(inputs)
        shown = (inputs["input_ids"] == self.processor.image_token_id).sum(dim=1).tolist()
        return [tokens // self._size(inputs) for tokens in shown]

    def _grid(self, inputs: Any) -> tuple[int, int]:
        """Rows and columns of an image's patches."""
        height, width = inputs["pixel_values"].shape[-2:]
        return height // self.processor.patch_size, width // self.processor.patch_size

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`.

        Raises:
            ValueError: tokens that are not of a patch.
        """
        rows, columns = self._grid(inputs) if any(images) else (0, 0)
        classes = self.processor.num_additional_image_tokens
        if classes != (self.processor.vision_feature_select_strategy == "default"):
            raise ValueError(f"an image has {classes} tokens that are not of a patch, and keeps them")
        return [[grid(rows, columns, view=self._view(image)) for image in row] for row in images]

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


def equal_layouts(
    inputs: Any, images: Sequence[int], sizes: Sequence[int], *, token: int
) -> tuple[Layout, ...]:
    """The layouts of rows whose images have the same number of tokens and maybe nothing between them.

    Args:
        inputs: the processor's output, padded on either side.
        images: how many images each row has.
        sizes: tokens of an image in each row.
        token: the placeholder.

    Raises:
        ValueError: the image tokens do not add up.
    """
    ids, attended = inputs["input_ids"], inputs["attention_mask"]
    length = int(ids.shape[1])
    layouts = []
    for row, mask, count, size in zip(ids, attended, images, sizes, strict=True):
        places = (row == token).nonzero().flatten().tolist()
        if len(places) != size * count:
            raise ValueError(
                f"{count} images should fill {size * count} tokens of the prompt, "
                f"the processor made {len(places)}"
            )
        spans = []
        for m in range(count):
            of_image = places[m * size : (m + 1) * size]
            if of_image[-1] - of_image[0] != size - 1:
                raise ValueError(f"the tokens of image {m + 1} are interrupted by other tokens")
            spans.append(Span(of_image[0], of_image[-1] + 1))
        left, right = padding_of(mask)
        layouts.append(Layout(length, left, tuple(spans), right))
    return tuple(layouts)
