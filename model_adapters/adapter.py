"""The lmms-eval models: a family, an engine, and answers for a list of requests."""

import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from mimic_eval.records import (
    UserError,
    announce_cached,
    announce_effects,
    announce_parameters,
    announce_run,
    announce_work,
    announced_system_instruction,
    extend_run,
)
from mimic_eval.records.processes import follows, rank, run_together, together, world_size
from model_adapters.answering import Answerer
from model_adapters.assembly import (
    changed_layers,
    check_delimiters,
    chosen_device,
    chosen_dtype,
    feature_cache,
    find_sinks,
    relevance_source,
)
from model_adapters.chat import ChatTemplated
from model_adapters.effects import DocKey, from_all_processes, summarize_effects, summarize_work
from model_adapters.engine import Engine
from model_adapters.families.base import Family
from model_adapters.generation import (
    request_settings,
    take_defaults,
    tell_defaults,
    unused_settings,
    used_settings,
)
from model_adapters.identity import code_hash, config_hash, processor_hash, weights_hash
from model_adapters.image_marks import check_rule, image_tokens
from model_adapters.journal import Answer, Journal
from model_adapters.layers import format_layers
from model_adapters.loading import checkpoint_note, load_family, resolve_checkpoint
from model_adapters.notices import (
    say_effects,
    say_marks,
    say_opened,
    say_reused,
    say_tuned,
    say_unscored,
    stored_answers,
)
from model_adapters.options import OF_LOADING, AdapterOptions, parse_arg_string
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource
from model_adapters.request_loop import RequestLoop, shown_pictures
from model_adapters.sinks import model_config
from model_adapters.tensor_parallel import SharedJournal, of_all_processes
from model_adapters.vision_limits import apply_limits


