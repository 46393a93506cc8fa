"""Qwen2-VL: images of native size, and positions of three axes in the decoder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from model_adapters.families.base import Family, ImageFeatures, PreparedBatch
from model_adapters.families.spans import layouts_of
from model_adapters.layout import Layout, runs_of
from model_adapters.relevance.places import TokenPlaces, grid
from model_adapters.vision_limits import set_pixels

_LARGEST_RATIO = 200


class Qwen2VL(Family):
    """An image of h x w patches is (h / merge) x (w / merge) tokens, row by row.

    The start and the end token of an image are text (METHODS 3). Positions (time, height, width) are
    transformers' own; `embedded` says what becomes of them.
    """

    model_type = "qwen2_vl"
    name = "Qwen2-VL"
    tiny = "model_adapters.tiny.qwen2_vl:make_tiny_qwen2_vl"
    delimiters = ("before", "after")
    limits = ("min_pixels", "max_pixels")
    former_names = ("flat",)

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import Qwen2VLForConditionalGeneration

        return Qwen2VLForConditionalGeneration

    def layouts(self, inputs: Any, images: Sequence[int]) -> tuple[Layout, ...]:
        """See `Family.layouts`."""
        spans_of_rows = []
        for row, grids in zip(inputs["input_ids"], self._grids(inputs, images), strict=True):
            spans = runs_of(row, self.processor.image_token_id)
            want, made = [h * w for h, w in grids], [span.length for span in spans]
            if made != want:
                raise ValueError(
                    f"images of {want} tokens should be in the prompt, the processor made runs of {made}"
                )
            spans_of_rows.append([[span] for span in spans])
        return layouts_of(inputs, spans_of_rows)

    def set_limits(self, model: Any, given: Mapping[str, int]) -> None:
        """See `Family.set_limits`."""
        images = self.processor.image_processor
        set_pixels(self.processor, given, least=(images.patch_size * images.merge_size) ** 2)

    def _grids(self, inputs: Any, images: Sequence[int]) -> list[list[tuple[int, int]]]:
        """Rows and columns of tokens of each image of each row of the batch."""
        merge = self.processor.image_processor.merge_size
        patches = inputs["image_grid_thw"].tolist() if "image_grid_thw" in inputs else []
        if len(patches) != sum(images):
            raise ValueError(f"the batch should show {sum(images)} images, the processor made {len(patches)}")
        grids = iter([(h // merge, w // merge) for _, h, w in patches])
        return [[next(grids) for _ in range(count)] for count in images]

    def image_features(
        self, model: Any, batch: PreparedBatch, chosen: Sequence[int] | None = None
    ) -> list[ImageFeatures]:
        """See `Family.image_features`."""
        pixels, grids = batch.inputs["pixel_values"], batch.inputs["image_grid_thw"]
        if chosen is not None:
            patches = pixels.split(grids.prod(dim=1).tolist())
            pixels, grids = torch.cat([patches[i] for i in chosen]), grids[list(chosen)]
        encoded = model.get_image_features(pixels, grids, return_dict=True)
        maps = getattr(encoded, "deepstack_features", ())  # Qwen3-VL's, layer by layer
        return [
            ImageFeatures(tokens, tuple(deep))
            for tokens, *deep in zip(encoded.pooler_output, *maps, strict=True)
        ]

    def embedded(
        self,
        model: Any,
        batch: PreparedBatch,
        *,
        pool: int = 1,
        features: Sequence[ImageFeatures] | None = None,
    ) -> PreparedBatch:
        """See `Family.embedded`; the inputs have ``position_ids`` int (3, B, N) too.

        The geometry of the unpooled prompt stays: text keeps the positions that transformers gives it there,
        a pooled token has those of the middle token of its window (of two, the first), and generated text
        continues behind the prompt. So pooling averages contents and stretches no distance. METHODS 2 does
        not say: its models have positions of one axis.
        """
        short = super().embedded(model, batch, pool=pool, features=features)
        if short is batch:
            return batch
        full = self._positions(model, batch.inputs)
        shape = short.inputs["input_ids"].shape
        positions = torch.zeros(3, *shape, dtype=full.dtype, device=full.device)
        for b, (old, new) in enumerate(zip(batch.layouts, short.layouts, strict=True)):
            parts, start = [], old.padding
            for span, after in zip(old.spans, new.spans, strict=True):
                first = torch.arange(after.length) * pool
                last = (first + pool).clamp(max=span.length) - 1
                parts += [torch.arange(start, span.start), span.start + (first + last) // 2]
                start = span.end
            parts.append(torch.arange(start, old.end))
            positions[:, b, new.padding :] = full[:, b, torch.cat(parts).to(full.device)]
        return PreparedBatch({**short.inputs, "position_ids": positions}, short.layouts)

    @staticmethod
    def _positions(model: Any, inputs: Any) -> Tensor:
        """transformers' positions of the unpooled prompt, int (3, B, N): time, height and width."""
        (core,) = [module for module in model.modules() if hasattr(module, "get_rope_index")]
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
        positions, _ = core.get_rope_index(**{name: inputs[name] for name in names})
        return torch.as_tensor(positions)

    def unscorable(self, image: Image.Image) -> str | None:
        """See `Family.unscorable`: transformers refuses a side more than 200 times the other."""
        if max(image.size) > _LARGEST_RATIO * min(image.size):
            sides = f"{image.width} x {image.height} pixels"
            return f"of {sides}: {self.name} takes no side over {_LARGEST_RATIO} times the other"
        return None

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`. A picture is resized to its grid, and never cut or padded."""
        grids = self._grids(inputs, [len(row) for row in images])
        return [[grid(rows, columns) for rows, columns in row] for row in grids]
