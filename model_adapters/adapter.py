"""The lmms-eval models: a family, an engine, and answers for a list of requests."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger

from mimic_eval.records import (
    Unscorable,
    UserError,
    announce_effects,
    announce_kept,
    announce_run,
    unscored_response,
)
from model_adapters.ahead import ahead, grouped
from model_adapters.answering import Answerer, NotFinite, Ready
from model_adapters.assembly import chosen_device, chosen_dtype, find_sinks, relevance_source
from model_adapters.effects import DocKey, from_all_processes, summarize_effects
from model_adapters.engine import Engine
from model_adapters.families import Family
from model_adapters.features import FeatureCache
from model_adapters.generation import UPSTREAMS_STOP, generate_arguments
from model_adapters.identity import code_hash, config_hash, processor_hash, weights_hash
from model_adapters.journal import Answer, Journal, answer_key
from model_adapters.layers import format_layers
from model_adapters.loading import checkpoint_place, load_family, own_note
from model_adapters.memory import is_out_of_memory, release
from model_adapters.options import AdapterOptions, parse_arg_string
from model_adapters.relevance.asked import Asked
from model_adapters.relevance.sources import RelevanceSource
from model_adapters.shown import ShownDoc, shown_order, take_images


class _Waiting(NamedTuple):
    """A doc without an answer: its place among the requests, and its key in the journal."""

    place: int
    doc: ShownDoc
    key: str | None


class MaskedModel(lmms):  # type: ignore[misc]
    """A chat model with an intervention in its decoder.

    Attributes:
        family_class: whose checkpoints it takes; one of them is embedded.
        other_families: whose checkpoints it takes too.

    Args:
        **arguments: see `AdapterOptions`.

    Raises:
        UserError: an argument or a checkpoint that does not fit.
    """

    is_simple = False
    family_class: type[Family]
    other_families: tuple[type[Family], ...] = ()

    @classmethod
    def model_types(cls) -> list[str]:
        """Of the checkpoints that it takes, as their configs name them."""
        return [family.model_type for family in (cls.family_class, *cls.other_families)]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.options = AdapterOptions.parse(arguments)
        pretrained = checkpoint_place(self.options.pretrained, default=self.family_class.model_type)
        note = own_note(pretrained)
        if self.options.pretrained is None:
            print(
                f"No pretrained= given: the embedded reference checkpoint ({note['description']})",
                file=sys.stderr,
            )
        self._device = chosen_device(self.options.device)
        self.model, self.family = load_family(
            self.family_class,
            pretrained,
            others=self.other_families,
            dtype=chosen_dtype(self.options.dtype, self._device),
            device=str(self._device),
            peft=self.options.peft,
            device_map=self.options.device_map,
        )
        depth = self.model.config.get_text_config().num_hidden_layers
        intervention = self.options.intervention()
        layers = self.options.layer_set(depth, intervention.default_layers)
        sinks = find_sinks(self.options, self.model, intervention)
        self.engine = Engine(intervention, layers, find_sinks=sinks)
        self.engine.watch(self.model)
        relevance = relevance_source(self.options, intervention, self._device)
        kept = self.options.feature_cache
        self._answerer = Answerer(
            self.model,
            self.family,
            self.engine,
            pool=self.options.pool,
            features=FeatureCache(kept * 2**20) if kept else None,
            relevance=relevance,
        )
        self.batch_size_per_gpu = self.options.batch_size
        settings = {
            "family": self.family.model_type,
            "mask": intervention.name,
            "layers": format_layers(layers),
            "depth": depth,
            **intervention.settings(),
            **({} if sinks is None else sinks.settings()),
            **({} if relevance is None else relevance.settings()),
            "pool": self.options.pool,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self._device.type,
        }
        self.journal: Journal | None = None
        if self.options.journal:
            self.journal = Journal(None, self._identity(settings, relevance))
        announce_kept(self._kept)
        announce_run(
            checkpoint=self.options.pretrained or f"embedded:{self.family_class.model_type}",
            checkpoint_kind=note.get("kind"),
            peft=self.options.peft,
            **settings,
            order=self.options.order,
            batch_size=self.options.batch_size,
            kernel=self._kernel(),
            **({} if self.options.device_map is None else {"device_map": self.options.device_map}),
        )

    def _kept(self) -> str:
        """What a stopped run leaves, in one sentence."""
        answers = 0 if self.journal is None else self.journal.added + self.journal.reused
        if self.journal is None or not answers:
            return "no answer is in the journal; the same command starts again"
        at = self.journal.folder
        return f"{answers} answers are in the journal {at}; the same command takes them from there"

    def _kernel(self) -> str:
        """What computes the prompt's attention in the changed layers."""
        config = self.model.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        own = (heads, config.num_key_value_heads, width)
        return self.engine.intervention.kernel(self.model.device, self.model.dtype, *own)

    def _identity(self, settings: Mapping[str, Any], relevance: RelevanceSource | None) -> dict[str, Any]:
        """Everything that all answers of this model depend on, for the journal."""
        return {
            "settings": settings,
            "weights": weights_hash(self.model),
            "config": config_hash(self.model),
            "processor": processor_hash(self.family.processor),
            "outside_models": None if relevance is None else relevance.identities(),
            "code": code_hash(),
            "versions": {name: version(name) for name in ("torch", "transformers")},
        }

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "MaskedModel":
        """See upstream's `lmms`; a malformed argument is said in one line."""
        return cls(**parse_arg_string(arg_string, additional_config or {}))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Docs at a time; less than was asked for after memory has run out."""
        return self.batch_size_per_gpu

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer requests, in their order.

        An answer that the journal has is not made again; a new one is in the journal before the next batch.
        Docs with the most images come first, so that batches have little padding and one that is too large
        is met at once. While the model runs, another thread decodes and preprocesses what comes next. Where
        memory runs out, the batch is halved from then on. A doc that cannot be shown to the model gets the
        marker of an unscored doc with its reason; any other failure ends the run and names the doc.
        """
        from tqdm import tqdm

        answers: dict[int, Answer] = {}
        failed: dict[int, str] = {}
        sizes = self._sizes(requests)
        with (
            tqdm(total=len(requests), desc="Answering", unit="doc", disable=self.rank != 0) as bar,
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread,
        ):
            for generation, members in _by_settings(requests):
                find = partial(self._found, requests, generation=generation, failed=failed)
                places = sorted(members, key=lambda place: -sizes[place])

                def waiting(found: Iterable[tuple[int, Future[Answer | _Waiting]]]) -> Iterator[_Waiting]:
                    for place, future in found:
                        own = future.result()
                        if isinstance(own, Answer):
                            answers[place] = own
                            bar.update()
                        else:
                            yield own

                docs = waiting(ahead(thread, find, places, most=lambda: 2 * self.batch_size))
                batches = grouped(docs, size=lambda: self.batch_size)
                for batch, ready in ahead(thread, self._prepare, batches, most=lambda: 1):
                    for done in self._answer_all(batch, ready, generation):
                        answers.update(done)
                        bar.update(len(done))
        self._tell(requests, answers, [failed[place] for place in sorted(failed)])
        return [
            GenerationResult(answers[i].text, TokenCounts(output_tokens=answers[i].output_tokens))
            for i in range(len(requests))
        ]

    def _sizes(self, requests: Sequence[Instance]) -> list[int]:
        """How many images each request shows, as far as the task's columns say; no image is opened."""
        columns: dict[tuple[str, str], Any] = {}
        sizes = []
        for request in requests:
            _, _, _, doc_id, task, split = request.args
            if (task, split) not in columns:
                docs = self.task_dict[task][split]
                known = "n_images" in (getattr(docs, "column_names", None) or ())
                columns[task, split] = docs.select_columns(["n_images"])["n_images"] if known else None
            own = columns[task, split]
            sizes.append(0 if own is None else int(own[doc_id]))
        return sizes

    def _found(
        self,
        requests: Sequence[Instance],
        place: int,
        *,
        generation: Mapping[str, Any],
        failed: dict[int, str],
    ) -> Answer | _Waiting:
        """The answer that stands already (the journal's, or why there is none), else the doc as shown."""
        _, doc_to_messages, _, doc_id, task, split = requests[place].args
        doc, name = self.task_dict[task][split][doc_id], f"{task} doc {doc_id}"
        try:
            messages, pictures = take_images(doc_to_messages(doc))
            self._check_pictures(pictures)
        except Unscorable as reason:
            failed[place] = f"{name}: {reason}"
            return Answer(unscored_response(str(reason)), 0, None)
        order = shown_order(self.options.order, messages, doc, name=name, n=len(pictures))
        images = tuple(pictures if order is None else (pictures[i] for i in order))
        shown = ShownDoc(name, self.family.prompt(messages), images, doc, order)
        if self.journal is None or generate_arguments(generation)["do_sample"]:
            return _Waiting(place, shown, None)
        key = answer_key(
            prompt=shown.prompt,
            images=shown.image_hashes(),
            generation=generation,
            extra={} if self._answerer.relevance is None else self._asked(shown).columns(),
        )
        return self.journal.find(key) or _Waiting(place, shown, key)

    def _check_pictures(self, pictures: Sequence[Any]) -> None:
        for number, picture in enumerate(pictures, start=1):
            reason = self.family.unscorable(picture)
            if reason:
                raise Unscorable(f"image {number} of {len(pictures)} is {reason}")

    def _prepare(self, batch: Sequence[_Waiting]) -> Ready:
        docs = [own.doc for own in batch]
        return self._answerer.prepare([doc.images for doc in docs], [doc.prompt for doc in docs])

    def _answer_all(
        self, waiting: Sequence[_Waiting], ready: "Future[Ready]", generation: Mapping[str, Any]
    ) -> Iterator[dict[int, Answer]]:
        """Answers for a batch, in parts where memory does not hold it; each part is kept in the journal."""
        whole = len(waiting)
        while waiting:
            batch = waiting[: max(1, self.batch_size)]
            try:
                own_ready = ready.result() if len(batch) == whole else None
                replies = self._reply([own.doc for own in batch], generation, own_ready)
            except NotFinite as error:
                name = batch[int(str(error))].doc.name
                raise UserError(
                    f"the model's scores are not finite on {name} in {self.model.dtype}: use dtype=bfloat16 "
                    "or float32, or look at the checkpoint"
                ) from error
            except Exception as error:
                if not is_out_of_memory(error):
                    logger.error(f"the model failed on {', '.join(own.doc.name for own in batch)}")
                    raise
                if len(batch) == 1:
                    raise UserError(_too_large(batch[0].doc)) from error
            else:
                if self.journal is not None:
                    pairs = zip(batch, replies, strict=True)
                    self.journal.add({own.key: reply for own, reply in pairs if own.key is not None})
                yield {own.place: reply for own, reply in zip(batch, replies, strict=True)}
                waiting = waiting[len(batch) :]
                continue
            release()
            self.batch_size_per_gpu = len(batch) // 2
            print(
                f"Out of memory with {len(batch)} docs at a time ({batch[0].doc.name} and the next): "
                f"going on with {self.batch_size_per_gpu}",
                file=sys.stderr,
            )

    def _asked(self, doc: ShownDoc) -> Asked:
        source = self._answerer.relevance
        return doc.asked(needs_question=source is not None and bool(source.choice.models))

    def _reply(
        self, docs: Sequence[ShownDoc], generation: Mapping[str, Any], ready: Ready | None
    ) -> list[Answer]:
        asked = [] if self._answerer.relevance is None else [self._asked(doc) for doc in docs]
        images, prompts = [doc.images for doc in docs], [doc.prompt for doc in docs]
        return self.reply(images, prompts, generation, asked=asked, ready=ready)

    def reply(
        self,
        images: Sequence[Sequence[Any]],
        prompts: Sequence[str],
        generation: Mapping[str, Any],
        **options: Any,
    ) -> list[Answer]:
        """Answers for one batch; see `Answerer.reply`."""
        return self._answerer.reply(images, prompts, generation, **options)

    def _tell(
        self, requests: Sequence[Instance], answers: Mapping[int, Answer], failed: Sequence[str]
    ) -> None:
        """Say what became of the docs, and announce what the intervention did."""
        records: dict[DocKey, Mapping[str, Any]] = {
            (request.args[4], request.args[3]): answers[i].record or {} for i, request in enumerate(requests)
        }
        effects = summarize_effects(list(from_all_processes(records).values()))
        announce_effects(**effects)
        if self.journal is not None and self.journal.reused:
            print(
                f"{self.journal.reused} of {len(requests)} answers stood in the journal "
                f"{self.journal.folder} (journal=off asks the model anew)",
                file=sys.stderr,
            )
        edits = effects.get("edits", {})
        if edits.get("docs_unchanged"):
            ungrounded = edits["docs_without_grounded"] or 0
            print(
                f"mask={self.options.mask} changed nothing in {edits['docs_unchanged']} of {edits['docs']} "
                f"docs: {edits['docs_without_sinks']} have no sinks, {ungrounded} no grounded tokens",
                file=sys.stderr,
            )
        if self.journal is not None and self.journal.damaged:
            print(f"{self.journal.damaged} damaged lines of the journal were ignored", file=sys.stderr)
        if failed:
            print(f"{len(failed)} of {len(requests)} docs are unscored:", file=sys.stderr)
            for line in failed:
                print(f"  {line}", file=sys.stderr)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not offered: MIMIC's answers are open-ended (METHODS 2)."""
        raise UserError("the *_mask models answer by generation; this task asks for log-likelihoods")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered."""
        raise UserError("the *_mask models answer in one round; this task asks for several")


def _by_settings(requests: Sequence[Instance]) -> list[tuple[dict[str, Any], list[int]]]:
    """The requests' positions, grouped by generation settings."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        groups[json.dumps(_settings(request), sort_keys=True, default=str)].append(i)
    return [(_settings(requests[members[0]]), members) for members in groups.values()]


def _settings(request: Instance) -> dict[str, Any]:
    """A request's generation settings; a task of ours that sets no stop has none (METHODS 2.1)."""
    settings, task = dict(request.args[2]), request.args[4]
    ours = str(task).startswith("mimic_") and settings.get("until") == UPSTREAMS_STOP
    return {**settings, "until": []} if ours else settings


def _too_large(doc: ShownDoc) -> str:
    return (
        f"out of memory with {doc.name} alone ({len(doc.images)} images): use another device, a smaller "
        "dtype, pool=2 or more, or docs of fewer images"
    )
