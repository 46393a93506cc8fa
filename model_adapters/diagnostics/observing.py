"""One doc after the other through a model whose attention is watched (METHODS 8)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.diagnostics.measures import DocRecord
from model_adapters.diagnostics.recurrence import centres, recurrence
from model_adapters.diagnostics.sums import AttentionSums, DocSums
from model_adapters.doc_prompt import DocPrompt
from model_adapters.engine import Engine, SinkFinder
from model_adapters.generation import request_settings, used_settings
from model_adapters.interventions.base import Intervention
from model_adapters.layout import Layout
from model_adapters.memory import is_out_of_memory
from model_adapters.notices import too_large
from model_adapters.passes import NotFinite, PassInput, has_several
from model_adapters.relevance.query import Query, target_boxes
from model_adapters.request_loop import read_request

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from model_adapters.adapter import MaskedModel


@dataclass(frozen=True, eq=False)
class Shown:
    """A doc, ready for the model.

    Attributes:
        request: of upstream.
        prompted: the doc as the model gets it.
        single: the same for the model.
        key: of all that its prompt and its record depend on, beside the model.
    """

    request: "Instance"
    prompted: DocPrompt
    single: PassInput
    key: str

    @property
    def images(self) -> int:
        """How many it shows."""
        return len(self.single.pictures)


@dataclass(frozen=True, eq=False)
class Watched:
    """What was seen of a doc.

    Attributes:
        sums: on the CPU.
        layout: of its prompt as the decoder got it.
        places: for each image the middle of each token's place (`centres`); None if the family has none.
        rectangles: for each image its `TokenPlaces`; empty if the family has none.
        answer: the model's.
    """

    sums: DocSums
    layout: Layout
    places: tuple[Tensor, ...] | None
    rectangles: tuple[Any, ...]
    answer: str


class Watcher:
    """A model with sums of attention in all layers that have softmax attention.

    Args:
        model: with any mask of one pass.
        find_sinks: how sinks are found, or None if they are not looked for; of a mask that needs sinks, its
            own way is used.

    Raises:
        UserError: a mask that answers a doc in several passes.
    """

    def __init__(self, model: "MaskedModel", find_sinks: SinkFinder | None) -> None:
        name = model.engine.intervention.name
        if has_several(model.answerer.passes):
            raise UserError(
                f"mask={name} answers each doc in several passes, of which no one is the run's attention: "
                "choose another mask"
            )
        self.model = model
        self.find_sinks = model.engine.find_sinks or find_sinks
        self.depth = int(model.model.config.get_text_config().num_hidden_layers)
        self.layers = model.family.attention_layers or frozenset(range(self.depth))
        self._engine = model.engine
        self._engines: dict[tuple[str, bool], tuple[Engine, AttentionSums]] = {}
        self._hooks: list[Any] = []

    def close(self) -> None:
        """Take its hooks off the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._engines.clear()

    def show(self, request: "Instance") -> Shown:
        """Read a request's doc.

        Raises:
            Unscorable: a picture that cannot be shown.
            UserError: a doc that does not go with the model's options.
        """
        prompted, single = read_request(self.model, request)
        query = prompted.query(needs_question=False)
        content = [single.prompt, prompted.image_hashes(), query.columns(), used_settings(_settings(request))]
        text = json.dumps(content, sort_keys=True, default=str)
        return Shown(request, prompted, single, hashlib.sha256(text.encode()).hexdigest())

    def watch(
        self, shown: Shown, *, tokens: bool = False, intervention: Intervention | None = None
    ) -> Watched:
        """Answer a doc, and sum its attention.

        Args:
            shown: from `show`.
            tokens: sums for each token too.
            intervention: instead of the model's, in all watched layers.

        Raises:
            UserError: memory does not hold the doc, or the scores are no numbers.
        """
        model, answerer = self.model, self.model.answerer
        engine, sums = self._observed(intervention, tokens=tokens)
        ready = answerer.prepare([(shown.single,)])
        places = answerer.places(ready)[0] if model.family.has_places else None
        boxes = None if places is None else target_boxes(self._query(shown))
        inside = None
        if places is not None and boxes is not None:
            inside = [place.overlapping(of_image) for place, of_image in zip(places, boxes, strict=True)]
        sums.begin([inside])
        answerer.engine = engine
        try:
            answer = answerer.answer(ready, _settings(shown.request))[0]
        except NotFinite as error:
            raise UserError(
                f"the model's scores are not finite on {shown.prompted.name} in {model.model.dtype}: use "
                "dtype=bfloat16 or float32, or look at the checkpoint"
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(too_large(shown.prompted)) from error
        finally:
            answerer.engine = self._engine
        found = sums.docs[0]
        return Watched(
            found.on_cpu(),
            sums.layouts[0],
            None if places is None else tuple(map(centres, places)),
            () if places is None else tuple(places),
            answer.text,
        )

    def record(self, shown: Shown, seen: Watched) -> DocRecord:
        """What is stored of a doc."""
        query, sums = self._query(shown), seen.sums
        targets = None
        if query.boxes is not None:
            targets = np.array([any(box["target"] for box in boxes) for boxes in query.boxes])
        sinks, repeats = self._sinks(shown, seen)
        return DocRecord(
            task=str(shown.request.args[4]),
            doc=int(shown.request.args[3]),
            content_hash=query.content_hash,
            key=shown.key,
            answer=seen.answer,
            layers=tuple(sorted(self.layers)),
            mass=sums.mass.numpy(),
            rows=sums.rows.numpy(),
            entropy=sums.entropy.numpy(),
            entropy_rows=sums.entropy_rows.numpy(),
            tokens_of=sums.tokens_of.numpy(),
            targets=targets,
            boxes=targets is not None and seen.places is not None,
            sinks=sinks,
            recurrence=repeats,
        )

    def _sinks(self, shown: Shown, seen: Watched) -> tuple[Any, Any]:
        """`DocRecord.sinks` and `DocRecord.recurrence`."""
        if seen.sums.sinks is None:
            return None, None
        seed = int(shown.key[:12], 16)
        rows, repeats = [], np.full((self.depth, 4), np.nan)
        for layer in sorted(self.layers):
            marks = [seen.sums.sinks[layer, image.indices()] for image in seen.layout.images]
            for number, of_image in enumerate(marks):
                for token in of_image.nonzero()[:, 0].tolist():
                    at = (np.nan, np.nan) if seen.places is None else seen.places[number][token].tolist()
                    rows.append((layer, number + 1, token, *at))
            if seen.places is not None:
                repeats[layer] = recurrence(marks, seen.places, seed=(seed, layer))
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        return table, None if seen.places is None else repeats

    def _query(self, shown: Shown) -> Query:
        return shown.prompted.query(needs_question=False)

    def _observed(self, intervention: Intervention | None, *, tokens: bool) -> tuple[Engine, AttentionSums]:
        """The engine that is watched; each is made once, since its hooks stay until `close`."""
        chosen = self._engine.intervention if intervention is None else intervention
        key = (chosen.name, tokens)
        if key not in self._engines:
            sums = AttentionSums(
                self.layers, depth=self.depth, sinks=self.find_sinks is not None, tokens=tokens
            )
            layers = self._engine.layers if intervention is None else self.layers
            engine = Engine(chosen, layers, find_sinks=self.find_sinks, observers=(sums,))
            self._hooks += engine.watch(self.model.model)
            self._engines[key] = (engine, sums)
        return self._engines[key]


def _settings(request: "Instance") -> Mapping[str, Any]:
    return request_settings(request)
