"""The seam with transformers: an attention function registered by name, and what it needs to know.

`generate` refuses arguments it does not know, so the layouts of a batch hang on the attention modules of the
model: ``with engine.running(model, layouts): model.generate(...)``. The backward pass of a training belongs
inside the context: with activation checkpointing it computes attention again, maybe in another thread.
No N x N mask is built anywhere. What an intervention needs of a layer's input (sinks), and what it does to a
layer's output, is done by hooks on the decoder layers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from model_adapters.base_mask import BaseMask, base_mask
from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.options import DELIMITERS, RELEVANCE, SINKS, TEXT_SINKS
from model_adapters.interventions.record import EditRecord
from model_adapters.layer_hooks import OutputHook, SinkHook
from model_adapters.layout import Layout
from model_adapters.relevance.query import Query

IMPLEMENTATION = "mimic"
"""The name under which transformers finds the attention function (`attn_implementation`)."""

SinkFinder = Callable[[Tensor, tuple[Layout, ...], int], Tensor]
"""From a layer's input (B, N, D), the layouts and the layer to its sinks, bool (B, N) (METHODS 6); those of
text tokens too for an intervention that needs them."""


_HANDLE = "mimic_handle"
_ORDINARY = NoIntervention()


class Observer(Protocol):
    """Watches attention in some layers and changes nothing.

    Attributes:
        layers: those that it watches, from 0.
        needs: what its views must have: `options.SINKS`, or nothing.
    """

    layers: frozenset[int]
    needs: frozenset[str] = frozenset()

    def observe(
        self, query: Tensor, key: Tensor, view: LayerView, attending: Intervention, *, scale: float
    ) -> None:
        """See one layer of the prompt.

        Args:
            query: (B, H, N, D), after RoPE.
            key: (B, KV, N, D), after RoPE.
            view: the layer.
            attending: what happens in this layer, whose `weights` are those after the edit.
            scale: factor on the scores.
        """

    def observe_generated(
        self, query: Tensor, key: Tensor, view: LayerView, attending: Intervention, *, scale: float
    ) -> None:
        """See one layer of one generated token of each row; nothing unless an observer says more.

        Args:
            query: (B, H, 1, D).
            key: (B, KV, S, D), the cache.
            view: the layer as the prompt left it.
            attending: as of `observe`, with `generated_weights`.
            scale: factor on the scores.
        """
        return


@dataclass
class _Run:
    """One call of `generate`, or one training step: what the layers of a batch share.

    Attributes:
        delimiters: bool (B, N), or None for an intervention that does not ask.
        attended: the layers whose attention came through the engine so far, and whether it was that of the
            prompt when it last did.
    """

    engine: "Engine"
    layouts: tuple[Layout, ...]
    relevance: Relevance | None
    record: EditRecord | None
    queries: tuple[Query | None, ...] = ()
    delimiters: Tensor | None = None
    attended: dict[int, bool] = field(default_factory=dict)
    sinks: dict[int, Tensor] = field(default_factory=dict)
    text_sinks: dict[int, Tensor] = field(default_factory=dict)

    def view(self, layer: int, base: BaseMask | None) -> LayerView:
        """What an intervention sees of a layer.

        Args:
            layer: from 0.
            base: the base model's mask; None if it is plain causal.
        """
        return LayerView(
            self.layouts,
            layer,
            sinks=self.sinks.get(layer),
            relevance=self.relevance,
            record=self.record,
            base=base,
            queries=self.queries,
            text_sinks=self.text_sinks.get(layer),
            delimiters=self.delimiters,
        )


@dataclass
class _Handle:
    """What the attention modules of one model share.

    Attributes:
        run: the batch that the model works on; None outside of `Engine.running`.
        owner: of nested `intervene` contexts the innermost, which announces the batches; else None.
    """

    run: _Run | None = None
    owner: object | None = None


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """All layers of a model's decoder in order, for any family and under PEFT.

    Raises:
        RuntimeError: its decoder is not a stack of as many layers as its config says.
    """
    layers = list(getattr(_decoder(model), "layers", ()))
    depth = model.config.get_text_config().num_hidden_layers
    if len(layers) != depth:
        raise RuntimeError(f"the decoder has {len(layers)} layers, its config says {depth}")
    return layers


def _decoder(model: Any) -> Any:
    """The decoder of a model; a decoder itself if it is one."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    inner = getattr(decoder, "model", None)  # Llama 4 gives its decoder with the head
    return decoder if hasattr(decoder, "layers") or inner is None else inner


