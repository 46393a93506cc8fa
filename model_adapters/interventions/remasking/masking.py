"""`mask_only`, and the rows that `ar` masks: attention without sinks (METHODS 4).

(O_i - E_i) / (1 - eta_i) loses its digits where eta is near 1, so it is computed as what it equals: causal
attention over the sequence without its sinks, and the few rows of the sinks themselves over the keys that
are left.
"""

import torch
from torch import Tensor

from model_adapters.base_mask import Seen, attend_seen, cached, on_cache, ordinary_decode, ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.mass import accumulator, attend_with_lse, by_group, scores_in_chunks
from model_adapters.interventions.options import SINKS
from model_adapters.interventions.remasking.edits import Edit, enter, sinks_of
from model_adapters.layout import Layout

LEAST_LEFT = 1e-6
"""A row with less than this share of its attention on other keys than sinks is not masked (METHODS 4)."""


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
        sinks = sinks_of(self, view, query)
        has_sinks = sinks.any(dim=1).tolist()
        edits = [Edit.none(row) for row in query]
        out = torch.zeros_like(query)
        for b, layout in enumerate(view.layouts):
            if has_sinks[b]:
                doc = (query[b], key[b], value[b])
                out[b], edits[b] = without_sinks(*doc, layout, sinks[b], scale=scale, seen=view.seen(b))
        others_index = torch.stack([edit.skipped for edit in edits]) | ~sinks.any(dim=1)[:, None, None]
        if bool(others_index.any()):
            plain = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
            out = torch.where(others_index[..., None], plain, out)
        if view.record is not None:
            view.record.add_layer(sinks, None)
            for b, layout in enumerate(view.layouts):
                keys = layout.is_token(sinks.device) & ~sinks[b]
                enter(view.record, b, layout, edits[b], keys, None, view.seen(b))
        return out

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        weights = super().weights(query, key, view, doc, rows, scale=scale)
        return weights_without(weights, sinks_of(self, view, query)[doc])

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """See `Intervention.generated_weights`."""
        weights = super().generated_weights(query, key, view, doc, scale=scale)
        return weights_without(weights, cached_sinks(self, view, query, doc, key.shape[1]))

    def decode(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """Without sinks; see `Intervention.decode`."""
        return decode_without_sinks(query, key, value, view, sinks_of(self, view, query), scale=scale)


def without_sinks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    sinks: Tensor,
    *,
    scale: float,
    seen: Seen | None,
) -> tuple[Tensor, Edit]:
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


def _masked(lost: Tensor, rest: Tensor, in_row: Tensor) -> Edit:
    """The edit of rows by the log-sum-exp of their scores over sinks and over other keys.

    1 - eta is the sigmoid of rest - lost: exact where eta is near 1.
    """
    eta, remains = (lost - rest).sigmoid(), (rest - lost).sigmoid()
    skipped = in_row & (remains < LEAST_LEFT)
    return Edit(eta, in_row & ~skipped & (eta > 0), skipped)


def decode_without_sinks(
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


def weights_without(weights: Tensor, sinks: Tensor) -> Tensor:
    """Weights (..., S) without those on sinks, bool (S), renormalised; unchanged where too little is left."""
    left = weights * ~sinks
    remains = left.sum(dim=-1, keepdim=True)
    return torch.where(remains < LEAST_LEFT, weights, left / remains.clamp(min=LEAST_LEFT))


def cached_sinks(intervention: Intervention, view: LayerView, query: Tensor, doc: int, keys: int) -> Tensor:
    """bool (S): the prompt's sinks among the keys of a doc's cache."""
    dropped = 0 if view.base is None else view.base.key_offset
    sinks = sinks_of(intervention, view, query)[doc, None]
    return on_cache(sinks, keys, dropped=dropped, generated=False)[0]
