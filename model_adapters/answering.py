"""One batch through the model: pictures and prompts in, answers and what the intervention did out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.assembly import delimiters_of
from model_adapters.engine import Engine
from model_adapters.families.base import Family, ImageFeatures, PreparedBatch, takes_features
from model_adapters.features import FeatureCache
from model_adapters.generation import cut_at_stops, generate_arguments
from model_adapters.interventions.base import Relevance
from model_adapters.interventions.record import EditRecord, merge_rows
from model_adapters.journal import Answer
from model_adapters.layout import Layout
from model_adapters.pass_batches import ToEncode, prepare_passes
from model_adapters.passes import (
    Passes,
    PassInput,
    check_finite,
    combined,
    groups_of,
    has_several,
)
from model_adapters.picture import as_pictures
from model_adapters.pooling import pool_places
from model_adapters.relevance.attention import text_attention
from model_adapters.relevance.places import TokenPlaces
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource


class _Finite:
    """A logits processor that changes nothing; see `check_finite`.

    A class, since `generate` reads the signature of ``__call__`` at each token: of a function it is parsed
    from text, a millisecond each time.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        check_finite(scores)
        return scores


class Ready(NamedTuple):
    """What can be made of a batch before the model is free for it.

    Attributes:
        batch: as `Family.prepare` makes it, R rows.
        rows: what each row shows.
        groups: the rows of each doc.
        hashes: `Picture.sha256` of each image of each row; empty without a feature cache and several passes.
        encode: the pictures of several passes, whose rows in `batch` have no pixels; else None.
    """

    batch: PreparedBatch
    rows: tuple[PassInput, ...]
    groups: tuple[slice, ...]
    hashes: tuple[tuple[str, ...], ...]
    encode: ToEncode | None = None

    def doc_of(self, row: int) -> int:
        """The doc that a row belongs to."""
        return next(doc for doc, group in enumerate(self.groups) if group.start <= row < group.stop)


