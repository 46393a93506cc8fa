"""The seam with transformers: an attention function registered by name, and what it needs to know.

`generate` refuses arguments it does not know, so the layouts of a batch reach the attention function by a
context: ``with engine.running(layouts): model.generate(...)``. No N x N mask is built anywhere.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from model_adapters.attention import causal_prefill, decode_step
from model_adapters.interventions import Intervention
from model_adapters.layout import Layout

IMPLEMENTATION = "mimic"
"""The name under which transformers finds the attention function (`attn_implementation`)."""

_running: ContextVar["tuple[Engine, tuple[Layout, ...]] | None"] = ContextVar("mimic_engine", default=None)


class Engine:
    """Runs one intervention in some layers of a decoder, and ordinary causal attention in the others.

    Args:
        intervention: what happens in the changed layers.
        layers: the changed layers, from 0.
    """

    def __init__(self, intervention: Intervention, layers: frozenset[int]) -> None:
        self.intervention = intervention
        self.layers = layers

    @contextmanager
    def running(self, layouts: Sequence[Layout]) -> Iterator[None]:
        """While it is entered, a model loaded with `IMPLEMENTATION` attends as this engine says.

        Args:
            layouts: one for each row of the batch, all of the same length.
        """
        token = _running.set((self, tuple(layouts)))
        try:
            yield
        finally:
            _running.reset(token)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layouts: tuple[Layout, ...],
        *,
        layer: int,
        scale: float,
    ) -> Tensor:
        """Attention of one layer, prompt or generated token.

        Args:
            query: (B, H, T, D), T = N for the prompt and 1 for a generated token.
            key: (B, KV, S, D).
            value: (B, KV, S, D).
            layouts: B layouts of length N.
            layer: from 0.
            scale: factor on the scores.

        Returns:
            (B, H, T, D).

        Raises:
            RuntimeError: the prompt comes in pieces, or the batch is not the one that was announced.
        """
        prompt = layouts[0].length
        if query.shape[0] != len(layouts):
            raise RuntimeError(f"{len(layouts)} layouts were announced for a batch of {query.shape[0]}")
        if key.shape[2] > prompt and query.shape[2] == 1:
            return decode_step(query, key, value, layouts, scale=scale)
        if not query.shape[2] == key.shape[2] == prompt:
            raise RuntimeError(
                f"the prompt of {prompt} tokens must come whole, got {query.shape[2]} queries "
                f"on {key.shape[2]} keys"
            )
        if layer in self.layers:
            return self.intervention.prefill(query, key, value, layouts, scale=scale)
        return causal_prefill(query, key, value, layouts, scale=scale)


def register() -> None:
    """Make `IMPLEMENTATION` known to transformers; harmless when repeated."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The engine knows the padding from the layouts."""


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function; returns (B, T, H, D)."""
    running = _running.get()
    if running is None:
        raise RuntimeError("a model with mimic attention was called outside of Engine.running")
    if sliding_window is not None and key.shape[2] > sliding_window:
        raise RuntimeError(f"a decoder with a sliding window of {sliding_window} tokens is not supported")
    engine, layouts = running
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = engine.attend(query, key, value, layouts, layer=int(module.layer_idx), scale=scale)  # type: ignore[arg-type]
    return out.transpose(1, 2).contiguous(), None
