"""SAM: a picture's segments, and those that are most like the question (METHODS 7; papers/001, 5.3)."""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_adapters.relevance.cache import Arrays
from model_adapters.relevance.outside import OutsideModel, fitted
from model_adapters.relevance.query import Query

_LONGEST = 1024
"""SAM's input: masks of a larger picture would need more memory and hold no more detail."""

_POINTS_A_SIDE, _GOOD, _MOST_OVERLAP = 32, 0.88, 0.7
"""Defaults of the pipeline: points, a mask's least quality by its own estimate, most overlap of two boxes."""

_POINTS_AT_ONCE, _ON_A_CPU = 64, 16
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
    """Finds a picture's segments as transformers' mask-generation pipeline does, with its defaults.

    Args:
        name: a folder or a Hub id; the paper does not say which SAM it uses.
        **settings: of `OutsideModel`.
    """

    argument = "sam"
    default = "facebook/sam-vit-base"
    title = "SAM"
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
        found = self.output(image, image_hash, "")
        count, height, width = found["shape"].tolist()
        bits = np.frombuffer(zlib.decompress(found["masks"].tobytes()), dtype=np.uint8)
        masks = np.unpackbits(bits, count=count * height * width).reshape(count, height, width)
        return Segments(torch.from_numpy(masks.astype(bool)), torch.from_numpy(found["scores"]))

    def text_of(self, query: Query) -> str:
        """Nothing: segments do not depend on the question."""
        return ""

    def output_key(self, image_hash: str, text: str) -> dict[str, Any]:
        """See `OutsideModel.output_key`."""
        return self.key(image=image_hash)

    def outputs(
        self, images: Sequence[Image.Image], image_hashes: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[Arrays]]:
        """See `OutsideModel.outputs`."""
        return [[found] for found in self.segmented(images)]

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
        model, processor = self.loaded
        pictures = [fitted(image, longest=_LONGEST) for image in images]
        inputs = processor.image_processor(images=pictures, return_tensors="pt")
        with self.precision():
            encoded = model.get_image_embeddings(inputs.pop("pixel_values").to(self.device))
        levels = encoded if isinstance(encoded, list) else [encoded]
        found = []
        for i, picture in enumerate(pictures):
            own = [level[i : i + 1].float() for level in levels]
            sizes = {name: values[i : i + 1].tolist() for name, values in inputs.items()}
            masks, scores = self._masks(picture, own if isinstance(encoded, list) else own[0], sizes)
            found.append(_packed(masks, scores, picture.size[::-1]))
        return found

    def _masks(
        self, picture: Image.Image, embeddings: Any, sizes: dict[str, Any]
    ) -> tuple[list[Tensor], Tensor]:
        """What transformers' `MaskGenerationPipeline` gives for an encoded picture, from the same functions.

        The pipeline encodes pictures one at a time and walks through every run of every mask in Python.

        Args:
            picture: RGB.
            embeddings: of `get_image_embeddings`, for this picture.
            sizes: the processor's ``original_sizes``, and ``reshaped_input_sizes`` if it has them.

        Returns:
            Masks, bool (h, w), and their scores, falling.
        """
        model, processor = self.loaded[0], self.loaded[1].image_processor
        target = processor.size.get("longest_edge", processor.size.get("height"))
        crops, points, _, labels = processor.generate_crop_boxes(
            picture, target, points_per_crop=_POINTS_A_SIDE
        )
        (size,) = sizes["original_sizes"]
        runs: list[Any] = []
        scores, boxes = [], []
        at_once = _ON_A_CPU if self.device.type == "cpu" else _POINTS_AT_ONCE
        for start in range(0, points.shape[1], at_once):
            outputs = model(
                image_embeddings=embeddings,
                input_points=points[:, start : start + at_once].to(self.device),
                input_labels=labels[:, start : start + at_once].to(self.device),
            )
            good = outputs.iou_scores[0].flatten() > _GOOD
            if not good.any():
                continue
            masks = processor.post_process_masks(
                outputs.pred_masks[0].flatten(0, 1)[good][None, None],
                sizes["original_sizes"],
                reshaped_input_sizes=sizes.get("reshaped_input_sizes"),
                binarize=False,
            )
            found = processor.filter_masks(
                masks[0], outputs.iou_scores[0].flatten()[good][None], size, crops[0], _GOOD
            )
            runs.extend(found[0])
            scores.append(found[1].cpu())
            boxes.append(found[2].cpu())
        if not runs:
            return [], torch.zeros(0)
        masks, best, _, _ = processor.post_process_for_mask_generation(
            runs, torch.cat(scores), torch.cat(boxes), _MOST_OVERLAP
        )
        return masks, best


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
