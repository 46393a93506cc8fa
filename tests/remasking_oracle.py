"""Docs with given sinks and grounded tokens, and the materialised answer to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_adapters.interventions import (
    AttentionRemasking,
    EditRecord,
    Intervention,
    LayerView,
    MaskOnly,
    Relevance,
    UnmaskOnly,
)
from model_adapters.interventions.reference import (
    causal_weights,
    remasked_weights,
    weighted,
    weights_with_links,
    weights_without_sinks,
)
from model_adapters.layout import Layout, Span

SCALE = 0.3

METHODS: dict[str, Intervention] = {
    "ar": AttentionRemasking(),
    "ar_masking_empty_rows": AttentionRemasking(empty_rows="mask"),
    "mask_only": MaskOnly(),
    "unmask_only": UnmaskOnly(),
}


@dataclass(frozen=True)
class Doc:
    """One doc: its layout, sinks bool (N), grounded bool (N), score (N)."""

    layout: Layout
    sinks: Tensor
    grounded: Tensor
    score: Tensor

    @property
    def visual(self) -> Tensor:
        """bool (N)."""
        return visual_tokens(self.layout)


def visual_tokens(layout: Layout) -> Tensor:
    visual = torch.zeros(layout.length, dtype=torch.bool)
    for span in layout.images:
        visual[span.start : span.end] = True
    return visual


def layout_of(parts: Sequence[int], *, padding: int = 0) -> Layout:
    """Text and image lengths by turns, text first."""
    spans, place = [], padding
    for i, size in enumerate(parts):
        if i % 2:
            spans.append(Span(place, place + size))
        place += size
    return Layout(place, padding, tuple(spans))


def draw_doc(layout: Layout, *, seed: int = 0, sinks: float = 0.2, grounded: float = 0.4) -> Doc:
    """Random sinks and grounded tokens among the visual ones; the score is not a number outside of G."""
    generator = torch.Generator().manual_seed(1000 * seed + layout.length)
    drawn = torch.rand(2, layout.length, generator=generator)
    visual = visual_tokens(layout)
    chosen = visual & (drawn[1] < grounded)
    score = 2 * torch.randn(layout.length, generator=generator, dtype=torch.float64)
    return Doc(layout, visual & (drawn[0] < sinks), chosen, score.masked_fill(~chosen, float("nan")))


def padded(docs: Sequence[Doc], *, extra: int = 0) -> list[Doc]:
    """The docs as one left-padded batch."""
    longest = max(doc.layout.length for doc in docs) + extra
    batch = []
    for doc in docs:
        shift = longest - doc.layout.length
        spans = tuple(Span(span.start + shift, span.end + shift) for span in doc.layout.images)
        pad = torch.nn.functional.pad
        batch.append(
            Doc(
                Layout(longest, doc.layout.padding + shift, spans),
                pad(doc.sinks, (shift, 0)),
                pad(doc.grounded, (shift, 0)),
                pad(doc.score, (shift, 0)),
            )
        )
    return batch


def tensors(
    rows: int,
    n: int,
    *,
    heads: int = 4,
    groups: int = 2,
    width: int = 8,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """query, key and value."""
    generator = torch.Generator().manual_seed(1000 * seed + n)
    shapes = [(rows, heads, n, width), *2 * [(rows, heads // groups, n, width)]]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def view_of(docs: Sequence[Doc], *, layer: int = 0, record: EditRecord | None = None) -> LayerView:
    sinks, grounded, score = (
        torch.stack([getattr(doc, name) for doc in docs]) for name in ("sinks", "grounded", "score")
    )
    layouts = tuple(doc.layout for doc in docs)
    return LayerView(layouts, layer, sinks, Relevance(grounded, score), record)


def weights_of(name: str, alpha: Tensor, doc: Doc) -> Tensor:
    """alpha' (H, N, N) of a method."""
    score = doc.score.masked_fill(~doc.grounded, 0.0)
    given = (alpha, doc.layout, doc.sinks, doc.grounded, score)
    if name == "mask_only":
        return weights_without_sinks(alpha, doc.sinks)
    if name == "unmask_only":
        return weights_with_links(*given)
    return remasked_weights(*given, empty_rows="mask" if name == "ar_masking_empty_rows" else "keep")


def oracle(name: str, query: Tensor, key: Tensor, value: Tensor, docs: Sequence[Doc]) -> Tensor:
    """(B, H, N, D), in the inputs' precision."""
    rows = []
    for b, doc in enumerate(docs):
        alpha = causal_weights(query[b], key[b], doc.layout, scale=SCALE)
        rows.append(weighted(weights_of(name, alpha, doc), value[b]))
    return torch.stack(rows)


def own_rows(out: Tensor, docs: Sequence[Doc]) -> Tensor:
    """All that does not stand at padding, flat."""
    return torch.cat([out[b, :, doc.layout.padding :].flatten() for b, doc in enumerate(docs)])
