"""LLaVA-OneVision in the `-hf` format."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from model_adapters.families.base import Family
from model_adapters.layout import Layout, Span


class LlavaOnevision(Family):
    """Several images: base view and one newline token each, which belongs to the image's span (METHODS 3).

    One image: any-resolution tiles, all in one span, with a newline token after each row of their tokens.
    """

    model_type = "llava_onevision"
    name = "LLaVA-OneVision"
    closing_tokens = 1

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaOnevisionForConditionalGeneration

        return LlavaOnevisionForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        ids, attended = inputs["input_ids"], inputs["attention_mask"]
        length = int(ids.shape[1])
        base = self.processor.num_image_tokens + 1
        if self.processor.vision_feature_select_strategy == "default":
            base -= 1
        layouts = []
        for row, mask, count in zip(ids, attended, images, strict=True):
            places = (row == self.processor.image_token_id).nonzero().flatten().tolist()
            size = base if count > 1 else len(places)
            if len(places) != size * count:
                raise ValueError(
                    f"{count} images should fill {size * count} tokens of the prompt, "
                    f"the processor made {len(places)}"
                )
            spans = []
            for m in range(count):
                own = places[m * size : (m + 1) * size]
                if own[-1] - own[0] != size - 1:
                    raise ValueError(f"the tokens of image {m + 1} are interrupted by other tokens")
                spans.append(Span(own[0], own[-1] + 1))
            layouts.append(Layout(length, length - int(mask.sum()), tuple(spans)))
        return tuple(layouts)

    def image_features(self, model: Any, inputs: Any) -> Sequence[Tensor]:
        """See `Family.image_features`."""
        encoded = model.get_image_features(
            inputs["pixel_values"],
            inputs["image_sizes"],
            batch_num_images=inputs["batch_num_images"],
            return_dict=True,
        )
        return list(encoded.pooler_output)
