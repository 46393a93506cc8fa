"""The lmms-eval models: a family, an engine, and answers for a list of requests."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger

from mimic_eval.records import (
    Unscorable,
    UserError,
    announce_cached,
    announce_effects,
    announce_run,
    announced_system_instruction,
    extend_run,
    unscored_response,
)
from model_adapters.ahead import ahead, grouped
from model_adapters.answering import Answerer, NotFinite, Ready
from model_adapters.assembly import (
    changed_layers,
    chosen_device,
    chosen_dtype,
    feature_cache,
    find_sinks,
    relevance_source,
)
from model_adapters.chat import ChatTemplated
from model_adapters.effects import DocKey, from_all_processes, summarize_effects
from model_adapters.engine import Engine
from model_adapters.families.base import Family
from model_adapters.generation import (
    by_settings,
    generate_arguments,
    request_settings,
    take_defaults,
    tell_defaults,
    unused_settings,
    used_settings,
)
from model_adapters.identity import code_hash, config_hash, processor_hash, weights_hash
from model_adapters.journal import Answer, Journal, answer_key
from model_adapters.layers import format_layers
from model_adapters.loading import checkpoint_place, load_family, own_note
from model_adapters.memory import is_out_of_memory, release
from model_adapters.notices import (
    kept,
    say_effects,
    say_opened,
    say_read_only,
    say_reused,
    say_unscored,
    too_large,
)
from model_adapters.options import AdapterOptions, parse_arg_string
from model_adapters.picture import as_pictures
from model_adapters.relevance.asked import Asked
from model_adapters.relevance.sources import RelevanceSource
from model_adapters.shown import ShownDoc, shown_order, take_images


class _Waiting(NamedTuple):
    """A doc without an answer: its place among the requests, and its key in the journal."""

    place: int
    doc: ShownDoc
    key: str | None


class MaskedModel(ChatTemplated, lmms):  # type: ignore[misc]
    """A chat model with an intervention in its decoder.

    Attributes:
        families: whose checkpoints it takes; without ``pretrained=`` an embedded one of the first.

    Args:
        **arguments: see `AdapterOptions`.

    Raises:
        UserError: an argument or a checkpoint that does not fit.
    """

    is_simple = False
    families: ClassVar[tuple[type[Family], ...]]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.options = AdapterOptions.parse(arguments)
        general = self.options.general
        pretrained = checkpoint_place(general.pretrained, default=self.families[0].model_type)
        note = own_note(pretrained)
        if general.pretrained is None:
            print(
                f"No pretrained= given: the embedded reference checkpoint ({note['description']})",
                file=sys.stderr,
            )
        self._device = chosen_device(general.device)
        self.model, self.family = load_family(
            self.families[0],
            pretrained,
            others=self.families[1:],
            dtype=chosen_dtype(general.dtype, self._device),
            device=str(self._device),
            peft=general.peft,
            device_map=general.device_map,
        )
        base = self.model.get_base_model() if general.peft else self.model
        unused = take_defaults(base, self.family.processor.tokenizer)
        tell_defaults(pretrained, unused)
        text = self.model.config.get_text_config()
        depth = text.num_hidden_layers
        self._system = announced_system_instruction()
        intervention = self.options.intervention()
        layers = changed_layers(self.options, self.family, depth)
        sinks = find_sinks(self.options, self.model, intervention)
        self.engine = Engine(intervention, layers, find_sinks=sinks)
        self.engine.watch(self.model)
        relevance = relevance_source(self.options, self._device, type(self.family))
        self._answerer = Answerer(
            self.model,
            self.family,
            self.engine,
            pool=general.pool,
            features=feature_cache(self.options, self.family),
            relevance=relevance,
            longest=getattr(text, "max_position_embeddings", None),
        )
        self.batch_size_per_gpu = general.batch_size
        settings = {
            "family": self.family.model_type,
            "mask": intervention.name,
            "layers": format_layers(layers),
            "depth": depth,
            **intervention.settings(),
            **({} if sinks is None else sinks.settings()),
            **({} if relevance is None else relevance.settings()),
            "pool": general.pool,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self._device.type,
        }
        self.journal: Journal | None = None
        if general.journal:
            self.journal = Journal(None, self._identity(settings, relevance))
            say_opened(self.journal)
        announce_cached(self._kept)
        announce_run(
            checkpoint=general.pretrained or f"embedded:{self.families[0].model_type}",
            checkpoint_kind=note.get("kind"),
            peft=general.peft,
            **settings,
            order=general.order,
            batch_size=general.batch_size,
            kernel=self._kernel(),
            end_tokens=base.generation_config.eos_token_id,
            **({"generation_config_unused": unused} if unused else {}),
            **({"system_instruction": self._system} if self._system else {}),
            **({} if general.device_map is None else {"device_map": general.device_map}),
        )

    def _kept(self) -> str:
        """What a stopped run leaves, in one sentence."""
        return kept(self.journal)

    def _kernel(self) -> str:
        """What computes the prompt's attention in the changed layers."""
        config = self.model.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        own = (heads, getattr(config, "num_key_value_heads", None) or heads, width)
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

        self._tell_settings(requests)
        answers: dict[int, Answer] = {}
        failed: dict[int, str] = {}
        sizes = self._sizes(requests)
        with (
            tqdm(total=len(requests), desc="Answering", unit="doc", disable=self.rank != 0) as bar,
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread,
        ):
            for generation, members in by_settings(requests):
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

    def _tell_settings(self, requests: Sequence[Instance]) -> None:
        """Say which settings go unused, and enter those that are used, by task, in the run's record."""
        used: dict[str, dict[str, Any]] = {}
        said: set[str] = set()
        for request in requests:
            settings, task = request_settings(request), request.args[4]
            if task in used:
                continue
            used[task] = used_settings(settings)
            line = unused_settings(settings)
            if line and line not in said and self.rank == 0:
                said.add(line)
                print(line, file=sys.stderr)
        extend_run(generation=used)

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
        order = shown_order(self.options.general.order, messages, doc, name=name, n=len(pictures))
        images = as_pictures(pictures if order is None else [pictures[i] for i in order])
        shown = ShownDoc(name, self.family.prompt(messages, system=self._system), images, doc, order)
        if self.journal is None or generate_arguments(generation)["do_sample"]:
            return _Waiting(place, shown, None)
        key = answer_key(
            prompt=shown.prompt,
            images=shown.image_hashes(),
            generation=used_settings(generation),
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
        return self._answerer.prepare([doc.pictures for doc in docs], [doc.prompt for doc in docs])

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
                    raise UserError(too_large(batch[0].doc)) from error
            else:
                self._keep(batch, replies)
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

    def _keep(self, batch: Sequence[_Waiting], replies: Sequence[Answer]) -> None:
        """Put answers in the journal; that it can only be read is said once."""
        if self.journal is None:
            return
        known = self.journal.read_only
        pairs = zip(batch, replies, strict=True)
        self.journal.add({own.key: reply for own, reply in pairs if own.key is not None})
        if self.journal.read_only and not known:
            say_read_only(self.journal)

    def _asked(self, doc: ShownDoc) -> Asked:
        source = self._answerer.relevance
        return doc.asked(needs_question=source is not None and bool(source.choice.models))

    def _reply(
        self, docs: Sequence[ShownDoc], generation: Mapping[str, Any], ready: Ready | None
    ) -> list[Answer]:
        asked = [] if self._answerer.relevance is None else [self._asked(doc) for doc in docs]
        images, prompts = [doc.pictures for doc in docs], [doc.prompt for doc in docs]
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
        if self.journal is not None:
            say_reused(self.journal, docs=len(requests))
        say_effects(self.engine.intervention.name, effects)
        say_unscored(failed, docs=len(requests))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not offered: MIMIC's answers are open-ended (METHODS 2)."""
        raise UserError("the *_mask models answer by generation; this task asks for log-likelihoods")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered."""
        raise UserError("the *_mask models answer in one round; this task asks for several")
