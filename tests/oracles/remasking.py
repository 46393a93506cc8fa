"""Docs with given sinks and grounded tokens, and the materialised answer to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model_adapters.attention import causal_prefill
from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.reference import causal_weights, weighted
from model_adapters.interventions.remasking.kernel import AttentionRemasking, UnmaskOnly
from model_adapters.interventions.remasking.masking import MaskOnly
from model_adapters.interventions.remasking.reference import (
    remasked_weights,
    weights_with_links,
    weights_without_sinks,
)
from model_adapters.layout import ImageTokens, Layout, Span

SCALE = 0.3

METHODS: dict[str, Intervention] = {
    "ar": AttentionRemasking(),
    "ar_masking_empty_rows": AttentionRemasking(empty_rows="mask"),
    "mask_only": MaskOnly(),
    "unmask_only": UnmaskOnly(),
    "ar_later_tokens": AttentionRemasking(links="later_tokens"),
    "ar_later_tokens_masking_empty_rows": AttentionRemasking(links="later_tokens", empty_rows="mask"),
    "unmask_only_later_tokens": UnmaskOnly(links="later_tokens"),
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
    for image in layout.images:
        for span in image.spans:
            visual[span.start : span.end] = True
    return visual


def layout_of(parts: Sequence[int | tuple[int, ...]], *, padding: int = 0) -> Layout:
    """Text and image lengths by turns, text first; an image of several spans is (span, text, span, ...)."""
    images, place = [], padding
    for i, part in enumerate(parts):
        spans = []
        for j, size in enumerate(part if isinstance(part, tuple) else (part,)):
            if i % 2 and j % 2 == 0:
                spans.append(Span(place, place + size))
            place += size
        if spans:
            images.append(ImageTokens(tuple(spans)))
    return Layout(place, padding, tuple(images))


def draw_doc(layout: Layout, *, seed: int = 0, sinks: float = 0.2, grounded: float = 0.4) -> Doc:
    """Random sinks and grounded tokens among the visual ones; the score is not a number outside of G."""
    generator = torch.Generator().manual_seed(1000 * seed + layout.length)
    drawn = torch.rand(2, layout.length, generator=generator)
    visual = visual_tokens(layout)
    chosen = visual & (drawn[1] < grounded)
    score = 2 * torch.randn(layout.length, generator=generator, dtype=torch.float64)
    return Doc(layout, visual & (drawn[0] < sinks), chosen, score.masked_fill(~chosen, float("nan")))


def padded(docs: Sequence[Doc], *, extra: int = 0, left_only: bool = False) -> list[Doc]:
    """The docs as one batch, padded on the left, and unless `left_only` every third one on the right too."""
    longest = max(doc.layout.length for doc in docs) + extra
    batch = []
    for b, doc in enumerate(docs):
        more = longest - doc.layout.length
        shift = more // 2 if b % 3 == 2 and not left_only else more
        right = more - shift
        spans = tuple(image.moved(shift) for image in doc.layout.images)
        pad = torch.nn.functional.pad
        batch.append(
            Doc(
                Layout(longest, doc.layout.padding + shift, spans, doc.layout.right_padding + right),
                pad(doc.sinks, (shift, right)),
                pad(doc.grounded, (shift, right)),
                pad(doc.score, (shift, right)),
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
    given, links = (alpha, doc.layout, doc.sinks, doc.grounded, score), links_of(name)
    if name == "mask_only":
        return weights_without_sinks(alpha, doc.sinks)
    if name.startswith("unmask_only"):
        return weights_with_links(*given, links=links)
    return remasked_weights(*given, links=links, empty_rows="mask" if "empty_rows" in name else "keep")


def links_of(name: str) -> str:
    """The reading of U of a method."""
    return "later_tokens" if "later_tokens" in name else "later_images"


def oracle(name: str, query: Tensor, key: Tensor, value: Tensor, docs: Sequence[Doc]) -> Tensor:
    """(B, H, N, D), in the inputs' precision."""
    rows = []
    for b, doc in enumerate(docs):
        alpha = causal_weights(query[b], key[b], doc.layout, scale=SCALE)
        rows.append(weighted(weights_of(name, alpha, doc), value[b]))
    return torch.stack(rows)


def own_rows(out: Tensor, docs: Sequence[Doc]) -> Tensor:
    """All that does not stand at padding, flat."""
    return torch.cat([out[b, :, doc.layout.tokens].flatten() for b, doc in enumerate(docs)])


