"""Which keys each layer of a decoder lets a token see before any intervention: its base mask (METHODS 14).

This comes from the layers, not from the config: transformers gives every attention function, by its
registered name, the mask that the model made. One that only looks is registered here, and a prompt is run
through it. Windows and chunks longer than the prompt show by making them short for that one run.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model_adapters.layout import Layout

CAUSAL = "causal"
WINDOW = "sliding window"
CHUNKS = "chunks"
BOTH_WAYS = "images attend both ways"
PREFIX = "prompt attends both ways"
OTHER = "another mask"

COMPOSED = frozenset({CAUSAL, WINDOW, CHUNKS, BOTH_WAYS, PREFIX})
"""Those that the engine evaluates (`model_adapters.base_mask`); a decoder with another one is refused."""

_LOOK = "mimic_look"
_SHORT = 3
"""Tokens of the windows and chunks of the run in which they show."""

_LENGTHS = {"sliding_window": WINDOW, "sliding_window_size": WINDOW, "attention_chunk_size": CHUNKS}
_UNUSED = frozenset(
    {"softcap", "s_aux", "sinks", "position_bias", "attention_bias", "head_mask", "block_mask"}
)
"""Arguments of an attention function that change what it computes and that the engine does not have."""


@dataclass
class Seen:
    """What an attention function was given, by layer.

    Attributes:
        masks: bool (B or 1, 1 or H, N, N), True = may attend.
        arguments: names of given arguments that change what is computed.
        calls: how often each layer called it.
        also: bool (B, N, N), True = may attend: allowed by this mask too, in `layers`; the readable
            definition of a block mask on any base mask.
        layers: from 0.
    """

    masks: dict[int, Tensor] = field(default_factory=dict)
    arguments: set[str] = field(default_factory=set)
    calls: dict[int, int] = field(default_factory=dict)
    also: Tensor | None = None
    layers: frozenset[int] = frozenset()


_seen: list[Seen] = []


def register() -> None:
    """Make the implementation that looks known to transformers; harmless when repeated."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_LOOK, _look)
    AttentionMaskInterface.register(_LOOK, _full_mask)


def _full_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask written out, never left to `is_causal`."""
    from transformers.masking_utils import sdpa_mask

    never = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    mask: object = sdpa_mask(*args, **{**kwargs, **never})
    return mask if isinstance(mask, Tensor) else None


def _look(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer = getattr(module, "layer_idx", None)
    if _seen and layer is not None:
        seen = _seen[-1]
        seen.calls[layer] = seen.calls.get(layer, 0) + 1
        seen.arguments |= {name for name in _UNUSED if kwargs.get(name) is not None}
        if attention_mask is not None:
            attention_mask = attention_mask if attention_mask.dtype == torch.bool else attention_mask >= 0
            seen.masks[layer] = attention_mask
            if seen.also is not None and layer in seen.layers:
                attention_mask = attention_mask & seen.also[:, None].to(attention_mask.device)
    out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return out, None


@contextmanager
def implementation(config: Any, name: str) -> Iterator[None]:
    """While it is entered, the layers of a config's decoder call another attention function.

    Args:
        config: of the decoder.
        name: of the function.
    """
    before = config._attn_implementation_internal
    config._attn_implementation_internal = name
    try:
        yield
    finally:
        config._attn_implementation_internal = before


@contextmanager
def looking(
    config: Any, *, also: Tensor | None = None, layers: frozenset[int] = frozenset()
) -> Iterator[Seen]:
    """While it is entered, what the decoder's layers give their attention function is noted.

    Args:
        config: of the decoder.
        also: see `Seen`.
        layers: see `Seen`.
    """
    register()
    seen = Seen(also=also, layers=layers)
    _seen.append(seen)
    try:
        with implementation(config, _LOOK):
            yield seen
    finally:
        _seen.remove(seen)


@contextmanager
def short_windows(config: Any) -> Iterator[dict[str, int]]:
    """While it is entered, windows and chunks that a decoder's config names are a few tokens long."""
    before: dict[str, int] = {
        name: value
        for name in _LENGTHS
        if isinstance(value := getattr(config, name, None), int) and value > 0
    }
    for name in before:
        setattr(config, name, _SHORT)
    try:
        yield before
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def causal(layouts: Sequence[Layout], device: torch.device) -> Tensor:
    """bool (B, N, N), True = may attend: plain causal attention of a padded batch, padding apart."""
    length = layouts[0].length
    below = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    tokens = torch.stack([layout.is_token(device) for layout in layouts])
    return below & tokens[:, None, :] & tokens[:, :, None]


def kind_of(mask: Tensor, layouts: Sequence[Layout]) -> str:
    """What a base mask is.

    Args:
        mask: bool (B or 1, 1 or H, N, N), True = may attend.
        layouts: of its rows.
    """
    tokens = torch.stack([layout.is_token(mask.device) for layout in layouts])
    plain = causal(layouts, mask.device)
    given = mask.any(dim=1).expand(len(layouts), -1, -1) & tokens[:, None, :] & tokens[:, :, None]
    if bool((mask != mask[:, :1]).any()):
        return OTHER
    if torch.equal(given, plain):
        return CAUSAL
    more, less = given & ~plain, plain & ~given
    if bool(more.any()):
        numbers = torch.stack([layout.image_numbers(mask.device) for layout in layouts])
        inside = (numbers[:, :, None] == numbers[:, None, :]) & (numbers >= 0)[:, :, None]
        if not bool((more & ~inside).any()):
            return BOTH_WAYS
        return PREFIX
    return WINDOW if bool(less.any()) else OTHER


def base_masks(
    seen: Mapping[int, Tensor],
    short: Mapping[int, Tensor],
    lengths: Mapping[str, int],
    layouts: Sequence[Layout],
) -> dict[int, tuple[str, ...]]:
    """What each layer's base mask is; several names where it is several things at once.

    Args:
        seen: the mask that each layer was given.
        short: the same with windows and chunks of a few tokens.
        lengths: the config's fields of windows and chunks.
        layouts: of the rows.
    """
    named = {_LENGTHS[name] for name in lengths}
    kinds: dict[int, tuple[str, ...]] = {}
    for layer, mask in seen.items():
        kind = kind_of(mask, layouts)
        names = [] if kind == CAUSAL else [kind]
        if layer in short and not torch.equal(short[layer], mask) and WINDOW not in names:
            names.append(CHUNKS if named == {CHUNKS} else WINDOW)
        kinds[layer] = tuple(names) or (CAUSAL,)
    return kinds
