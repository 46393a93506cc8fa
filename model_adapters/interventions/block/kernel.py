"""Block masking: an image's tokens see their own image only (METHODS 3)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model_adapters import varlen
from model_adapters.attention import attend_to_end
from model_adapters.base_mask import Seen, attend_seen, chunks, ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.biased import edit_lines
from model_adapters.interventions.weights import ordinary_weights
from model_adapters.layout import Layout, Span
from model_adapters.segments import Keys, attend_segments


class BlockMask(Intervention):
    """In a masked layer, a vision query of image m attends to keys of image m at or before itself.

    Text rows keep full causal attention. A sequence with one image is not masked. The mask is never made:
    images are M small causal blocks, all images of a batch in one call where the device has a kernel for it
    (`varlen`), else batched where their lengths and distances agree; and each run of text attends to the keys
    up to its end. An image of several spans is one block over its gathered tokens.

    Args:
        prefix: let images see the text before the first image too (the release masks it: False).
        variant: ``paper`` or ``released``, for the record; they differ in the layers that are masked.
    """

    name = "block"
    recorded = True

    def __init__(self, *, prefix: bool = False, variant: str = "paper") -> None:
        self.prefix = prefix
        self.variant = variant

    def settings(self) -> dict[str, Any]:
        """`prefix` and `variant`."""
        return {"prefix": self.prefix, "variant": self.variant}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`."""
        if view.record is not None:
            self._enter(view, query.shape[1], query.device)
        if view.base is not None:
            return self._within_base(query, key, value, view, scale=scale)
        shape = (query.shape[1], key.shape[1], query.shape[3])
        together = varlen.works(query.device, query.dtype, *shape)
        out = self._images(query, key, value, view, scale=scale) if together else torch.zeros_like(query)
        for b, layout in enumerate(view.layouts):
            row = slice(b, b + 1)
            row_tensors = (out[row], query[row], key[row], value[row])
            runs: tuple[Span, ...] = (Span(layout.padding, layout.end),)
            if len(layout.images) > 1:
                runs = layout.text
                if not together:
                    self._row_images(*row_tensors, layout, scale=scale)
            for run in runs:
                _write_run(*row_tensors, layout.padding, run, scale=scale)
        return out

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        layout, blocked = view.layouts[doc], None
        if len(layout.images) > 1:
            image = layout.image_numbers(query.device)
            allowed = _allowed(image, self._prefix(layout))
            tokens = torch.arange(layout.length, device=query.device)
            blocked = (image[rows, None] >= 0) & ~allowed(rows, tokens)
        return ordinary_weights(query, key, view, doc, rows, scale=scale, blocked=blocked)

    def describe(self, counts: Mapping[str, Any]) -> list[str]:
        """See `Intervention.describe`."""
        return edit_lines(self.name, "blocked", counts, pairs="blocked_pairs")

    def _enter(self, view: LayerView, heads: int, device: torch.device) -> None:
        """Enter in the record what the mask takes from each doc."""
        for b, layout in enumerate(view.layouts):
            base, prefix = view.seen(b), self._prefix(layout)
            if base is None or len(layout.images) < 2:
                rows, pairs = _removed(layout, prefix)
                total = (torch.tensor(rows), torch.tensor(pairs))
            else:
                total = _removed_within(base, layout, prefix, device)
            for name, number in zip(("edited_rows", "blocked_pairs"), total, strict=True):
                view.record.count_doc(b, name, heads * number)  # type: ignore[union-attr]

    def _prefix(self, layout: Layout) -> Span:
        """The text before the first image that images see; empty if they see none."""
        return layout.text_prefix if self.prefix else Span(layout.padding, layout.padding)

    def _within_base(
        self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float
    ) -> Tensor:
        """Block masking of a model whose mask is not plain causal: a key must be allowed by both."""
        out = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
        for b, layout in enumerate(view.layouts):
            base = view.seen(b)
            if base is None or len(layout.images) < 2:
                continue
            image = layout.image_numbers(query.device)
            rows = (image >= 0).nonzero()[:, 0]
            keys = torch.arange(layout.padding, layout.end, device=query.device)
            seen = _both(base, _allowed(image, self._prefix(layout)))
            doc = (query[b, :, rows], key[b, :, layout.tokens], value[b, :, layout.tokens])
            out[b, :, rows] = attend_seen(*doc, rows, keys, seen, scale=scale)
        return out

    def _images(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """(B, H, N, D): attention of all images of all rows in one call, zero elsewhere."""
        packed = _packing(view.layouts, self.prefix, query.device)
        out = torch.zeros_like(query)
        if packed is None:
            return out
        flat = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
        chosen = (flat[0][packed.rows], flat[1][packed.seen], flat[2][packed.seen])
        made = varlen.attend_packed(*chosen, packed.queries, packed.keys, scale=scale)
        out.transpose(1, 2)[packed.rows // query.shape[2], packed.rows % query.shape[2]] = made
        return out

    def _row_images(
        self, out: Tensor, query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, scale: float
    ) -> None:
        """Write the attention of one row's images to `out`; all (1, heads, N, D)."""
        prefix = self._prefix(layout)
        before = [x[:, :, prefix.start : prefix.end] for x in (key, value)]

        def attended(*blocks: Tensor) -> Tensor:
            """Of images of one length (count, heads, length, D)."""
            seen = [x.expand(len(blocks[0]), -1, -1, -1) for x in before]
            groups = (Keys(seen[0], seen[1]), Keys(blocks[1], blocks[2], causal=True))
            return attend_segments(blocks[0], groups, scale=scale)

        for first, count, step in _equal_blocks(
            [row_tensors for row_tensors in layout.images if isinstance(row_tensors, Span)]
        ):
            blocks = [_blocks(x, first, count, step) for x in (query, key, value)]
            _blocks(out, first, count, step).copy_(attended(*blocks))
        for image in layout.images:
            if not isinstance(image, Span):
                index = image.indices(query.device)
                out[:, :, index] = attended(*(x[:, :, index] for x in (query, key, value)))


def _allowed(image: Tensor, prefix: Span) -> Seen:
    """Which keys the mask lets image rows see: those of their image, and of a prefix."""

    def allowed(rows: Tensor, keys: Tensor) -> Tensor:
        before = (keys >= prefix.start) & (keys < prefix.end)
        return (image[rows][:, None] == image[keys]) | before

    return allowed


def _both(base: Seen, allowed: Seen) -> Seen:
    """What two masks let rows see."""
    return lambda rows, keys: base(rows, keys) & allowed(rows, keys)


def _removed(layout: Layout, prefix: Span) -> tuple[int, int]:
    """Rows that lose a key of causal attention, and (row, key) pairs that are lost."""
    rows = pairs = 0
    for image in layout.images if len(layout.images) > 1 else ():
        own = 0
        for span in image.spans:
            lost = span.start - layout.padding - prefix.length - own
            rows += span.length * (lost > 0)
            pairs += span.length * lost
            own += span.length
    return rows, pairs


def _removed_within(base: Seen, layout: Layout, prefix: Span, device: torch.device) -> tuple[Tensor, Tensor]:
    """As `_removed`, of the keys that a base mask lets rows see."""
    image = layout.image_numbers(device)
    keys = torch.arange(layout.padding, layout.end, device=device)
    rows, allowed = (image >= 0).nonzero()[:, 0], _allowed(image, prefix)
    lost = chunks(rows, keys, lambda rows, keys: base(rows, keys) & ~allowed(rows, keys))
    counts = torch.cat([chunk.mask.sum(dim=1) for chunk in lost])
    return (counts > 0).sum(), counts.sum()


def _write_run(
    out: Tensor, query: Tensor, key: Tensor, value: Tensor, padding: int, run: Span, *, scale: float
) -> None:
    """Write the causal attention of a run of one row, over all keys up to its end, to `out`."""
    seen = slice(padding, run.end)
    out[:, :, run.start : run.end] = attend_to_end(
        query[:, :, run.start : run.end], key[:, :, seen], value[:, :, seen], scale=scale
    )


class _Packing(NamedTuple):
    """The images of a batch, packed: places in the flattened batch, and how many tokens each image has.

    Attributes:
        rows: int (sum of T), of the queries.
        seen: int (sum of S), of the keys.
        queries: T of each image.
        keys: S of each image: its own tokens, and the text before the first image where images see it.
    """

    rows: Tensor
    seen: Tensor
    queries: tuple[int, ...]
    keys: tuple[int, ...]


@lru_cache(maxsize=2)
def _packing(layouts: tuple[Layout, ...], prefix: bool, device: torch.device) -> _Packing | None:
    """Of the rows with two images and more; None if there are none. Each layer of a batch asks again."""
    with torch.inference_mode(False):  # a training that comes later may keep them for its backward pass
        return _packed(layouts, prefix, device)


def _packed(layouts: tuple[Layout, ...], prefix: bool, device: torch.device) -> _Packing | None:
    rows, seen, queries, keys = [], [], [], []
    for b, layout in enumerate(layouts):
        shift = b * layout.length
        before = torch.arange(*layout.text_prefix) + shift if prefix else torch.arange(0)
        for image in layout.images if len(layout.images) > 1 else ():
            tokens = image.indices() + shift
            rows.append(tokens)
            seen += [before, tokens]
            queries.append(image.length)
            keys.append(len(before) + image.length)
    if not rows:
        return None
    return _Packing(torch.cat(rows).to(device), torch.cat(seen).to(device), tuple(queries), tuple(keys))


def _equal_blocks(images: Sequence[Span]) -> Iterator[tuple[Span, int, int]]:
    """(first span, how many, distance between starts) of neighbouring images that one call can serve."""
    for _, group in groupby(images, key=lambda span: span.length):
        spans = list(group)
        while spans:
            step = spans[1].start - spans[0].start if len(spans) > 1 else spans[0].length
            count = 1
            while count < len(spans) and spans[count].start - spans[count - 1].start == step:
                count += 1
            yield spans[0], count, step
            spans = spans[count:]


def _blocks(x: Tensor, first: Span, count: int, step: int) -> Tensor:
    """A view (count, heads, length, D) of (1, heads, N, D): `count` spans, `step` tokens apart."""
    end = first.start + (count - 1) * step + first.length
    return x[0, :, first.start : end].unfold(1, first.length, step).permute(1, 0, 3, 2)
