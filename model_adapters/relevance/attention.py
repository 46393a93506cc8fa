"""The model's own text-to-image attention at mid depth, from a first pass (METHODS 7, `attention`)."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from model_adapters.base_mask import BaseMask
from model_adapters.engine import Engine, Observer
from model_adapters.generation import generate_arguments
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.layout import Layout

_ROWS_AT_ONCE = 64


class TextAttention(Observer):
    """An `engine.Observer`: sums what the text after the last image gives to each visual token.

    Args:
        layer: the one that it watches, from 0.

    Attributes:
        sums: float (B, N) after a prefill: attention summed over text rows, its mean over heads; 0 at what is
            not visual. float32, or float64 for a float64 model.
    """

    def __init__(self, layer: int) -> None:
        self.layers = frozenset({layer})
        self.sums: Tensor | None = None

    def observe(
        self, query: Tensor, key: Tensor, view: LayerView, attending: Intervention, *, scale: float
    ) -> None:
        """See `engine.Observer`; the base model's attention, whatever happens in the layer."""
        self.sums = text_attention_sums(query, key, view.layouts, scale=scale, base=view.base)

    def result(self) -> Tensor:
        """The sums.

        Raises:
            RuntimeError: the layer did not run.
        """
        if self.sums is None:
            raise RuntimeError("the model's decoder did not run through the engine")
        return self.sums


def text_attention_sums(
    query: Tensor,
    key: Tensor,
    layouts: Sequence[Layout],
    *,
    scale: float,
    base: BaseMask | None = None,
) -> Tensor:
    """Attention from the text after each row's last image to its visual tokens, a few text rows at a time.

    Args:
        query: (B, H, N, D).
        key: (B, KV, N, D), H a multiple of KV.
        layouts: B layouts of length N.
        scale: factor on the scores.
        base: the base model's mask; None if it is plain causal.

    Returns:
        (B, N), see `TextAttention.sums`.
    """
    exact = torch.promote_types(query.dtype, torch.float32)
    heads, groups = query.shape[1], query.shape[1] // key.shape[1]
    sums = query.new_zeros(query.shape[0], query.shape[2], dtype=exact)
    for b, layout in enumerate(layouts):
        if not layout.images:
            continue
        total, keys = sums[b, layout.tokens], key[b, :, layout.tokens].to(exact)
        places = torch.arange(layout.padding, layout.end, device=query.device)
        for first in range(layout.images[-1].end, layout.end, _ROWS_AT_ONCE):
            rows = torch.arange(first, min(first + _ROWS_AT_ONCE, layout.end), device=query.device)
            chunk = query[b, :, rows].to(exact).reshape(keys.shape[0], groups * len(rows), -1)
            scores = (chunk @ keys.transpose(1, 2) * scale).reshape(heads, len(rows), -1)
            hidden = places[None, :] > rows[:, None] if base is None else ~base.seen(b)(rows, places)
            scores.masked_fill_(hidden, float("-inf"))
            total += scores.softmax(dim=-1).sum(dim=(0, 1)) / heads
        sums[b] *= layout.image_numbers(query.device) >= 0
    return sums


@torch.inference_mode()
def text_attention(
    model: Any,
    inputs: Mapping[str, Any],
    layouts: Sequence[Layout],
    *,
    depth: int,
    pad_token_id: int,
    softmax: frozenset[int] | None = None,
) -> Tensor:
    """One pass of the unchanged model over a batch, watched in its middle layer with softmax attention.

    Args:
        model: loaded with `engine.IMPLEMENTATION`.
        inputs: the batch, on the model's device; embeddings instead of pictures will do (pooling).
        layouts: one for each row.
        depth: layers of the decoder.
        pad_token_id: the family's.
        softmax: the layers with softmax attention, or None for all.

    Returns:
        (B, N), see `TextAttention.sums`.
    """
    watched = min(softmax or range(depth), key=lambda layer: (abs(layer - depth // 2), layer))
    watcher = TextAttention(watched)
    with Engine(NoIntervention(), frozenset(), observers=(watcher,)).running(model, layouts):
        model.generate(
            **inputs,
            **generate_arguments({"max_new_tokens": 1, "do_sample": False}),
            pad_token_id=pad_token_id,
        )
    return watcher.result()


@torch.no_grad()
def text_attention_of_call(model: Any, inputs: Mapping[str, Any], layouts: Sequence[Layout]) -> Tensor:
    """As `text_attention`, by one forward call of a model that another call is about to use.

    Args:
        model: with `engine.IMPLEMENTATION` in its decoder.
        inputs: of its forward call; what it does not take is left out.
        layouts: one for each row.
    """
    watcher = TextAttention(model.config.get_text_config().num_hidden_layers // 2)
    taken = set(inspect.signature(model.forward).parameters) - {"past_key_values", "labels"}
    given = {name: value for name, value in inputs.items() if name in taken}
    with Engine(NoIntervention(), frozenset(), observers=(watcher,)).running(model, layouts):
        model(**{**given, "use_cache": False})
    return watcher.result()


def attention_scores(sums: Tensor) -> Tensor:
    """c = log of the attention, so that pi, the softmax of c, is in proportion to the attention.

    Args:
        sums: (B, N), at least 0; what underflowed counts as the least normal float32.

    Returns:
        float32 (B, N).
    """
    return sums.float().clamp(min=torch.finfo(torch.float32).tiny).log()
