"""SAM: a picture's segments, and those that are most like the question (METHODS 7; papers/001, 5.3)."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_adapters.relevance.cache import Arrays
from model_adapters.relevance.outside import OutsideModel, fitted

_LONGEST = 1024
"""SAM's input: masks of a larger picture would need more memory and hold no more detail."""

_POINTS_AT_ONCE = {"cpu": 16, "cuda": 64}
_MASKS_AT_ONCE = 16


class Segments(NamedTuple):
    """What SAM finds in a picture.

    Attributes:
        masks: bool (n, h, w), True = in the segment; different masks; all of the picture, in pixels of the
            picture or of a smaller copy of it.
        scores: float32 (n,), SAM's own quality, falling.
    """

    masks: Tensor
    scores: Tensor

    def means(self, values: Tensor) -> Tensor:
        """The mean of a grid's values over each segment, by the share of a cell's area that is in it.

        Args:
            values: (g, g), of equal cells that fill the picture, row by row.

        Returns:
            float64 (n,); -inf for a segment without pixels.
        """
        height, width = self.masks.shape[1:]
        rows, columns = (_overlaps(values.shape[0], side) for side in (height, width))
        means = [torch.zeros(0, dtype=torch.float64)]
        for masks in torch.split(self.masks, _MASKS_AT_ONCE):
            area = (rows @ masks.double() @ columns.T).flatten(1)
            weight = area.sum(dim=1)
            mean = area @ values.double().flatten() / weight.clamp(min=torch.finfo(torch.float64).tiny)
            means.append(mean.where(weight > 0, -torch.inf))
        return torch.cat(means)

    def best(self, values: Tensor, top: int) -> Tensor:
        """The masks of the `top` segments with the highest means, bool (at most top, h, w).

        Of equal means that with SAM's higher score comes first. Segments without pixels are left out.
        """
        means = self.means(values)
        order = [i for i in means.argsort(descending=True, stable=True).tolist() if means[i] > -torch.inf]
        return self.masks[order[:top]]


class Sam(OutsideModel):
    """Finds a picture's segments with transformers' mask-generation pipeline and its defaults.

    Args:
        name: a folder or a Hub id; the paper does not say which SAM it uses.
        **settings: of `OutsideModel`.
    """

    argument = "sam"
    default = "facebook/sam-vit-base"
    model_types = ("sam", "sam2", "sam2_video")

    @staticmethod
    def model_class() -> Any:
        """See `OutsideModel.model_class`."""
        from transformers import AutoModelForMaskGeneration

        return AutoModelForMaskGeneration

    def segments(self, image: Image.Image, image_hash: str) -> Segments:
        """The segments of a picture.

        Args:
            image: RGB.
            image_hash: of it (`Query.image_hashes`).

        Raises:
            UserError: the model or the cache is out of reach.
        """
        found = self.cache.fetch(
            self.argument, self.segment_key(image_hash), lambda: self.segmented([image])[0]
        )
        count, height, width = found["shape"].tolist()
        bits = np.frombuffer(zlib.decompress(found["masks"].tobytes()), dtype=np.uint8)
        masks = np.unpackbits(bits, count=count * height * width).reshape(count, height, width)
        return Segments(torch.from_numpy(masks.astype(bool)), torch.from_numpy(found["scores"]))

    def segment_key(self, image_hash: str) -> dict[str, Any]:
        """The key of a picture in the cache."""
        return self.key(image=image_hash)

    @torch.inference_mode()
    def segmented(self, images: Sequence[Image.Image]) -> list[Arrays]:
        """The segments of each picture; pictures are encoded in one batch, all padded to SAM's square.

        Masks are made a few points at a time (16 on a CPU, which need 0.2 GB), so that memory does not grow
        with the number of segments. Only the encoder runs in `dtype`; masks and scores are float32.

        Args:
            images: RGB.

        Returns:
            For each image ``shape`` (n, h, w); ``masks``, the packed bits, compressed; ``scores`` (n,).
        """
        from transformers import MaskGenerationPipeline

        model, processor = self.loaded
        processor = processor.image_processor
        generate = MaskGenerationPipeline(model=model, image_processor=processor, device=self.device)
        pictures = [fitted(image, longest=_LONGEST) for image in images]
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.device)
        with self.precision():
            encoded = model.get_image_embeddings(pixels)
        levels = encoded if isinstance(encoded, list) else [encoded]
        points = _POINTS_AT_ONCE[self.device.type]
        found = []
        for i, picture in enumerate(pictures):
            own = [level[i : i + 1].float() for level in levels]
            with _already_encoded(model, own if isinstance(encoded, list) else own[0]):
                segments = generate(picture, points_per_batch=points, num_workers=0)
            found.append(_packed(segments["masks"], segments["scores"], picture.size[::-1]))
        return found


@contextmanager
def _already_encoded(model: Any, embeddings: Any) -> Iterator[None]:
    """Within it the model's image encoder gives these embeddings, whatever the picture."""
    model.get_image_embeddings = lambda *_, **__: embeddings
    try:
        yield
    finally:
        del model.get_image_embeddings


def _packed(masks: Sequence[Tensor], scores: Tensor, size: tuple[int, int]) -> Arrays:
    """Different masks only: in pictures a few pixels wide the pipeline's suppression leaves copies."""
    bits = [np.packbits(np.asarray(mask.cpu())) for mask in masks]
    first = {one.tobytes(): i for i, one in reversed(list(enumerate(bits)))}
    different = sorted(first.values())
    pixels = np.asarray([np.asarray(masks[i].cpu()) for i in different], dtype=bool).reshape(-1, *size)
    packed = zlib.compress(np.packbits(pixels).tobytes())
    return {
        "shape": np.array(pixels.shape),
        "masks": np.frombuffer(packed, dtype=np.uint8),
        "scores": np.asarray(scores.float().cpu()[different], dtype=np.float32),
    }


def _overlaps(cells: int, pixels: int) -> Tensor:
    """float64 (cells, pixels): the share of each pixel of a side that lies in each of equal cells."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * pixels / cells
    at = torch.arange(pixels, dtype=torch.float64)
    left, right = edges[:-1, None].maximum(at), edges[1:, None].minimum(at + 1)
    return (right - left).clamp(min=0)
