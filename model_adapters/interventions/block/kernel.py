"""Block masking: an image's tokens see their own image only (METHODS 3)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model_adapters import varlen
from model_adapters.attention import attend_to_end
from model_adapters.base_mask import Seen, attend_seen, chunks, ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.biased import edit_lines
from model_adapters.interventions.weights import ordinary_weights
from model_adapters.layout import ImageTokens, Layout, Span
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
            _write_runs(*row_tensors, layout.padding, runs, scale=scale)
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

        step = _equal_step(layout.images)
        if step is not None:
            blocks = [_blocks(x, layout.images, step) for x in (query, key, value)]
            _blocks(out, layout.images, step).copy_(attended(*blocks))
            return
        parts = zip(*(_images_of(x, layout) for x in (query, key, value)), strict=True)
        made: list[Tensor] = []
        for _, equal in groupby(parts, key=lambda part: part[0].shape[2]):
            blocks = [torch.cat(of_images) for of_images in zip(*equal, strict=True)]
            made += attended(*blocks).split_with_sizes([1] * len(blocks[0]))
        spans = [image.spans for image in layout.images]
        pieces = [
            part.split_with_sizes([span.length for span in of], dim=2)
            for part, of in zip(made, spans, strict=True)
        ]
        _write(out, [span for of in spans for span in of], [piece for of in pieces for piece in of])


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


def _write_runs(
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: int,
    runs: Sequence[Span],
    *,
    scale: float,
) -> None:
    """Write the causal attention of runs of one row, each over all keys up to its end, to `out`."""
    seen = [slice(padding, run.end) for run in runs]
    made = [
        attend_to_end(part, key[:, :, keys], value[:, :, keys], scale=scale)
        for part, keys in zip(_parts(query, runs), seen, strict=True)
    ]
    _write(out, runs, made)


def _parts(x: Tensor, spans: Sequence[Span]) -> Sequence[Tensor]:
    """Views (1, heads, length, D) of spans that ascend. One operation, so that its gradient is one tensor.

    A slice for each span would cost a gradient of full size each.
    """
    sizes, end = [], 0
    for span in spans:
        sizes += [span.start - end, span.length]
        end = span.end
    return x.split_with_sizes([*sizes, x.shape[2] - end], dim=2)[1::2]


def _images_of(x: Tensor, layout: Layout) -> list[Tensor]:
    """(1, heads, length, D) of each image."""
    spans = sorted(span for image in layout.images for span in image.spans)
    part = dict(zip(spans, _parts(x, spans), strict=True))
    return [
        torch.cat([part[span] for span in image.spans], dim=2)
        if len(image.spans) > 1
        else part[image.spans[0]]
        for image in layout.images
    ]


def _write(out: Tensor, spans: Sequence[Span], parts: Sequence[Tensor]) -> None:
    """Write parts (1, heads, length, D) to their spans, in one operation as `_parts` reads them."""
    if len(spans) == 1:
        out[:, :, spans[0].start : spans[0].end] = parts[0]
    elif spans:
        index = torch.cat([torch.arange(*span) for span in spans]).to(out.device)
        out[:].index_copy_(
            2, index, torch.cat(list(parts), dim=2)
        )  # a new view: `out` may be older than a write


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


def _equal_step(images: Sequence[Span | ImageTokens]) -> int | None:
    """The distance between the starts of images of one length at equal distances; None if they are not."""
    spans = [image for image in images if isinstance(image, Span)]
    steps = {second.start - first.start for first, second in pairwise(spans)}
    if len(spans) < len(images) or len(steps) != 1 or len({span.length for span in spans}) != 1:
        return None
    return steps.pop()


def _blocks(x: Tensor, images: Sequence[Span | ImageTokens], step: int) -> Tensor:
    """A view (count, heads, length, D) of (1, heads, N, D): images that start `step` tokens apart."""
    first, last = images[0].spans[0], images[-1].spans[0]
    return x[0, :, first.start : last.end].unfold(1, first.length, step).permute(1, 0, 3, 2)
