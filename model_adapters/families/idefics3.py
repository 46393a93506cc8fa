"""Idefics3 and SmolVLM: tiles between row and column tokens, and a view of all of the picture."""

import math
import re
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from model_adapters.checkpoint_files import CheckpointFiles
from model_adapters.families.idefics2 import Idefics2
from model_adapters.layout import Layout, Span, runs_of
from model_adapters.patches import allow_smolvlm
from model_adapters.relevance.places import TokenPlaces, tiles

_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


class Idefics3(Idefics2):
    """An image is resized to fill its tiles; last comes a view of all of it, or that is the only one.

    Each is a span. What is between them (row and column tokens, line ends) is text.
    """

    model_type = "idefics3"
    name = "Idefics3"
    tiny = "model_adapters.tiny.idefics3:make_tiny_idefics3"
    has_places = True

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import Idefics3ForConditionalGeneration

        return Idefics3ForConditionalGeneration

    def image_counts(self, inputs: Any) -> list[int]:
        """See `Family.image_counts`: each image has one view of all of it."""
        token, rows = self.processor.image_token_id, inputs["input_ids"]
        return [sum(self._tile(row, run) is None for run in runs_of(row, token)) for row in rows]

    def delimiter_tokens(self, layout: Layout) -> tuple[int, ...]:
        """See `Family.delimiter_tokens`: <fake_token_around_image>, first of the two tokens before an image
        and after it."""
        return tuple(sorted({p for image in layout.images for p in (image.start - 2, image.end)}))

    def _views(self, row: Tensor, count: int) -> list[list[Span]]:
        """The tiles of each image of a row and the view of all of it, in that order.

        Raises:
            ValueError: the image tokens do not add up.
        """
        by_image: list[list[Span]] = [[]]
        size = self.processor.image_seq_len
        for run in runs_of(row, self.processor.image_token_id):
            if run.length != size:
                raise ValueError(f"a tile of {size} tokens has {run.length} in the prompt")
            by_image[-1].append(run)
            if self._tile(row, run) is None:
                by_image.append([])
        if by_image.pop() or len(by_image) != count:
            raise ValueError(f"{count} images should be in the prompt, the processor made {len(by_image)}")
        return by_image

    def _tile(self, row: Tensor, run: Span) -> tuple[int, int] | None:
        """Row and column of a tile, from 1, as the token before it says; None for the view of all of it."""
        before = self.processor.tokenizer.convert_ids_to_tokens(int(row[run.start - 1]))
        matched = _TILE.fullmatch(before)
        return matched and (int(matched[1]), int(matched[2]))

    def places(self, inputs: Any, images: Sequence[Sequence[Image.Image]]) -> list[list[TokenPlaces]]:
        """See `Family.places`. A picture is stretched to fill its tiles, and never cut or padded."""
        side = math.isqrt(self.processor.image_seq_len)

        def of_image(row: Tensor, views: Sequence[Span]) -> TokenPlaces:
            rows, columns = (views[1:] and self._tile(row, views[-2])) or (0, 0)
            return tiles(rows, columns, tokens=(side, side), thumbnail=True)

        return [
            [of_image(row, views) for views in self._views(row, len(pictures))]
            for row, pictures in zip(inputs["input_ids"], images, strict=True)
        ]


class SmolVLM(Idefics3):
    """SmolVLM2; the first SmolVLMs are of type `idefics3`."""

    model_type = "smolvlm"
    name = "SmolVLM"
    tiny = "model_adapters.tiny.smolvlm:make_tiny_smolvlm"

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import SmolVLMForConditionalGeneration

        return SmolVLMForConditionalGeneration

    @classmethod
    def read_processor(cls, pretrained: str, files: CheckpointFiles, config: Any) -> Any:
        """See `Family.read_processor`."""
        allow_smolvlm()
        return super().read_processor(pretrained, files, config)
