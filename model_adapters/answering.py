"""One batch through the model: pictures and prompts in, answers and what the intervention did out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model_adapters.engine import Engine
from model_adapters.families.base import Family, PreparedBatch, takes_features
from model_adapters.features import FeatureCache
from model_adapters.generation import cut_at_stops, generate_arguments
from model_adapters.interventions.base import Relevance
from model_adapters.interventions.options import SINKS
from model_adapters.interventions.record import EditRecord
from model_adapters.journal import Answer
from model_adapters.picture import Picture, as_pictures
from model_adapters.pooling import pool_places
from model_adapters.relevance.asked import Asked
from model_adapters.relevance.attention import text_attention
from model_adapters.relevance.places import TokenPlaces
from model_adapters.relevance.sources import RelevanceSource


class NotFinite(ArithmeticError):
    """The model's scores are no numbers. The message says of which row of the batch."""


def _check_finite(ids: Tensor, scores: Tensor) -> Tensor:
    """A logits processor that changes nothing; it sees each step's scores (B, vocabulary).

    Raises:
        NotFinite: a NaN or an infinity, as half precision makes them when it overflows.
    """
    wrong = (scores.isnan() | scores.isposinf()).any(dim=-1)
    if bool(wrong.any()):
        raise NotFinite(str(int(wrong.nonzero()[0])))
    return scores


def _images(rows: Sequence[Sequence[Picture]]) -> list[list[Any]]:
    return [[picture.image for picture in row] for row in rows]


class Ready(NamedTuple):
    """What can be made of a batch before the model is free for it.

    Attributes:
        batch: as `Family.prepare` makes it.
        hashes: `Picture.sha256` of each image of each row; empty without a feature cache.
    """

    batch: PreparedBatch
    hashes: tuple[tuple[str, ...], ...]


class Answerer:
    """A model with an intervention, ready for batches.

    Args:
        model: loaded with `engine.IMPLEMENTATION`.
        family: the model's.
        engine: runs the intervention.
        pool: how many neighbouring vision tokens become one; 1: none.
        features: keeps what the vision tower made of each image; None: the model encodes each anew.
        relevance: for an intervention that needs it.
        longest: tokens that the decoder was made for; a longer prompt is entered in its answer's record.
    """

    def __init__(
        self,
        model: Any,
        family: Family,
        engine: Engine,
        *,
        pool: int = 1,
        features: FeatureCache | None = None,
        relevance: RelevanceSource | None = None,
        longest: int | None = None,
    ) -> None:
        self.longest = longest
        self.model = model
        self.family = family
        self.engine = engine
        self.pool = pool
        self.features = features if pool > 1 or takes_features(model) else None
        self.relevance = relevance

    def prepare(self, images: Sequence[Sequence[Any]], prompts: Sequence[str]) -> Ready:
        """Preprocess a batch; another thread may do it while the model runs.

        Args:
            images: of each row, RGB; as `Picture` if their hashes are known or needed elsewhere.
            prompts: the text of each row, chat template applied.
        """
        rows = [as_pictures(row) for row in images]
        hashes: tuple[tuple[str, ...], ...] = ()
        if self.features is not None:
            hashes = tuple(tuple(picture.sha256 for picture in row) for row in rows)
        return Ready(self.family.prepare(_images(rows), prompts), hashes)

    @torch.inference_mode()
    def reply(
        self,
        images: Sequence[Sequence[Any]],
        prompts: Sequence[str],
        generation: Mapping[str, Any],
        *,
        asked: Sequence[Asked] = (),
        ready: Ready | None = None,
    ) -> list[Answer]:
        """Generate an answer for each row of a batch.

        Args:
            images: of each row, RGB; as `Picture` if their hashes are known or needed elsewhere.
            prompts: the text of each row, chat template applied.
            generation: the task's generation settings.
            asked: what relevance may know of each row; not used without a source of relevance.
            ready: what `prepare` made of images and prompts; None: it is made here.

        Returns:
            One for each row. Its `record` has ``edits`` (`EditRecord.docs`) and ``relevance`` (counts), if
            the intervention has them, and ``long_prompt`` (tokens, limit) where the prompt is too long.

        Raises:
            NotFinite: the model's scores are no numbers.
        """
        rows = [as_pictures(row) for row in images]
        batch, hashes = self.prepare(rows, prompts) if ready is None else ready
        places = self._places(batch, _images(rows))
        batch = batch._replace(inputs=batch.inputs.to(self.model.device, self.model.dtype))
        batch = self._with_features(batch, hashes)
        records: list[dict[str, Any]] = [{} for _ in prompts]
        for record, layout in zip(records, batch.layouts, strict=True):
            tokens = layout.end - layout.padding
            if self.longest is not None and tokens > self.longest:
                record["long_prompt"] = [tokens, self.longest]
        relevance = self._relevance(batch, asked, places, records)
        edits = EditRecord(len(prompts)) if SINKS in self.engine.intervention.needs else None
        with self.engine.running(self.model, batch.layouts, relevance=relevance, record=edits):
            out = self.model.generate(
                **batch.inputs,
                **generate_arguments(generation),
                pad_token_id=self.family.pad_token_id,
                logits_processor=[_check_finite],
            )
        if edits is not None:
            for record, sums in zip(records, edits.docs(), strict=True):
                record["edits"] = sums
        tokenizer = self.family.processor.tokenizer
        new = out[:, batch.inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        counts = (new != self.family.pad_token_id).sum(dim=1).tolist()
        return [
            Answer(cut_at_stops(text, generation.get("until")), count, record or None)
            for text, count, record in zip(texts, counts, records, strict=True)
        ]

    def _with_features(self, batch: PreparedBatch, hashes: Sequence[Sequence[str]]) -> PreparedBatch:
        """The batch with cached or pooled features instead of pixels, if the options ask for either."""
        if not any(layout.images for layout in batch.layouts):
            return batch
        features = None
        if self.features is not None:
            features = self.features.of_batch(self.family, self.model, batch, hashes)
        if self.pool > 1:
            return self.family.embedded(self.model, batch, pool=self.pool, features=features)
        return batch if features is None else self.family.with_features(self.model, batch, features)

    def _places(self, batch: PreparedBatch, images: Sequence[Sequence[Any]]) -> list[list[TokenPlaces]]:
        """Where the tokens of each image lie, as the decoder gets them; nothing where nobody asks."""
        if self.relevance is None:
            return []
        rows = self.family.places(batch.inputs, images)
        if self.pool == 1:
            return rows
        closing = self.family.closing_tokens
        return [
            [
                pool_places(place, image, self.pool, closing=closing)
                for place, image in zip(row, layout.images, strict=True)
            ]
            for row, layout in zip(rows, batch.layouts, strict=True)
        ]

    def _relevance(
        self,
        batch: PreparedBatch,
        asked: Sequence[Asked],
        places: Sequence[Sequence[TokenPlaces]],
        records: Sequence[dict[str, Any]],
    ) -> Relevance | None:
        """The relevance of a batch on the model's device; its counts are put in `records`."""
        source = self.relevance
        if source is None:
            return None
        attention = None
        if source.needs_attention:
            attention = text_attention(
                self.model,
                batch.inputs,
                batch.layouts,
                depth=self.model.config.get_text_config().num_hidden_layers,
                pad_token_id=self.family.pad_token_id,
            )
        counts: list[Counter[str]] = [Counter() for _ in asked]
        found = source.relevance(
            asked, places, batch.layouts, attention=attention, counts=counts, device=self.model.device
        )
        for record, own in zip(records, counts, strict=True):
            record["relevance"] = dict(own)
        return found