class MaskedModel(ChatTemplated, lmms):  # type: ignore[misc]
    """A chat model with an intervention in its decoder.

    Attributes:
        families: whose checkpoints it takes; without ``pretrained=`` an embedded one of the first.
        settings: what it answers with, as in the run's record, without what belongs to the machine.
        corpus: the docs that the sinks were calibrated on, or None for a mask that needs none.
        spent: seconds of the last `generate_until`, and how many docs were answered in them; the others'
            answers were in the journal.

    Args:
        **arguments: see `AdapterOptions`.

    Raises:
        UserError: an argument or a checkpoint that does not fit.
    """

    is_simple = False
    families: ClassVar[tuple[type[Family], ...]]
    spent: tuple[float, int] = (0.0, 0)

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        options = AdapterOptions.parse(arguments)
        options.mask.check(causal=self._causal)
        general = options.general
        pretrained = resolve_checkpoint(general.pretrained, default=self.families[0].model_type)
        self._note = checkpoint_note(pretrained)
        if general.pretrained is None:
            print(
                f"No pretrained= given: the embedded reference checkpoint ({self._note['description']})",
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
            tp_plan=general.tp_plan,
        )
        self._tp_plan = general.tp_plan
        if general.tp_plan:
            self._rank = rank()
            run_together()
        self.base = self.model.get_base_model() if general.peft else self.model
        apply_limits(self.family, self.base, options.limits())
        self._unused = take_defaults(self.base, self.family.processor.tokenizer)
        tell_defaults(pretrained, self._unused)
        self.system_instruction = announced_system_instruction()
        self._features = feature_cache(options, self.family)
        self._hooks: list[Any] = []
        self.batch_size_per_gpu = general.batch_size
        self._set_up(options)

    def change(self, **arguments: Any) -> None:
        """Answer with another intervention, or other arguments of it, from now on; the model stays loaded.

        Args:
            **arguments: all of them, as for the class.

        Raises:
            UserError: an argument that does not fit, or one of how the model is loaded that differs.
        """
        options = AdapterOptions.parse(arguments)
        options.mask.check(causal=self._causal)
        for name in OF_LOADING:
            before, now = getattr(self.options.general, name), getattr(options.general, name)
            if before != now:
                raise UserError(
                    f"{name}={now} cannot be changed while the model is loaded with {name}={before}"
                )
        self._set_up(options)

    @property
    def _causal(self) -> bool:
        """Whether the decoder is known to be causal before it is loaded."""
        return not any(family.by_evidence for family in self.families)

    def _set_up(self, options: AdapterOptions) -> None:
        """Engine, answerer and journal for the options; they are announced.

        Raises:
            UserError: the model has not what the options need, or is not the one that ``tuned=`` is for.
        """
        general = options.general
        check_rule(general.image_marks, image_tokens(self.family.processor), name=self.family.name)
        if options.tuning is not None:
            options.tuning.check_model(
                weights=self.weights,
                config=model_config(self.base),
                dtype=str(self.model.dtype).removeprefix("torch."),
                model=type(self).__name__,
            )
        text = self.model.config.get_text_config()
        depth = text.num_hidden_layers
        intervention = options.intervention()
        check_delimiters(intervention, self.family)
        layers = changed_layers(options, self.family, depth)
        intervention.check_decoder(layers=layers, depth=depth, heads=text.num_attention_heads)
        relevance = relevance_source(options, self._device, type(self.family))
        sinks = find_sinks(options, self.model, intervention, self.family)
        for hook in self._hooks:
            hook.remove()
        self.corpus = None if sinks is None else sinks.calibration.corpus
        self.engine = Engine(intervention, layers, find_sinks=sinks)
        self._hooks = self.engine.watch(self.model)
        self.answerer = Answerer(
            self.model,
            self.family,
            self.engine,
            pool=general.pool,
            features=self._features,
            relevance=relevance,
            longest=getattr(text, "max_position_embeddings", None),
        )
        self.options = options
        settings = {
            "family": self.family.model_type,
            "mask": intervention.name,
            "layers": format_layers(layers),
            "depth": depth,
            **intervention.settings(),
            **({} if sinks is None else sinks.settings()),
            **({} if relevance is None else relevance.settings()),
            "pool": general.pool,
            **options.limits(),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self._device.type,
        }
        self.settings = {**settings, "order": general.order}
        if options.tuning is not None and self.rank == 0:
            say_tuned(options.tuning, self.settings)
        self.journal: Journal | None = None
        if general.journal:
            identity = self._identity(settings, relevance)
            self.journal = SharedJournal(identity) if general.tp_plan else Journal(None, identity)
            if not follows():
                say_opened(self.journal)
        announce_cached(self._stored)
        announce_run(
            checkpoint=general.pretrained or f"embedded:{self.families[0].model_type}",
            checkpoint_kind=self._note.get("kind"),
            peft=general.peft,
            **settings,
            order=general.order,
            image_marks=general.image_marks,
            batch_size=general.batch_size,
            kernel=self._kernel(),
            end_tokens=self.base.generation_config.eos_token_id,
            **({} if sinks is None else {"calibration": sinks.calibration.corpus.record()}),
            **({"generation_config_unused": self._unused} if self._unused else {}),
            **({"system_instruction": self.system_instruction} if self.system_instruction else {}),
            **({} if general.device_map is None else {"device_map": general.device_map}),
            **({} if general.tp_plan is None else {"tp_plan": f"auto, {world_size()} processes"}),
            **({} if options.tuning is None else {"tuned": options.tuning.summary()}),
        )
        if not self._tp_plan:  # a process has parts of them
            announce_parameters(sum(weights.numel() for weights in self.model.parameters()))

    @cached_property
    def weights(self) -> str:
        """`weights_hash` of the model; of one that several processes hold together, of all its parts."""
        weights = weights_hash(self.model)
        return of_all_processes(weights) if self._tp_plan else weights

    @cached_property
    def _as_loaded(self) -> dict[str, str]:
        """The hashes of the model's config and its processor, which use changes (the side of padding)."""
        return {"config": config_hash(self.model), "processor": processor_hash(self.family.processor)}

    def _stored(self) -> str:
        """What a stopped run leaves, in one sentence."""
        return stored_answers(self.journal)

    def _kernel(self) -> str:
        """What computes the prompt's attention in the changed layers."""
        config = self.model.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        shape = (heads, getattr(config, "num_key_value_heads", None) or heads, width)
        return self.engine.intervention.kernel(self.model.device, self.model.dtype, *shape)

    def _identity(self, settings: Mapping[str, Any], relevance: RelevanceSource | None) -> dict[str, Any]:
        """Everything that all answers of this model depend on, for the journal."""
        packages = ("torch", "transformers", *(("peft",) if hasattr(self.model, "peft_config") else ()))
        return {
            "settings": settings,
            "weights": self.weights,
            **self._as_loaded,
            "outside_models": None if relevance is None else relevance.identities(),
            "code": code_hash(),
            "versions": {name: version(name) for name in packages},
        }

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "MaskedModel":
        """See upstream's `lmms`; a malformed argument is refused in one line."""
        return cls(**parse_arg_string(arg_string, additional_config or {}))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Rows at a time: docs, or passes of a mask that has several for each; less after memory ran out."""
        return self.batch_size_per_gpu

    @batch_size.setter
    def batch_size(self, rows: int) -> None:
        self.batch_size_per_gpu = rows

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer requests, in their order; see `RequestLoop`."""
        if self.options.tuning is not None:
            self.options.tuning.check_pictures(shown_pictures(self, requests))
        self._tell_settings(requests)
        loop, start = RequestLoop(self, requests), time.perf_counter()
        loop.run()
        self.spent = time.perf_counter() - start, loop.made
        self._tell(requests, loop)
        return [
            GenerationResult(answer.text, TokenCounts(output_tokens=answer.output_tokens))
            for _, answer in sorted(loop.answers.items())
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

    def reply(
        self,
        images: Sequence[Sequence[Any]],
        prompts: Sequence[str],
        generation: Mapping[str, Any],
        *,
        queries: Sequence[Query] = (),
    ) -> list[Answer]:
        """Answers for one batch; see `Answerer.reply`."""
        return self.answerer.reply(images, prompts, generation, queries=queries)

    def _tell(self, requests: Sequence[Instance], loop: RequestLoop) -> None:
        """Say what became of the docs, and announce what the intervention did."""
        failed = [loop.failed[index] for index in sorted(loop.failed)]
        records: dict[DocKey, Mapping[str, Any]] = {
            (request.args[4], request.args[3]): {
                **(loop.answers[i].record or {}),
                **({"image_marks": loop.marks[i]._asdict()} if i in loop.marks else {}),
                **({"calibrated_on": True} if i in loop.calibrated_on else {}),
            }
            for i, request in enumerate(requests)
        }
        work: dict[DocKey, Mapping[str, int]] = {
            (request.args[4], request.args[3]): {
                **answer.work,
                "output_tokens": answer.output_tokens,
            }
            for request, answer in ((one, loop.answers[i]) for i, one in enumerate(requests))
            if answer.work is not None
        }
        announce_work(**summarize_work(list(from_all_processes(work).values())))
        effects = summarize_effects(list(from_all_processes(records).values()))
        if together() and "edits" in effects:
            effects["edits"]["heads"] = f"those of the first of {world_size()} processes"
        announce_effects(**effects)
        if follows():
            return
        if self.journal is not None:
            say_reused(self.journal, docs=len(requests))
        intervention = self.engine.intervention
        say_effects(intervention.name, effects, intervention.describe)
        say_marks(self.options.general.image_marks, effects)
        say_unscored(failed, docs=len(requests))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not offered: MIMIC's answers are open-ended (METHODS 2)."""
        raise UserError("the *_mask models answer by generation; this task asks for log-likelihoods")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered."""
        raise UserError("the *_mask models answer in one round; this task asks for several")
