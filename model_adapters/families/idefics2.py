"""Idefics2, and Mantis-8B-Idefics2: a resampler's latents, which are of no place in the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import layouts_of
from model_adapters.layout import Layout, Span, runs_of


class Idefics2(Family):
    """An image is one view, or its four quarters and itself, each with as many latents.

    The tokens around a view are text. Adjacent views share one.
    """

    model_type = "idefics2"
    name = "Idefics2"
    tiny = "model_adapters.tiny.idefics2:make_tiny_idefics2"
    nested = True
    delimiters = ("before", "after")
    has_places = False
    limits = ("image_size",)

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import Idefics2ForConditionalGeneration

        return Idefics2ForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        return layouts_of(
            inputs,
            [self._views(row, count) for row, count in zip(inputs["input_ids"], images, strict=True)],
        )

    def set_limits(self, model: Any, given: Mapping[str, int]) -> None:
        """See `Family.set_limits`: the longer side to which a picture is resized before it is cut."""
        images, longest = self.processor.image_processor, given["image_size"]
        size = {"longest_edge": longest}
        if images.size["shortest_edge"]:
            size["shortest_edge"] = min(longest, images.size["shortest_edge"])
        images.size = size

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`."""
        return [runs // self._views_of_an_image() for runs in super().image_counts(inputs)]

    def _views_of_an_image(self) -> int:
        return 5 if self.processor.image_processor.do_image_splitting else 1

    def _views(self, row: Tensor, count: int) -> list[list[Span]]:
        """The views of each image of a row.

        Raises:
            ValueError: the image tokens do not add up.
        """
        size, views = self.processor.image_seq_len, self._views_of_an_image()
        runs = runs_of(row, self.processor.image_token_id)
        if [run.length for run in runs] != [size] * views * count:
            raise ValueError(
                f"{count} images of {views} x {size} tokens should be in the prompt, the processor made runs "
                f"of {[run.length for run in runs]}"
            )
        return [runs[first : first + views] for first in range(0, len(runs), views)]

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        views: list[tuple[int, slice]] = []  # of each image, in the batch's padded views
        for b, layout in enumerate(batch.layouts):
            first = 0
            for image in layout.images:
                views.append((b, slice(first, first + len(image.spans))))
                first += len(image.spans)
        lengths = [image.length for layout in batch.layouts for image in layout.images]
        wanted = range(len(views)) if chosen is None else chosen
        arguments = [
            torch.cat([batch.inputs[name][views[i]] for i in wanted])[None]
            for name in ("pixel_values", "pixel_attention_mask")
        ]
        (encoded,) = model.get_image_features(*arguments, return_dict=True).pooler_output
        return [ImageFeatures(tokens) for tokens in encoded.split([lengths[i] for i in wanted])]