def attach(model: Any) -> _Handle:
    """The handle that a model's decoder shares with `Engine.running`, made at the first call.

    Attention modules beside the decoder that were given our attention name, as a vision tower is by
    `set_attn_implementation`, go back to SDPA.

    Args:
        model: loaded with `IMPLEMENTATION` in its decoder.
    """
    decoder = _decoder(model)
    handle: _Handle | None = getattr(decoder, _HANDLE, None)
    if handle is not None:
        return handle
    handle = _Handle()
    setattr(decoder, _HANDLE, handle)
    inside = set()
    for layer in decoder_layers(model):
        for module in layer.modules():
            inside.add(module)
            if hasattr(module, "layer_idx"):
                setattr(module, _HANDLE, handle)
    for module in set(model.modules()) - inside:
        config: Any = getattr(module, "config", None)
        ours = getattr(config, "_attn_implementation_internal", None) == IMPLEMENTATION
        if ours and config is not decoder.config and config is not model.config:
            config._attn_implementation_internal = "sdpa"
    return handle


class Engine:
    """Runs one intervention in some layers of a decoder, and ordinary causal attention in the others.

    Args:
        intervention: what happens in the changed layers.
        layers: the changed layers, from 0.
        find_sinks: for an intervention or an observer that needs sinks.
        observers: each watches its layers.

    Raises:
        ValueError: an intervention or an observer that needs sinks, and no way to find them.
    """

    def __init__(
        self,
        intervention: Intervention,
        layers: frozenset[int],
        *,
        find_sinks: SinkFinder | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        needs_sinks = bool({SINKS, TEXT_SINKS} & intervention.needs)
        if needs_sinks and find_sinks is None:
            raise ValueError(f"mask={intervention.name} needs `find_sinks`")
        self.intervention = intervention
        self.layers = layers
        self.observers = tuple(observers)
        seeing = [observer.layers for observer in observers if SINKS in observer.needs]
        if seeing and find_sinks is None:
            raise ValueError("an observer needs `find_sinks`")
        seeing += [layers] if needs_sinks else []
        self.sink_layers = frozenset[int]().union(*seeing)
        self.find_sinks = find_sinks if seeing else None

    @contextmanager
    def running(
        self,
        model: Any,
        layouts: Sequence[Layout],
        *,
        relevance: Relevance | None = None,
        record: EditRecord | None = None,
        queries: Sequence[Query | None] = (),
        delimiters: Tensor | None = None,
    ) -> Iterator[None]:
        """While it is entered, a model loaded with `IMPLEMENTATION` attends as this engine says.

        Args:
            model: the model, or its decoder.
            layouts: one for each row of the batch, all of the same length.
            relevance: for an intervention that needs it.
            record: of this batch, where the intervention enters what it did, or None for no record.
            queries: what the task knows of each row's doc, for an intervention that needs it.
            delimiters: bool (B, N), as `LayerView.delimiters`, for an intervention that needs them.

        Raises:
            ValueError: the intervention needs relevance or delimiters, and there are none.
        """
        handle = attach(model)
        before = handle.run
        self.start(model, layouts, relevance=relevance, record=record, queries=queries, delimiters=delimiters)
        try:
            yield
        finally:
            handle.run = before

    def start(
        self,
        model: Any,
        layouts: Sequence[Layout],
        *,
        relevance: Relevance | None = None,
        record: EditRecord | None = None,
        queries: Sequence[Query | None] = (),
        delimiters: Tensor | None = None,
    ) -> None:
        """As `running`, until another batch is announced.

        Raises:
            ValueError: the intervention needs relevance or delimiters, and there are none.
        """
        if RELEVANCE in self.intervention.needs and relevance is None:
            raise ValueError(f"mask={self.intervention.name} needs `relevance`")
        if DELIMITERS in self.intervention.needs and delimiters is None:
            raise ValueError(f"mask={self.intervention.name} needs `delimiters`")
        attach(model).run = _Run(self, tuple(layouts), relevance, record, tuple(queries), delimiters)

    def watch(self, model: Any) -> list[Any]:
        """See the inputs of layers whose sinks are needed, and changed layers' outputs; once for a model.

        Args:
            model: the model, or its decoder.

        Returns:
            The hooks, of which each can be removed.
        """
        handle, layers, hooks = attach(model), decoder_layers(model), list[Any]()
        if self.find_sinks is not None:
            for layer in sorted(self.sink_layers):
                hook = SinkHook(layer, handle, self)
                hooks.append(layers[layer].register_forward_pre_hook(hook, with_kwargs=True))
        if type(self.intervention).after_layer is not Intervention.after_layer:
            for layer in sorted(self.layers):
                hooks.append(layers[layer].register_forward_hook(OutputHook(layer, handle, self)))
        return hooks

    def attend(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Attention of one layer, prompt or generated token.

        Args:
            query: (B, H, T, D), T = N for the prompt and 1 for a generated token.
            key: (B, KV, S, D).
            value: (B, KV, S, D).
            view: the layer, with B layouts of length N.
            scale: factor on the scores.

        Returns:
            (B, H, T, D).

        Raises:
            RuntimeError: the prompt comes in pieces, or the batch is not the one that was announced.
        """
        layer, prompt = view.layer, view.layouts[0].length
        if query.shape[0] != len(view.layouts):
            raise RuntimeError(f"{len(view.layouts)} layouts were announced for a batch of {query.shape[0]}")
        attending = self.intervention if layer in self.layers else _ORDINARY
        watching = [observer for observer in self.observers if layer in observer.layers]
        if _is_generated(query, key, prompt, view.base):
            for observer in watching:
                observer.observe_generated(query, key, view, attending, scale=scale)
            return attending.decode(query, key, value, view, scale=scale)
        if not query.shape[2] == key.shape[2] == prompt:
            raise RuntimeError(
                f"chunked prefill is not supported: expected {prompt} queries and keys, got "
                f"{query.shape[2]} and {key.shape[2]}"
            )
        for observer in watching:
            observer.observe(query, key, view, attending, scale=scale)
        return attending.prefill(query, key, value, view, scale=scale)


def _is_generated(query: Tensor, key: Tensor, prompt: int, base: BaseMask | None) -> bool:
    """Whether a call of attention is that of a generated token after a prompt of so many tokens."""
    dropped = 0 if base is None else base.key_offset  # by a sliding cache
    return key.shape[2] + dropped > prompt and query.shape[2] == 1


def register() -> None:
    """Make `IMPLEMENTATION` known to transformers; harmless when repeated."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(IMPLEMENTATION, base_mask)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BaseMask | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function; returns (B, T, H, D)."""
    handle: _Handle | None = getattr(module, _HANDLE, None)
    run = None if handle is None else handle.run
    if run is None:
        raise RuntimeError("a model with mimic attention was called outside of Engine.running")
    if isinstance(attention_mask, Tensor):
        raise RuntimeError("a model with mimic attention takes a 2-D attention mask, got one that is 4-D")
    if sliding_window is not None and attention_mask is None and key.shape[2] > sliding_window:
        raise RuntimeError(f"the model's mask lacks its sliding window of {sliding_window} tokens")
    if query.dtype != value.dtype:  # a norm that is learnt in float32, in passes of 16 bits
        query, key = query.to(value.dtype), key.to(value.dtype)
    layer: int = int(module.layer_idx)  # type: ignore[arg-type]
    run.attended[layer] = not _is_generated(query, key, run.layouts[0].length, attention_mask)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = run.engine.attend(query, key, value, run.view(layer, attention_mask), scale=scale)
    return out.transpose(1, 2).contiguous(), None
