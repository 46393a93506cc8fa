"""Grounding DINO: boxes of what a question names (METHODS 7)."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_adapters.relevance.cache import Arrays
from model_adapters.relevance.choice import BOX_THRESHOLD, TEXT_THRESHOLD
from model_adapters.relevance.outside import OutsideModel, fitted
from model_adapters.relevance.phrases import phrases_of
from model_adapters.relevance.query import Query

_FLOOR = 0.05
_SEPARATORS = [".", "?"]


class GroundingDino(OutsideModel):
    """Finds boxes for phrases.

    The cache holds every box that scores above 0.05, with its scores, so that any thresholds from there on
    are read from one pass of the model.

    Args:
        name: a folder or a Hub id.
        box_threshold: a box is used if its best token scores more, 0-1.
        text_threshold: and if a word of the phrases scores more than this, 0-1: a box that no word names is
            left out. (In Grounding DINO's own code it only chooses the words of a label.)
        **settings: of `OutsideModel`.
    """

    argument = "grounding"
    default = "IDEA-Research/grounding-dino-tiny"
    title = "Grounding DINO"
    model_types = ("grounding-dino",)

    def __init__(
        self,
        name: str | None = None,
        *,
        box_threshold: float = BOX_THRESHOLD,
        text_threshold: float = TEXT_THRESHOLD,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        self.box_threshold = box_threshold
        self.text_threshold = text_threshold

    @staticmethod
    def model_class() -> Any:
        """See `OutsideModel.model_class`."""
        from transformers import GroundingDinoForObjectDetection

        return GroundingDinoForObjectDetection

    def boxes(self, image: Image.Image, image_hash: str, phrases: Sequence[str]) -> Tensor:
        """The boxes of anything that the phrases name.

        Args:
            image: RGB.
            image_hash: of it (`Query.image_hashes`).
            phrases: lower case, without dots.

        Returns:
            float64 (n, 4), x0, y0, x1, y1, normalised and cut at the image's edges.

        Raises:
            UserError: the model or the cache is out of reach.
        """
        found = self.output(image, image_hash, caption_of(phrases))
        boxes, scores, words = (torch.from_numpy(found[name]) for name in ("boxes", "scores", "words"))
        used = (scores > self.box_threshold) & (words > self.text_threshold)
        return boxes[used].double().clamp(0, 1)

    def text_of(self, query: Query) -> str:
        """The caption of the doc's phrases."""
        return caption_of(phrases_of(query))

    def output_key(self, image_hash: str, text: str) -> dict[str, Any]:
        """See `OutsideModel.output_key`."""
        return self.key(image=image_hash, phrase=text, floor=self._floor)

    def batch_of(self, size: tuple[int, int]) -> Hashable:
        """One size only: a picture that is padded to the size of another gets other boxes."""
        return size

    def outputs(
        self, images: Sequence[Image.Image], image_hashes: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[Arrays]]:
        """See `OutsideModel.outputs`."""
        return [[found] for found in self.detected(images, [caption for (caption,) in texts])]

    @property
    def _floor(self) -> float:
        """What the boxes in the cache score at least."""
        return _FLOOR if self.box_threshold >= _FLOOR else 0.0

    @torch.inference_mode()
    def detected(self, images: Sequence[Image.Image], captions: Sequence[str]) -> list[Arrays]:
        """The boxes of each picture for its caption, with their scores, in one batch.

        Args:
            images: RGB, all of one size: a picture that is padded to the size of another gets other boxes.
            captions: of `caption_of`, one for each image. Padding of captions is masked by the model.

        Returns:
            For each image ``boxes`` (n, 4), x0, y0, x1, y1, normalised; ``scores`` (n,), the best of all
            tokens; ``words`` (n,), the best of the phrases' words. float32, those above the floor.

        Raises:
            ValueError: images of several sizes.
        """
        if len({image.size for image in images}) > 1:
            raise ValueError("images of several sizes in one batch")
        model, processor = self.loaded
        inputs = processor(
            images=[fitted(image) for image in images],
            text=list(captions),
            padding=True,
            truncation=True,
            max_length=model.config.max_text_len,
            return_tensors="pt",
        ).to(self.device)
        with self.precision():
            outputs = model(**inputs)
        tokens = outputs.logits.float().sigmoid()[..., : inputs["input_ids"].shape[1]].cpu()
        centre, size = outputs.pred_boxes.float().cpu().split(2, dim=-1)
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
        named = torch.stack([self._is_word(ids) for ids in inputs["input_ids"].cpu()])
        scores, words = tokens.amax(-1), tokens.where(named[:, None], 0.0).amax(-1)
        return [
            {name: np.asarray(values[i][scores[i] > self._floor]) for name, values in found.items()}
            for found in [{"boxes": boxes, "scores": scores, "words": words}]
            for i in range(len(images))
        ]

    def _is_word(self, ids: Tensor) -> Tensor:
        """bool (T,), True = a token of a phrase: no [CLS], [SEP], padding or separator."""
        tokenizer = self.loaded.processor.tokenizer
        others = {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(_SEPARATORS)}
        others -= {tokenizer.unk_token_id}
        return torch.tensor([int(token) not in others for token in ids])


def caption_of(phrases: Sequence[str]) -> str:
    """What the model gets: each phrase and a dot."""
    return ". ".join(phrase.replace(".", " ").strip() for phrase in phrases) + "."