class Answerer:
    """A model with an intervention, ready for batches.

    Args:
        model: loaded with `engine.IMPLEMENTATION`.
        family: the model's.
        engine: runs the intervention.
        pool: how many neighbouring vision tokens become one; 1: none.
        features: keeps what the vision tower made of each image, or None if the model encodes each again.
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

    @property
    def passes(self) -> Passes:
        """The intervention's."""
        return self.engine.intervention.passes

    def prepare(self, docs: Sequence[Sequence[PassInput]]) -> Ready:
        """Preprocess a batch; another thread may do it while the model runs.

        Args:
            docs: the passes over each doc, from `Passes.expand`.
        """
        rows = tuple(row for doc in docs for row in doc)
        hashes: tuple[tuple[str, ...], ...] = ()
        if self.features is not None or has_several(self.passes):
            hashes = tuple(tuple(picture.sha256 for picture in row.pictures) for row in rows)
        groups = groups_of([len(doc) for doc in docs])
        if self.features is not None and self.relevance is None and len(rows) > len(docs):
            batch, encode = prepare_passes(self.family, docs)
            return Ready(batch, rows, groups, hashes, encode)
        batch = self.family.prepare([row.images for row in rows], [row.prompt for row in rows])
        return Ready(batch, rows, groups, hashes)

    def reply(
        self,
        images: Sequence[Sequence[Any]],
        prompts: Sequence[str],
        generation: Mapping[str, Any],
        *,
        queries: Sequence[Query] = (),
    ) -> list[Answer]:
        """Generate an answer for each doc of a batch; see `answer`.

        Args:
            images: of each doc, RGB; as `Picture` if their hashes are known or needed elsewhere.
            prompts: the text of each doc, chat template applied.
            generation: the task's generation settings.
            queries: what relevance may know of each doc; not used without a source of relevance.
        """
        known: list[Query | None] = list(queries) or [None] * len(prompts)
        docs = [
            PassInput(as_pictures(images_of_doc), prompt, query, "" if query is None else query.content_hash)
            for images_of_doc, prompt, query in zip(images, prompts, known, strict=True)
        ]
        return self.answer(self.prepare([self.passes.expand(doc) for doc in docs]), generation)

    @torch.inference_mode()
    def answer(self, ready: Ready, generation: Mapping[str, Any]) -> list[Answer]:
        """Generate an answer for each doc of a batch.

        Args:
            ready: from `prepare`.
            generation: the task's generation settings.

        Returns:
            One for each doc. Its `record` has ``edits`` (`EditRecord.docs`) and ``relevance`` (counts), if
            the intervention has them, and ``long_prompt`` (tokens, limit) where the prompt is too long; of a
            doc in several passes the sums over them, and the longest prompt. ``passes``, of an intervention
            with several: how many, the different ``pictures`` that they show, and what was counted at steps.

        Raises:
            NotFinite: the model's scores are no numbers.
            UserError: sampling, where a doc has several passes.
        """
        arguments = generate_arguments(generation)
        if arguments["do_sample"] and len(ready.groups) < len(ready.rows):
            raise UserError(
                f"mask={self.engine.intervention.name} combines several passes at each token, greedily: "
                "leave do_sample and temperature out"
            )
        batch = ready.batch
        places = [] if self.relevance is None else self.places(ready)
        batch = batch._replace(inputs=batch.inputs.to(self.model.device, self.model.dtype))
        batch = self._with_features(batch, ready)
        records: list[dict[str, Any]] = [{} for _ in ready.rows]
        for record, layout in zip(records, batch.layouts, strict=True):
            tokens = layout.end - layout.padding
            if self.longest is not None and tokens > self.longest:
                record["long_prompt"] = [tokens, self.longest]
        relevance = self._relevance(batch, ready.rows, places, records)
        edits = EditRecord(len(ready.rows)) if self.engine.intervention.recorded else None
        intervention = self.engine.intervention
        with (
            self.engine.running(
                self.model,
                batch.layouts,
                relevance=relevance,
                record=edits,
                queries=[row.query for row in ready.rows],
                delimiters=delimiters_of(intervention, self.family, batch.layouts, self.model.device),
            ),
            combined(self.model, self.passes, ready.groups) as steps,
        ):
            out = self.model.generate(
                **batch.inputs,
                **arguments,
                pad_token_id=self.family.pad_token_id,
                logits_processor=[_Finite()],
            )
        if edits is not None:
            for record, sums in zip(records, edits.docs(), strict=True):
                record["edits"] = sums
        tokenizer = self.family.processor.tokenizer
        new = out[[group.start for group in ready.groups], batch.inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        counts = (new != self.family.pad_token_id).sum(dim=1).tolist()
        of_docs = [_of_doc(records[group]) for group in ready.groups]
        if has_several(self.passes):
            made = steps.docs(_steps(new, self.model.generation_config.eos_token_id))
            for record, group, counted in zip(of_docs, ready.groups, made, strict=True):
                pictures = {name for row in ready.hashes[group] for name in row}
                record["passes"] = {"passes": group.stop - group.start, "pictures": len(pictures), **counted}
        return [
            Answer(
                cut_at_stops(text, generation.get("until")),
                count,
                record or None,
                _work(batch.layouts[group]),
            )
            for text, count, record, group in zip(texts, counts, of_docs, ready.groups, strict=True)
        ]

    def _with_features(self, batch: PreparedBatch, ready: Ready) -> PreparedBatch:
        """The batch with cached or pooled features instead of pixels, if the options ask for either."""
        if not any(layout.images for layout in batch.layouts):
            return batch
        features = None
        if self.features is not None:
            features = self._features(self.features, batch, ready)
        if self.pool > 1:
            return self.family.embedded(self.model, batch, pool=self.pool, features=features)
        return batch if features is None else self.family.with_features(self.model, batch, features)

    def _features(self, cache: FeatureCache, batch: PreparedBatch, ready: Ready) -> list[ImageFeatures]:
        """The features of all images of a batch, on the model's device or the host."""
        if ready.encode is None:
            return cache.of_batch(self.family, self.model, batch, ready.hashes)
        prepared, rows = ready.encode
        prepared = prepared._replace(inputs=prepared.inputs.to(self.model.device, self.model.dtype))
        hashes = [[picture.sha256 for picture in row] for row in rows]
        once = {picture.sha256 for row in rows for picture in row if not picture.recurs}
        made = cache.of_batch(self.family, self.model, prepared, hashes, once=once)
        cache.reused += sum(map(len, ready.hashes)) - sum(map(len, hashes))
        views = [(name, len(row) == 1) for row in hashes for name in row]
        features_of = dict(zip(views, made, strict=True))
        return [features_of[name, len(row) == 1] for row in ready.hashes for name in row]

    def places(self, ready: Ready) -> list[list[TokenPlaces]]:
        """Where the tokens of each image of each row lie, as the decoder gets them (METHODS 7).

        Args:
            ready: from `prepare`.
        """
        rows = self.family.places(ready.batch.inputs, [row.images for row in ready.rows])
        if self.pool == 1:
            return rows
        closing = self.family.closing_tokens
        return [
            [
                pool_places(image_places, image, self.pool, closing=closing)
                for image_places, image in zip(row, layout.images, strict=True)
            ]
            for row, layout in zip(rows, ready.batch.layouts, strict=True)
        ]

    def _relevance(
        self,
        batch: PreparedBatch,
        rows: Sequence[PassInput],
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
                softmax=self.family.attention_layers,
            )
        queries = [row.query for row in rows if row.query is not None]
        counts: list[Counter[str]] = [Counter() for _ in queries]
        relevance = source.relevance(
            queries, places, batch.layouts, attention=attention, counts=counts, device=self.model.device
        )
        for record, row_counts in zip(records, counts, strict=True):
            record["relevance"] = dict(row_counts)
        return relevance


def _steps(tokens: Tensor, ends: int | Sequence[int] | None) -> list[int]:
    """How many steps made the answer of each row (B, T), the one that ended it among them."""
    ids = [ends] if isinstance(ends, int) else list(ends or ())
    ended = torch.isin(tokens, torch.tensor(ids, device=tokens.device, dtype=tokens.dtype))
    before = (~ended).long().cumprod(dim=1).sum(dim=1)
    return (before + 1).clamp(max=tokens.shape[1]).tolist()


def _of_doc(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record of a doc's rows."""
    if len(rows) == 1:
        return rows[0]
    record: dict[str, Any] = {
        name: merge_rows([row[name] for row in rows]) for name in ("edits", "relevance") if name in rows[0]
    }
    long = [row["long_prompt"] for row in rows if "long_prompt" in row]
    return {**record, "long_prompt": max(long)} if long else record


def _work(rows: Sequence[Layout]) -> dict[str, int]:
    """`Answer.work` of a doc from the layouts of its rows."""
    lengths = [row.end - row.padding for row in rows]
    return {
        "passes": len(rows),
        "prompt_tokens": sum(lengths),
        "visual_tokens": sum(image.length for row in rows for image in row.images),
        "causal_pairs": sum(length * (length + 1) // 2 for length in lengths),
    }
