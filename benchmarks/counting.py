"""Operations and memory of attention: counted, not timed, so that they are the same on every machine.

*Needed* operations are counted from the spans. *Done* ones are seen where attention is computed: a kernel
given `is_causal` skips what lies behind a row, one given a mask does not.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.knockout.edges import parse_edges
from model_adapters.interventions.knockout.kernel import Knockout
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.remasking.kernel import AttentionRemasking, UnmaskOnly
from model_adapters.interventions.remasking.masking import MaskOnly
from model_adapters.interventions.sofa.kernel import Sofa
from model_adapters.layout import Layout, Span

TEXT_BEFORE, TEXT_AFTER = 14, 40
SINKS = 4
GROUNDED = 0.15

INTERVENTIONS: dict[str, Intervention] = {
    "none": NoIntervention(),
    "block": BlockMask(),
    "ar": AttentionRemasking(),
    "mask_only": MaskOnly(),
    "unmask_only": UnmaskOnly(),
    "sofa": Sofa(),
    "knockout": Knockout(parse_edges("image>other+question>image[1]")),
}


@dataclass(frozen=True)
class Shape:
    """Of one attention layer."""

    heads: int = 14
    kv_heads: int = 2
    width: int = 64

    def flops(self, pairs: float) -> float:
        """Of q k' and of its product with v, for (query, key) pairs of one head."""
        return 4.0 * self.heads * self.width * pairs


def layout_of(images: int, tokens: int) -> Layout:
    """`images` adjacent images of `tokens` tokens between some text."""
    spans = tuple(Span(TEXT_BEFORE + m * tokens, TEXT_BEFORE + (m + 1) * tokens) for m in range(images))
    return Layout(spans[-1].end + TEXT_AFTER, 0, spans)


def causal_pairs(layout: Layout) -> int:
    """(query, key) pairs of causal attention."""
    own = layout.length - layout.padding
    return own * (own + 1) // 2


def block_pairs(layout: Layout) -> int:
    """(query, key) pairs that the block mask leaves (METHODS 3): about M P^2 / 2 + T N."""
    if len(layout.images) < 2:
        return causal_pairs(layout)
    images = sum(span.length * (span.length + 1) // 2 for span in layout.images)
    rows = (row for run in layout.text for row in range(run.start, run.end))
    return images + sum(row + 1 - layout.padding for row in rows)


def given(layout: Layout, *, seed: int = 0, device: str = "cpu") -> tuple[Tensor, Relevance]:
    """Sinks bool (1, N), `SINKS` of them over all images, and relevance with `GROUNDED` of their tokens."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(layout.length, generator=generator)
    score = torch.randn(1, layout.length, generator=generator)
    visual = torch.cat([image.indices() for image in layout.images])
    sinks, grounded = (torch.zeros(1, layout.length, dtype=torch.bool) for _ in range(2))
    grounded[0, visual] = drawn[visual] < GROUNDED
    sinks[0, visual[[(2 * i + 1) * len(visual) // (2 * SINKS) for i in range(SINKS)]]] = True
    return sinks.to(device), Relevance(grounded.to(device), score.to(device))


def draw(
    layout: Layout, shape: Shape, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Random query (1, H, N, D), key and value (1, KV, N, D)."""
    generator = torch.Generator().manual_seed(0)
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    one, two, three = (
        torch.randn(1, h, layout.length, shape.width, generator=generator).to(dtype) for h in heads
    )
    return one, two, three


def prefill(name: str, qkv: Sequence[Tensor], layout: Layout) -> Tensor:
    """One layer of an intervention, with the sinks and the relevance of `given`."""
    sinks, relevance = given(layout)
    view = LayerView((layout,), 0, sinks, relevance)
    return INTERVENTIONS[name].prefill(*qkv, view, scale=qkv[0].shape[-1] ** -0.5)


class Watch(TorchDispatchMode):
    """Sees every operation; not what a kernel allocates for itself (see `peak_bytes`).

    Attributes:
        largest: elements of the largest tensor that was made.
        pairs: (query, key) pairs, heads counted, of attention kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.pairs = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        out = func(*args, **options)
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, Tensor):
                self.largest = max(self.largest, made.untyped_storage().nbytes() // made.element_size())
        if "flash_attention" in str(func):
            query, key = args[0], args[1]
            rows, keys = query.shape[2], key.shape[2]
            causal = bool(args[4] if len(args) > 4 else options.get("is_causal", False))
            self.pairs += query.shape[0] * query.shape[1] * (rows * (rows + 1) / 2 if causal else rows * keys)
        return out


@contextmanager
def watched() -> Iterator[Watch]:
    """A `Watch` of what runs inside, without gradients (inference mode hides what attention is made of)."""
    watch = Watch()
    with torch.no_grad(), watch:
        yield watch


def peak_bytes(run: Any, *, gradients: bool = False) -> int:
    """The most memory that a call holds beside what was there before: torch's own count of the CPU.

    Args:
        run: what is measured.
        gradients: whether it may compute them.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would say on a CPU that there is no GPU
    from torch.profiler import ProfilerActivity, profile

    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen,
        torch.set_grad_enabled(gradients),
    ):
        run()
    held = most = 0
    events = (e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def attention_with_mask(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scale: float) -> Tensor:
    """What a release does with a mask: SDPA with a materialised N x N."""
    groups = query.shape[1] // key.shape[1]
    keys, values = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
