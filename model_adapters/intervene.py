"""An intervention on a model that the user loaded, as a context manager (the Python API).

Beside the adapters of lmms-eval, which load a model and answer tasks: here the model, the processor and the
loop are the user's. A forward pre-hook of the model works out the layouts from each call's `input_ids`, so
batches, padding on either side, `generate` and training steps work alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.assembly import (
    check_delimiters,
    delimiters_of,
    find_sinks,
    masked_layers,
    relevance_source,
)
from model_adapters.effects import summarize_effects
from model_adapters.engine import IMPLEMENTATION, Engine, attach, decoder_layers, register
from model_adapters.families import FAMILIES, family_of
from model_adapters.families.base import Family
from model_adapters.hf import evidence
from model_adapters.interventions.base import Relevance
from model_adapters.interventions.options import ROLES
from model_adapters.interventions.record import EditRecord
from model_adapters.layers import format_layers
from model_adapters.layout import Layout
from model_adapters.options import AdapterOptions
from model_adapters.passes import has_several
from model_adapters.relevance.attention import text_attention_of_call
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource

_OF_COMMAND = ("pretrained", "journal", "pool", "feature_cache", "order", "dtype", "device", "device_map",
               "tp_plan", "peft", "batch_size", "min_pixels", "max_pixels", "max_tiles",
               "image_size", "tuned")  # fmt: skip
"""Arguments of ``--model_args`` that say how the command loads and runs a model: the user's part here."""
_ATTENTION = "_attn_implementation_internal"
_TWO = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "?"}]}]


