"""Grounding DINO: boxes of what a question names (METHODS 7)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_adapters.relevance.cache import Arrays, OutputCache
from model_adapters.relevance.outside import OutsideModel


class GroundingDino(OutsideModel):
    """Finds boxes for phrases.

    Args:
        name: a folder or a Hub id.
        device: where it runs.
        cache: where its boxes are stored.
        box_threshold: a box is used if its best word scores more.
        text_threshold: the words above it name a box; it drops no box.
    """

    argument = "grounding"
    default = "IDEA-Research/grounding-dino-tiny"
    model_type = "grounding-dino"

    def __init__(
        self,
        name: str | None = None,
        *,
        device: str = "cpu",
        cache: OutputCache | None = None,
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
    ) -> None:
        super().__init__(name, device=device, cache=cache)
        self.box_threshold = box_threshold
        self.text_threshold = text_threshold

    @staticmethod
    def model_class() -> Any:
        """See `OutsideModel.model_class`."""
        from transformers import GroundingDinoForObjectDetection

        return GroundingDinoForObjectDetection

    def boxes(self, image: Image.Image, image_hash: str, phrases: Sequence[str]) -> Tensor:
        """The boxes of anything that the phrases name; images are seen one at a time, so no padding enters.

        Args:
            image: RGB.
            image_hash: of it (`Query.image_hashes`).
            phrases: lower case, without dots.

        Returns:
            float64 (n, 4), x0, y0, x1, y1, normalised and cut at the image's edges.

        Raises:
            UserError: the model or the cache is out of reach.
        """
        caption = ". ".join(phrase.replace(".", " ").strip() for phrase in phrases) + "."
        key = {
            "model": self.identity,
            "image": image_hash,
            "phrase": caption,
            "box_threshold": self.box_threshold,
            "text_threshold": self.text_threshold,
        }
        detected = self.cache.fetch(self.argument, key, lambda: self._detect(image, caption))
        return torch.from_numpy(detected["boxes"]).double().clamp(0, 1)

    @torch.inference_mode()
    def _detect(self, image: Image.Image, caption: str) -> Arrays:
        model, processor = self.loaded
        inputs = processor(
            images=image,
            text=caption,
            truncation=True,
            max_length=model.config.max_text_len,
            return_tensors="pt",
        ).to(self.device)
        (detected,) = processor.post_process_grounded_object_detection(
            model(**inputs),
            inputs["input_ids"],
            threshold=self.box_threshold,
            text_threshold=self.text_threshold,
        )
        arrays = {"boxes": detected["boxes"].reshape(-1, 4), "scores": detected["scores"]}
        return {name: np.asarray(value.float().cpu()) for name, value in arrays.items()}
