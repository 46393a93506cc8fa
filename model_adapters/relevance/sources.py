"""Sources of relevance: whose boxes make G, and what c is (METHODS 7)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from model_adapters.interventions.base import Relevance
from model_adapters.layout import Layout
from model_adapters.relevance.attention import attention_scores
from model_adapters.relevance.cache import OutputCache
from model_adapters.relevance.choice import (
    BOX_THRESHOLD,
    TEXT_THRESHOLD,
    TOP,
    WITH_BOXES,
    RelevanceChoice,
)
from model_adapters.relevance.clip import Clip
from model_adapters.relevance.degrade import degrade
from model_adapters.relevance.grounding import GroundingDino
from model_adapters.relevance.outside import OutsideModel
from model_adapters.relevance.phrases import phrases_of
from model_adapters.relevance.places import TokenPlaces
from model_adapters.relevance.query import Query, oracle_boxes
from model_adapters.relevance.sam import Sam


class RelevanceSource:
    """Gives the relevance of a batch's visual tokens. Outside models are loaded when first needed.

    Args:
        choice: the user's.
        grounding: Grounding DINO's folder or Hub id, or None for its default.
        sam: of SAM, as `grounding`.
        clip: of CLIP, as `grounding`.
        box_threshold: of `GroundingDino`.
        text_threshold: of Grounding DINO, 0-1.
        top: how many of SAM's segments of a picture are used.
        device: where the outside models run.
        dtype: one of `choice.DTYPES`.
        cache: where their outputs are stored.

    Attributes:
        name: of the source, in the form of records.
        grounding: the outside model that finds boxes.
        sam: the outside model that finds segments.
        clip: the outside model that scores places.
        needs_attention: `relevance` must be given the sums of a first pass (`text_attention`).
    """

    def __init__(
        self,
        choice: RelevanceChoice,
        *,
        grounding: str | None = None,
        sam: str | None = None,
        clip: str | None = None,
        box_threshold: float = BOX_THRESHOLD,
        text_threshold: float = TEXT_THRESHOLD,
        top: int = TOP,
        device: str = "cpu",
        dtype: str = "float32",
        cache: OutputCache | None = None,
    ) -> None:
        self.choice = choice
        self.name = str(choice)
        self.needs_attention = choice.score == "attention"
        self.top = top
        self.dtype = dtype
        how = {"device": device, "dtype": dtype, "cache": cache}
        thresholds = {"box_threshold": box_threshold, "text_threshold": text_threshold}
        self.grounding = GroundingDino(grounding, **thresholds, **how)  # type: ignore[arg-type]
        self.sam = Sam(sam, **how)  # type: ignore[arg-type]
        self.clip = Clip(clip, **how)

    def settings(self) -> dict[str, Any]:
        """For the run's record: the source, the outside models that it uses, and how regions are chosen."""
        settings = {
            **{name: model.name for name, model in self.models().items()},
            "box_threshold": self.grounding.box_threshold,
            "text_threshold": self.grounding.text_threshold,
            "top": self.top,
            "relevance_dtype": self.dtype,
        }
        return {"relevance": self.name, **{name: settings[name] for name in self.choice.settings}}

    def models(self) -> dict[str, OutsideModel]:
        """The outside models that it uses, by their argument."""
        every: dict[str, OutsideModel] = {"grounding": self.grounding, "sam": self.sam, "clip": self.clip}
        return {name: every[name] for name in self.choice.models}

    def identities(self) -> dict[str, str]:
        """The checkpoints of the outside models that it uses, by their argument (`OutsideModel.identity`).

        Raises:
            UserError: one is not there.
        """
        return {name: model.identity for name, model in self.models().items()}

    def boxes(self, query: Query, *, counts: Counter[str] | None = None) -> list[Tensor] | None:
        """The boxes whose tokens form G: float64 (n, 4) for each image, or None if G is not made of boxes.

        Args:
            query: of a doc.
            counts: changed in place: ``boxes``; degraded: ``boxes_dropped``, ``boxes_moved``.

        Raises:
            UserError: the doc has no boxes, or a model is out of reach.
        """
        if self.choice.regions not in WITH_BOXES:
            return None
        counts = Counter() if counts is None else counts
        if self.choice.regions == "oracle":
            grounded_by_image = oracle_boxes(query)
        else:
            phrases = phrases_of(query)
            images = zip(query.images, query.image_hashes, strict=True)
            grounded_by_image = [self.grounding.boxes(image, digest, phrases) for image, digest in images]
        counts["boxes"] += sum(len(of_image) for of_image in grounded_by_image)
        if self.choice.name == "degraded":
            grounded_by_image, dropped, moved = degrade(
                grounded_by_image,
                query.image_hashes,
                probability=self.choice.probability,
                content_hash=query.content_hash,
            )
            counts.update(boxes_dropped=dropped, boxes_moved=moved)
        return grounded_by_image

    def segments(self, query: Query, *, counts: Counter[str] | None = None) -> list[Tensor]:
        """The segments whose tokens form G: of each image one mask, bool (h, w), that holds them all.

        Args:
            query: of a doc.
            counts: changed in place: ``segments``.

        Raises:
            UserError: a model is out of reach.
        """
        counts = Counter() if counts is None else counts
        masks = []
        for image, digest in zip(query.images, query.image_hashes, strict=True):
            cosines = self.clip.maps(image, digest, query.question).grid()
            best = self.sam.segments(image, digest).best(cosines, self.top)
            counts["segments"] += len(best)
            masks.append(best.any(dim=0))
        return masks

    def relevance(
        self,
        queries: Sequence[Query],
        places: Sequence[Sequence[TokenPlaces]],
        layouts: Sequence[Layout],
        *,
        attention: Tensor | None = None,
        counts: Sequence[Counter[str]] | None = None,
        device: torch.device | str = "cpu",
    ) -> Relevance:
        """G and c of a batch.

        Args:
            queries: of B docs.
            places: for each doc, where the tokens of each of its images lie, in the order of the prompt.
            layouts: B layouts of length N.
            attention: (B, N), for a source that needs it (`text_attention`).
            counts: one for each doc, changed in place: those of `boxes` or `segments`, ``images``, and
                ``docs_without_grounding``, ``images_without_grounding`` (G is empty there, so that the
                intervention is the identity).
            device: where the result goes.

        Returns:
            bool (B, N) and float32 (B, N) on `device`; the score is 0 outside of G.

        Raises:
            UserError: the doc lacks what the source needs, or a model is out of reach.
            ValueError: places that do not fill the spans, or no attention for a source that needs it.
        """
        if self.needs_attention and attention is None:
            raise ValueError(f"relevance={self.name} needs `attention`, the sums of a first pass")
        grounded = torch.zeros(len(layouts), layouts[0].length, dtype=torch.bool)
        score = torch.zeros(grounded.shape)
        counts = [Counter() for _ in queries] if counts is None else counts
        for b, (doc, of_image, layout) in enumerate(zip(queries, places, layouts, strict=True)):
            _check_lengths(doc, of_image, layout)
            in_g = self._grounded(doc, of_image, counts[b])
            for m, (image, place) in enumerate(zip(layout.images, of_image, strict=True)):
                index = image.indices()
                grounded[b, index] = in_g[m]
                if self.choice.score == "clip" and in_g[m].any():
                    cosines = self.clip.cosines(
                        doc.images[m], doc.image_hashes[m], doc.question, place.centres
                    )
                    score[b, index] = place.mean(cosines).float()
        if attention is not None and self.needs_attention:
            score = attention_scores(attention).cpu()
        return Relevance(grounded.to(device), score.where(grounded, 0.0).to(device))

    def _grounded(self, query: Query, places: Sequence[TokenPlaces], counts: Counter[str]) -> list[Tensor]:
        """The tokens of each image that are in G, bool (P,), counted."""
        boxes = self.boxes(query, counts=counts)
        if self.choice.regions is None:
            grounded_by_image = [place.is_place for place in places]
        elif boxes is None:
            masks = self.segments(query, counts=counts)
            grounded_by_image = [place.under(mask) for place, mask in zip(places, masks, strict=True)]
        else:
            grounded_by_image = [
                place.overlapping(of_image) for place, of_image in zip(places, boxes, strict=True)
            ]
        empty = [not bool(of_image.any()) for of_image in grounded_by_image]
        counts.update(
            images=len(grounded_by_image),
            docs_without_grounding=int(all(empty)),
            images_without_grounding=sum(empty),
        )
        return grounded_by_image


def _check_lengths(query: Query, places: Iterable[TokenPlaces], layout: Layout) -> None:
    given = [place.length for place in places]
    spans = [image.length for image in layout.images]
    if given != spans or len(spans) != len(query.images):
        raise ValueError(
            f"{query.name}: places of {given} tokens for spans of {spans} and {len(query.images)} images"
        )
