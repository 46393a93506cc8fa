"""Attention Remasking and its two halves (METHODS 4, Eq. 10), in closed form.

With causal attention O_i, a row's sink part E_i = sum over sinks j <= i of alpha_ij v_j (METHODS' eta_i s_i,
never divided) and v_m = sum over U_m of pi_mj v_j:

    ar           O_i - E_i + eta_i v_m
    unmask_only  (O_i + eta_i v_m) / (1 + eta_i)
    mask_only    (O_i - E_i) / (1 - eta_i)

The last loses its digits where eta is near 1, so it is computed as what it equals: causal attention over the
sequence without its sinks, and the few rows of the sinks themselves over the keys that are left.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from model_adapters.base_mask import (
    Seen,
    attend_seen,
    cached,
    chunks,
    on_cache,
    ordinary_decode,
    ordinary_prefill,
)
from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.mass import (
    accumulator,
    attend_with_lse,
    by_group,
    ordinary_with_lse,
    scores_in_chunks,
)
from model_adapters.interventions.options import RELEVANCE, SINKS
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.remasking.links import (
    LINKS,
    Links,
    find_links,
    suffix_means,
)
from model_adapters.layout import Layout

LEAST_LEFT = 1e-6
"""A row with less than this share of its attention on other keys than sinks is not masked (METHODS 4)."""

EMPTY_ROWS = ("keep", "mask")


class _Opening(Intervention):
    """What `ar` and `unmask_only` share: links from images to later grounded tokens."""

    needs = frozenset({SINKS, RELEVANCE})
    recorded = True
    _masks_sinks: bool
    _masks_empty_rows = False

    def __init__(self, *, links: str = "later_images") -> None:
        if links not in LINKS:
            raise ValueError(f"`links` must be one of {', '.join(LINKS)}, got '{links}'")
        self.links = links

    def settings(self) -> dict[str, Any]:
        """`links`."""
        return {"links": self.links}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`; rows that are not edited are those of `ordinary_prefill`, bit for bit.

        Raises:
            ValueError: no sinks or no relevance in `view`.
        """
        sinks, relevance = _sinks(self, view, query), _relevance(self, view, query)
        docs = list(enumerate(view.layouts))
        has_sinks = sinks.any(dim=1).tolist()
        own_image = self.links == "later_tokens"
        links = [find_links(layout, sinks[b], relevance, b, own_image=own_image) for b, layout in docs]
        if any(has and link is not None for has, link in zip(has_sinks, links, strict=True)):
            out, lse = ordinary_with_lse(query, key, value, view.layouts, view.base, scale=scale)
        else:
            out, lse = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale), None
        if view.record is not None:
            view.record.add_layer(sinks, relevance.grounded)
        for b, layout in docs:
            link, seen = links[b], view.seen(b)
            edit = _Edit.none(query[b])
            if has_sinks[b] and link is not None and lse is not None:
                doc = (query[b], key[b], value[b])
                self._open(out[b], lse[b], *doc, sinks[b], link, edit, scale=scale, seen=seen)
            if has_sinks[b] and self._masks_empty_rows:
                empty = torch.ones(layout.length, dtype=torch.bool, device=query.device)
                if link is not None:
                    empty[link.rows] = False
                doc = (query[b], key[b], value[b])
                masked, masked_edit = _without_sinks(*doc, layout, sinks[b], scale=scale, seen=seen)
                out[b] = torch.where((masked_edit.edited & empty)[:, :, None], masked, out[b])
                edit = edit.filled(masked_edit, empty)
            if view.record is not None:
                in_row = layout.is_token(sinks.device)
                keys = in_row & ~sinks[b] if self._masks_sinks else in_row
                _enter(view.record, b, layout, edit, keys, link, seen)
        return out

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        sinks, relevance = _sinks(self, view, query)[doc], _relevance(self, view, query)
        weights = super().weights(query, key, view, doc, rows, scale=scale)
        link = find_links(view.layouts[doc], sinks, relevance, doc, own_image=self.links == "later_tokens")
        position = torch.full((view.layouts[doc].length,), -1, device=query.device)
        if link is not None:
            position[link.rows] = torch.arange(len(link.rows), device=query.device)
        opens = position[rows] >= 0
        out = weights
        if link is not None and bool(opens.any()):
            start = link.start[position[rows[opens]]]
            later = torch.arange(len(link.keys), device=query.device) >= start[:, None]
            pi = link.score.expand_as(later).masked_fill(~later, float("-inf")).softmax(dim=-1)
            eta = (weights[:, opens] * sinks).sum(dim=-1, keepdim=True)
            after = weights[:, opens] * ~sinks if self._masks_sinks else weights[:, opens].clone()
            after[:, :, link.keys] += (eta * pi).to(after.dtype)
            out = weights.clone()
            out[:, opens] = after if self._masks_sinks else after / (1 + eta)
        if self._masks_empty_rows:
            out = torch.where(opens[:, None], out, _weights_without(weights, sinks))
        return out

    def _open(
        self,
        out: Tensor,
        lse: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor,
        link: "Links",
        edit: "_Edit",
        *,
        scale: float,
        seen: Seen | None,
    ) -> None:
        """Edit the rows of one doc in `out` (H, N, D), and say which in `edit`."""
        wide = accumulator(query.dtype)
        sink_tokens = sinks.nonzero()[:, 0]
        sink_values = value[:, sink_tokens].to(wide)
        starts, group = torch.unique(link.start, return_inverse=True)
        opened = suffix_means(value[:, link.keys].to(wide), link.score.to(wide), starts)  # (KV, sets, D)
        opened = opened.repeat_interleave(query.shape[0] // key.shape[0], dim=0)
        scored = scores_in_chunks(
            query[:, link.rows], key[:, sink_tokens], link.rows, sink_tokens, scale=scale, seen=seen
        )
        for chunk in scored:
            rows = link.rows[chunk.rows]
            weights = (chunk.scores - lse[:, rows, None]).exp_()
            eta = weights.sum(dim=-1).clamp_(max=1)
            before = out[:, rows]
            gained = eta[:, :, None] * opened[:, group[chunk.rows]]
            if self._masks_sinks:
                after = before.to(wide) - by_group(weights, sink_values) + gained
            else:
                after = (before.to(wide) + gained) / (1 + eta[:, :, None])
            edited = eta > 0
            out[:, rows] = torch.where(edited[:, :, None], after.to(out.dtype), before)
            edit.eta[:, rows], edit.edited[:, rows] = eta, edited


class AttentionRemasking(_Opening):
    """`ar`: what an image's rows give to sinks goes to grounded tokens of later images (METHODS 4, Eq. 10).

    Rows with nothing to open (text, generated tokens, the last image unless its own tokens are opened) or
    without a sink before them stay as they are.

    Args:
        links: ``later_images``, or ``later_tokens``: a row's own image is opened too, behind the row.
        empty_rows: ``keep``, or ``mask``: rows with nothing to open, generated tokens too, lose their sinks
            as by `MaskOnly`.

    Raises:
        ValueError: another `links` or `empty_rows`.
    """

    name = "ar"
    _masks_sinks = True

    def __init__(self, *, links: str = "later_images", empty_rows: str = "keep") -> None:
        super().__init__(links=links)
        if empty_rows not in EMPTY_ROWS:
            raise ValueError(f"`empty_rows` must be one of {', '.join(EMPTY_ROWS)}, got '{empty_rows}'")
        self.empty_rows = empty_rows
        self._masks_empty_rows = empty_rows == "mask"

    def settings(self) -> dict[str, Any]:
        """`links` and `empty_rows`."""
        return {**super().settings(), "empty_rows": self.empty_rows}

    def decode(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Ordinary, or without sinks for ``empty_rows=mask``; see `Intervention.decode`."""
        if self._masks_empty_rows:
            return _decode_without_sinks(query, key, value, view, _sinks(self, view, query), scale=scale)
        return super().decode(query, key, value, view, scale=scale)

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """See `Intervention.generated_weights`."""
        weights = super().generated_weights(query, key, view, doc, scale=scale)
        if not self._masks_empty_rows:
            return weights
        return _weights_without(weights, _cached_sinks(self, view, query, doc, key.shape[1]))


class UnmaskOnly(_Opening):
    """`unmask_only`: the links of `ar` are opened with the mass that sinks have, and no sink is masked.

    Rows are renormalised over 1 + eta (METHODS 4). Decoding is ordinary.

    Args:
        links: as of `AttentionRemasking`.

    Raises:
        ValueError: another `links`.
    """

    name = "unmask_only"
    _masks_sinks = False


class MaskOnly(Intervention):
    """`mask_only`: no row sees a sink, text and generated tokens neither; rows are renormalised (METHODS 4).

    A row with less than `LEAST_LEFT` of its attention on other keys stays as it is, and is counted.
    """

    name = "mask_only"
    needs = frozenset({SINKS})
    recorded = True

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`; a doc without sinks is that of `ordinary_prefill`, bit for bit.

        Raises:
            ValueError: no sinks in `view`.
        """
        sinks = _sinks(self, view, query)
        has_sinks = sinks.any(dim=1).tolist()
        edits = [_Edit.none(row) for row in query]
        out = torch.zeros_like(query)
        for b, layout in enumerate(view.layouts):
            if has_sinks[b]:
                doc = (query[b], key[b], value[b])
                out[b], edits[b] = _without_sinks(*doc, layout, sinks[b], scale=scale, seen=view.seen(b))
        others_index = torch.stack([edit.skipped for edit in edits]) | ~sinks.any(dim=1)[:, None, None]
        if bool(others_index.any()):
            plain = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
            out = torch.where(others_index[..., None], plain, out)
        if view.record is not None:
            view.record.add_layer(sinks, None)
            for b, layout in enumerate(view.layouts):
                keys = layout.is_token(sinks.device) & ~sinks[b]
                _enter(view.record, b, layout, edits[b], keys, None, view.seen(b))
        return out

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        weights = super().weights(query, key, view, doc, rows, scale=scale)
        return _weights_without(weights, _sinks(self, view, query)[doc])

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """See `Intervention.generated_weights`."""
        weights = super().generated_weights(query, key, view, doc, scale=scale)
        return _weights_without(weights, _cached_sinks(self, view, query, doc, key.shape[1]))

    def decode(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Without sinks; see `Intervention.decode`."""
        return _decode_without_sinks(query, key, value, view, _sinks(self, view, query), scale=scale)


class _Edit(NamedTuple):
    """What happens to the rows of one doc, each (H, N).

    Attributes:
        eta: share of the attention that is on sinks, where it was needed.
        edited: True = the row changes.
        skipped: True = too little is left to mask it.
    """

    eta: Tensor
    edited: Tensor
    skipped: Tensor

    @classmethod
    def none(cls, query: Tensor) -> "_Edit":
        """No edit of a query (H, N, D)."""
        eta = torch.zeros(query.shape[:2], dtype=accumulator(query.dtype), device=query.device)
        return cls(eta, *(torch.zeros_like(eta, dtype=torch.bool) for _ in range(2)))

    def filled(self, other: "_Edit", rows: Tensor) -> "_Edit":
        """Another's in `rows`, bool (N)."""
        return _Edit(*(torch.where(rows, theirs, ours) for ours, theirs in zip(self, other, strict=True)))


def _without_sinks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    sinks: Tensor,
    *,
    scale: float,
    seen: Seen | None,
) -> tuple[Tensor, _Edit]:
    """Each row of one doc over the keys that are not sinks; (H, N, D), not to be used where `skipped`."""
    wide = accumulator(query.dtype)
    in_row = layout.is_token(query.device)
    sink_tokens, others_index = sinks.nonzero()[:, 0], (in_row & ~sinks).nonzero()[:, 0]
    out = torch.zeros_like(query)
    rest = torch.full(query.shape[:2], float("-inf"), dtype=wide, device=query.device)
    if len(others_index):
        others = (query[:, others_index], key[:, others_index], value[:, others_index])
        if seen is None:
            part = attend_with_lse(*(x[None] for x in others), scale=scale, causal=True)
            out[:, others_index], rest[:, others_index] = part.out[0], part.lse[0]
        else:
            out[:, others_index] = attend_seen(*others, others_index, others_index, seen, scale=scale)
            for chunk in scores_in_chunks(*others[:2], others_index, others_index, scale=scale, seen=seen):
                rest[:, others_index[chunk.rows]] = chunk.scores.logsumexp(dim=-1)
        kept_values = value[:, others_index].to(wide)
        for chunk in scores_in_chunks(
            query[:, sink_tokens], key[:, others_index], sink_tokens, others_index, scale=scale, seen=seen
        ):
            rows = sink_tokens[chunk.rows]
            rest[:, rows] = chunk.scores.logsumexp(dim=-1)
            out[:, rows] = by_group(chunk.scores.softmax(dim=-1), kept_values).to(out.dtype)
    rows = in_row.nonzero()[:, 0]
    lost = torch.full_like(rest, float("-inf"))
    for chunk in scores_in_chunks(
        query[:, rows], key[:, sink_tokens], rows, sink_tokens, scale=scale, seen=seen
    ):
        lost[:, rows[chunk.rows]] = chunk.scores.logsumexp(dim=-1)
    return out, _masked(lost, rest, in_row)


def _masked(lost: Tensor, rest: Tensor, in_row: Tensor) -> _Edit:
    """The edit of rows by the log-sum-exp of their scores over sinks and over other keys.

    1 - eta is the sigmoid of rest - lost: exact where eta is near 1.
    """
    eta, remains = (lost - rest).sigmoid(), (rest - lost).sigmoid()
    skipped = in_row & (remains < LEAST_LEFT)
    return _Edit(eta, in_row & ~skipped & (eta > 0), skipped)


def _decode_without_sinks(
    query: Tensor, key: Tensor, value: Tensor, view: LayerView, sinks: Tensor, *, scale: float
) -> Tensor:
    """One generated token of each doc over all its keys but padding and sinks; shapes as `decode_step`."""
    plain = ordinary_decode(query, key, value, view.layouts, view.base, scale=scale)
    wide = accumulator(query.dtype)
    rows, heads, _, width = query.shape
    seen = cached(key, view.layouts, view.base)
    dropped = 0 if view.base is None else view.base.key_offset
    masked = on_cache(sinks, key.shape[2], dropped=dropped, generated=False)
    grouped = query.to(wide).reshape(rows, key.shape[1], -1, width)
    scores = ((grouped @ key.to(wide).transpose(2, 3)) * scale).reshape(rows, heads, -1)
    lost = scores.masked_fill(~(seen & masked)[:, None], float("-inf")).logsumexp(dim=-1)
    scores = scores.masked_fill_(~(seen & ~masked)[:, None], float("-inf"))
    edit = _masked(lost, scores.logsumexp(dim=-1), torch.ones_like(lost, dtype=torch.bool))
    weights = scores.softmax(dim=-1).reshape(rows, key.shape[1], -1, key.shape[2])
    out = (weights @ value.to(wide)).reshape(query.shape).to(query.dtype)
    if view.record is not None:
        nonzeros = (seen & ~masked).sum(dim=-1, keepdim=True)
        view.record.add_generated(eta=edit.eta, edited=edit.edited, skipped=edit.skipped, nonzeros=nonzeros)
    return torch.where(edit.edited[:, :, None, None], out, plain)


def _enter(
    record: EditRecord,
    b: int,
    layout: Layout,
    edit: _Edit,
    keys: Tensor,
    link: Links | None,
    seen: Seen | None,
) -> None:
    """Enter the rows of doc `b` in the batch's record; `keys`: bool (N), those that keep a weight."""
    nonzeros, opened = keys.cumsum(dim=0), torch.zeros_like(keys, dtype=torch.long)
    if seen is not None:
        tokens = torch.arange(layout.padding, layout.end, device=keys.device)
        for chunk in chunks(tokens, tokens, seen):
            counted = chunk.mask & keys[layout.tokens][chunk.keys]
            nonzeros[tokens[chunk.rows]] = counted.sum(dim=1)
    if link is not None:
        opened[link.rows] = link.counts
        if seen is not None:  # opened keys that the row sees anyway are counted once
            for chunk in chunks(link.rows, link.keys, seen):
                opens = torch.arange(len(link.keys), device=keys.device) >= link.start[chunk.rows, None]
                twice = (chunk.mask & opens[:, chunk.keys]).sum(dim=1)
                nonzeros[link.rows[chunk.rows]] -= twice
        touched = edit.edited.any(dim=0)[link.rows]
        most = torch.zeros(len(layout.images), dtype=torch.long, device=keys.device)
        most.scatter_reduce_(0, link.image, link.counts * touched, "amax")
        record.add_opened(b, most.sum())
    record.add_prompt(
        b,
        layout,
        layout.image_numbers(keys.device) >= 0,
        eta=edit.eta,
        edited=edit.edited,
        skipped=edit.skipped,
        nonzeros=nonzeros + opened,
        opened=opened,
    )


def _weights_without(weights: Tensor, sinks: Tensor) -> Tensor:
    """Weights (..., S) without those on sinks, bool (S), renormalised; unchanged where too little is left."""
    left = weights * ~sinks
    remains = left.sum(dim=-1, keepdim=True)
    return torch.where(remains < LEAST_LEFT, weights, left / remains.clamp(min=LEAST_LEFT))


def _cached_sinks(intervention: Intervention, view: LayerView, query: Tensor, doc: int, keys: int) -> Tensor:
    """bool (S): the prompt's sinks among the keys of a doc's cache."""
    dropped = 0 if view.base is None else view.base.key_offset
    sinks = _sinks(intervention, view, query)[doc, None]
    return on_cache(sinks, keys, dropped=dropped, generated=False)[0]


def _sinks(intervention: Intervention, view: LayerView, query: Tensor) -> Tensor:
    if view.sinks is None:
        raise ValueError(f"mask={intervention.name} needs `LayerView.sinks`, got None")
    return view.sinks.to(query.device)


def _relevance(intervention: Intervention, view: LayerView, query: Tensor) -> Relevance:
    if view.relevance is None:
        raise ValueError(f"mask={intervention.name} needs `LayerView.relevance`, got None")
    return Relevance(*(x.to(query.device) for x in view.relevance))