def sinks_in(doc: Doc, images: slice) -> Doc:
    """All sinks in some images only, every other token of them."""
    sinks = torch.zeros_like(doc.sinks)
    for image in doc.layout.images[images]:
        sinks[image.indices()[::2]] = True
    return replace(doc, sinks=sinks)


def grounded_at(doc: Doc, grounded: torch.Tensor) -> Doc:
    return replace(
        doc, grounded=grounded, score=torch.zeros_like(doc.score).masked_fill(~grounded, torch.nan)
    )


PLAIN = draw_doc(layout_of([3, 7, 2, 7, 2, 7, 4]))
DOCS = {
    "text_between": PLAIN,
    "adjacent_images": draw_doc(layout_of([3, 7, 0, 7, 0, 7, 4]), seed=1),
    "no_text_before": draw_doc(layout_of([0, 6, 1, 6, 3]), seed=2),
    "starts_with_a_sink": sinks_in(draw_doc(layout_of([0, 6, 0, 6, 3]), seed=3), slice(0, 1)),
    "ends_with_an_image": draw_doc(layout_of([2, 6, 0, 6]), seed=4),
    "unequal_images": draw_doc(layout_of([1, 9, 0, 2, 5, 13, 2]), seed=5),
    "images_of_a_token": draw_doc(layout_of([2, 1, 0, 1, 1, 1, 0, 1, 2]), seed=6, sinks=0.5, grounded=0.8),
    "one_image": draw_doc(layout_of([4, 9, 5]), seed=7),
    "text_only": draw_doc(layout_of([9])),
    "no_sinks": draw_doc(layout_of([3, 6, 0, 6, 2]), sinks=0),
    "all_visual_are_sinks": draw_doc(layout_of([3, 6, 0, 6, 2]), sinks=1),
    "all_but_text_behind_are_sinks": draw_doc(layout_of([0, 6, 0, 6, 2]), sinks=1),
    "all_are_sinks": draw_doc(layout_of([0, 4, 0, 4]), sinks=1),
    "sinks_in_the_last_image": sinks_in(PLAIN, slice(2, 3)),
    "nothing_grounded": draw_doc(layout_of([3, 6, 0, 6, 2]), grounded=0),
    "all_grounded": draw_doc(layout_of([3, 6, 0, 6, 2]), grounded=1),
    "all_grounded_are_sinks": grounded_at(PLAIN, PLAIN.sinks),
    "grounded_in_the_first_image": grounded_at(PLAIN, PLAIN.visual & (torch.arange(32) < 10)),
    "several_spans": draw_doc(layout_of([2, (3, 1, 4), 0, (2, 2, 2, 1, 3), 1, 5, 3]), seed=9),
    "sinks_in_a_span": sinks_in(draw_doc(layout_of([0, (3, 1, 4), 0, (2, 1, 6), 2]), seed=10), slice(0, 1)),
    "padded": padded([draw_doc(layout_of([3, 7, 2, 7, 4]), seed=8)], extra=6)[0],
}


def prefill(
    name: str, qkv: list[torch.Tensor], docs: list[Doc], record: EditRecord | None = None
) -> torch.Tensor:
    return METHODS[name].prefill(*qkv, view_of(docs, record=record), scale=SCALE)


def plain_of(qkv: list[torch.Tensor], docs: list[Doc]) -> torch.Tensor:
    return causal_prefill(*qkv, tuple(doc.layout for doc in docs), scale=SCALE)


def assert_oracle(name: str, qkv: list[torch.Tensor], docs: list[Doc]) -> None:
    got, want = (own_rows(x, docs) for x in (prefill(name, qkv, docs), oracle(name, *qkv, docs)))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def hand_made() -> Doc:
    """Text 0; image 1-3, sink 2, grounded 1; image 4-6, sink 6, grounded 4, 5, 6; text 7."""
    layout = layout_of([1, 3, 0, 3, 1])
    sinks, grounded = torch.zeros(2, 8, dtype=torch.bool)
    sinks[[2, 6]] = True
    grounded[[1, 4, 5, 6]] = True
    return Doc(layout, sinks, grounded, torch.zeros(8))


def equal_scores(heads: int = 2) -> list[torch.Tensor]:
    """Every key has the same score: alpha_ij = 1 / (i + 1)."""
    return [torch.zeros(1, heads, 8, 4), torch.zeros(1, 1, 8, 4), torch.randn(1, 1, 8, 4)]