class Intervention:
    """What `intervene` yields.

    Attributes:
        queries: question and pictures of each row of the coming batch, for a source of relevance that needs
            them; set it before each call with another batch.
        layouts: of the last prompt, one for each row; empty before the first.
    """

    def __init__(
        self,
        model: Any,
        family: Family,
        engine: Engine,
        *,
        relevance: RelevanceSource | None,
        queries: Sequence[Query],
        record: bool,
    ) -> None:
        self.queries = tuple(queries)
        self.layouts: tuple[Layout, ...] = ()
        self._model = model
        self._family = family
        self._engine = engine
        self._relevance = relevance
        self._keeps_record = record
        self._records: list[EditRecord] = []
        self._watching = False
        self._generating: dict[str, Any] | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What the intervention did in all prompts so far: ``edits`` as in a run's record (docs/models.md).

        Raises:
            UserError: `intervene` was not called with ``record=True``.
        """
        if not self._keeps_record:
            raise UserError("there is no record of edits: call intervene(..., record=True)")
        return summarize_effects([{"edits": sums} for record in self._records for sums in record.docs()])

    def before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model's forward pre-hook: a prompt announces its layouts, a generated token changes nothing."""
        handle = attach(self._model)
        if self._watching or handle.owner is not self:
            return
        ids = kwargs.get("input_ids", args[0] if args else None)
        cached = _cached_tokens(kwargs.get("past_key_values"))
        if ids is not None and ids.shape[1] == 1 and cached:
            return
        if cached:
            raise UserError(
                "intervene: a prompt in several pieces (chunked prefill, assisted decoding) is not supported"
            )
        if ids is None:
            raise UserError(
                "intervene: the model was called without input_ids, which say where its images are"
            )
        given = {**kwargs, "input_ids": ids} if self._generating is None else self._generating
        if given["input_ids"].shape[1] != ids.shape[1]:
            raise UserError(
                "intervene: generate(use_cache=False) runs the prompt and all generated tokens again at each "
                "token, which is not supported: leave use_cache out"
            )
        inputs = _with_attention_mask(given)
        layouts = layouts_of(self._family, inputs)
        copies = len(ids) // len(layouts)  # of each row, for beams and several sequences
        self.layouts = tuple(layout for layout in layouts for _ in range(copies))
        relevance = self._relevance_of(inputs, layouts, copies)
        record = None
        if self._keeps_record and self._engine.intervention.recorded:
            record = EditRecord(len(self.layouts))
            self._records.append(record)
        self._engine.start(
            self._model,
            self.layouts,
            relevance=relevance,
            record=record,
            queries=self._queries(copies),
            delimiters=delimiters_of(
                self._engine.intervention, self._family, self.layouts, self._model.device
            ),
        )

    def _queries(self, copies: int) -> tuple[Query, ...]:
        """`queries`, each row `copies` times, for an intervention that needs them.

        Raises:
            UserError: another number of them than rows.
        """
        intervention = self._engine.intervention
        rows = len(self.layouts) // copies
        if ROLES in intervention.needs and len(self.queries) != rows:
            raise UserError(
                f"intervene: mask={intervention.name} needs the boxes of each row: give queries= with {rows} "
                f"mimic_eval.Query, got {len(self.queries)}"
            )
        return tuple(query for query in self.queries for _ in range(copies))

    def after(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """The model's forward hook: a changed layer whose attention did not come through us is no result."""
        handle = attach(self._model)
        if self._watching or handle.owner is not self or handle.run is None:
            return
        missed = sorted(self._engine.layers - handle.run.attended.keys())
        if missed:
            raise UserError(
                f"intervene: layers {format_layers(missed)} of {type(self._model).__name__} have no softmax "
                "attention that can be changed: choose others by layers="
            )

    @contextmanager
    def generating(self) -> Iterator[None]:
        """While it is entered, `generate` keeps its inputs: it encodes pictures before the prompt runs."""
        before = self._model.__dict__.get("generate")
        generate = self._model.generate

        def keeping(inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
            named = {"input_ids": inputs, **kwargs} if inputs is not None else dict(kwargs)
            self._generating = named if named.get("input_ids") is not None else None
            try:
                return generate(inputs, *args, **kwargs)
            finally:
                self._generating = None

        self._model.generate = keeping
        try:
            yield
        finally:
            del self._model.generate
            if before is not None:
                self._model.generate = before

    def _relevance_of(
        self, inputs: Mapping[str, Any], layouts: Sequence[Layout], copies: int
    ) -> Relevance | None:
        """The relevance of a prompt, from a first pass or from `queries`, each row `copies` times."""
        source = self._relevance
        if source is None:
            return None
        if len(self.queries) != len(layouts):
            raise UserError(
                f"intervene: relevance={source.name} needs the pictures of each row: give queries= with "
                f"{len(layouts)} mimic_eval.Query, got {len(self.queries)}"
            )
        attention = None
        if source.needs_attention:
            self._watching = True
            try:
                attention = text_attention_of_call(self._model, inputs, layouts)
            finally:
                self._watching = False
        places = self._family.places(inputs, [query.images for query in self.queries])
        of_rows = source.relevance(
            self.queries, places, layouts, attention=attention, device=self._model.device
        )
        return Relevance(*(x.repeat_interleave(copies, dim=0) for x in of_rows))


@contextmanager
def intervene(
    model: Any,
    processor: Any,
    *,
    mask: str = "block",
    queries: Sequence[Query] = (),
    record: bool = False,
    **arguments: Any,
) -> Iterator[Intervention]:
    """Run an intervention in the decoder of a loaded model while the context is entered.

    The model attends as before when it is left. Contexts nest: the innermost one rules. The backward pass of
    a training step belongs inside.

    Args:
        model: of transformers, loaded as the user likes; under PEFT too.
        processor: the model's.
        mask: the intervention, as in ``--model_args``.
        queries: question and pictures of each row of the first batch, for `relevance` from pictures or boxes.
        record: keep what the intervention did (`Intervention.record`).
        **arguments: of the mask, with the names, values and defaults of ``--model_args`` (docs/models.md):
            ``layers``, ``prefix``, ``tau``, ``relevance``, ... Numbers and bools may be given as such.

    Raises:
        UserError: an argument, a model or a call that does not fit, in one line.
    """
    for name in arguments:
        if name in _OF_COMMAND:
            raise UserError(
                f"{name}= is for the command, which loads a model; intervene takes a loaded model"
            )
    options = AdapterOptions.parse({"mask": mask, **arguments})
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    register()
    family = _family(processor, base)
    options.mask.check(causal=not family.by_evidence)
    intervention, text = options.intervention(), base.config.get_text_config()
    if has_several(intervention.passes):
        raise UserError(
            f"mask={mask} answers a doc in several passes over other pictures or orders, and with intervene "
            f"the batches are yours: run it by the command, lmms_eval --model_args mask={mask}"
        )
    check_delimiters(intervention, family)
    depth = len(decoder_layers(base))
    layers = masked_layers(options, depth)
    intervention.check_decoder(layers=layers, depth=depth, heads=text.num_attention_heads)
    engine = Engine(
        intervention,
        layers,
        find_sinks=find_sinks(options, base, intervention),
    )
    run = Intervention(
        base,
        family,
        engine,
        relevance=relevance_source(options, base.device, type(family)),
        queries=queries,
        record=record,
    )
    with _attending(base), run.generating():
        handle = attach(base)
        outer, handle.owner, before = handle.owner, run, handle.run
        hooks = [
            *engine.watch(base),
            base.register_forward_pre_hook(run.before, with_kwargs=True),
            base.register_forward_hook(run.after, with_kwargs=True),
        ]
        try:
            yield run
        finally:
            for hook in hooks:
                hook.remove()
            handle.owner, handle.run = outer, before


def layouts_of(family: Family, inputs: Mapping[str, Any]) -> tuple[Layout, ...]:
    """The layouts of a batch, from the processor's output alone.

    Raises:
        UserError: the image tokens do not add up.
    """
    try:
        layouts: tuple[Layout, ...] = family.layouts(inputs, family.image_counts(inputs))
    except ValueError as error:
        raise UserError(f"intervene: {error}") from error
    return layouts


def layout(processor: Any, inputs: Mapping[str, Any], model: Any = None) -> tuple[Layout, ...]:
    """Where the images, the text and the padding of each row of a batch are.

    Args:
        processor: of a supported family.
        inputs: the processor's output, padded on either side.
        model: the processor's; needed for a type without a family of its own (`hf_mask`).

    Raises:
        UserError: an unknown processor, or image tokens that do not add up.
    """
    family = family_of(processor) if model is None else _family(processor, model)
    return layouts_of(family, _with_attention_mask(inputs))


def _family(processor: Any, model: Any) -> Family:
    """The family of a model: of our table, else by the evidence that `hf_mask` takes.

    Raises:
        UserError: enough of the model cannot be established, or its images need more than the tokens.
    """
    if model.config.model_type in FAMILIES:
        return family_of(processor, model)
    from model_adapters.hf import HfFamily

    side = processor.tokenizer.padding_side
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = [(config, getattr(config, _ATTENTION, None)) for config in configs.values()]
    try:
        family = HfFamily.around(processor, model, pretrained=type(model).__name__)
        made = family.prepare([evidence.pictures(2)], [family.prompt(_TWO)])
        if family.layouts(dict(made.inputs), family.image_counts(made.inputs)) != made.layouts:
            raise UserError(
                f"intervene: the images of a prompt of {type(model).__name__} cannot be told apart by their "
                "tokens alone: use the command's hf_mask, which has the pictures"
            )
    finally:
        processor.tokenizer.padding_side = side
        for config, name in before:
            setattr(config, _ATTENTION, name)
    return family


def _with_attention_mask(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with a mask of ones where they have none."""
    given = dict(inputs)
    if given.get("attention_mask") is None:
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    return given


def _cached_tokens(cache: Any) -> int:
    """Tokens that a KV cache holds; 0 for none."""
    return 0 if cache is None else int(cache.get_seq_length())


@contextmanager
def _attending(model: Any) -> Iterator[None]:
    """Our attention in the decoder, and what was there before afterwards."""
    configs = {name: getattr(model.config, name) for name in model.config.sub_configs}
    before = {name: config._attn_implementation for name, config in configs.items() if config is not None}
    try:
        model.set_attn_implementation({**before, "text_config": IMPLEMENTATION})
    except (ValueError, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"intervene: {type(model).__name__} takes no other attention ({line})") from error
    if model.config.get_text_config()._attn_implementation != IMPLEMENTATION:
        raise UserError(f"intervene: the decoder of {type(model).__name__} takes no other attention")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
