"""Attention Remasking and its two halves (METHODS 4, Eq. 10), in closed form.

With causal attention O_i, a row's sink part E_i = sum over sinks j <= i of alpha_ij v_j (METHODS' eta_i s_i,
never divided) and v_m = sum over U_m of pi_mj v_j:

    ar           O_i - E_i + eta_i v_m
    unmask_only  (O_i + eta_i v_m) / (1 + eta_i)
    mask_only    (O_i - E_i) / (1 - eta_i)

`masking` has the last.
"""

from typing import Any

import torch
from torch import Tensor

from model_adapters.base_mask import Seen, ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.mass import accumulator, by_group, ordinary_with_lse, scores_in_chunks
from model_adapters.interventions.options import RELEVANCE, SINKS
from model_adapters.interventions.remasking.edits import Edit, enter, relevance_of, sinks_of
from model_adapters.interventions.remasking.links import LINKS, Links, find_links, suffix_means
from model_adapters.interventions.remasking.masking import (
    cached_sinks,
    decode_without_sinks,
    weights_without,
    without_sinks,
)

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
        sinks, relevance = sinks_of(self, view, query), relevance_of(self, view, query)
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
            edit = Edit.none(query[b])
            if has_sinks[b] and link is not None and lse is not None:
                doc = (query[b], key[b], value[b])
                self._open(out[b], lse[b], *doc, sinks[b], link, edit, scale=scale, seen=seen)
            if has_sinks[b] and self._masks_empty_rows:
                empty = torch.ones(layout.length, dtype=torch.bool, device=query.device)
                if link is not None:
                    empty[link.rows] = False
                doc = (query[b], key[b], value[b])
                masked, masked_edit = without_sinks(*doc, layout, sinks[b], scale=scale, seen=seen)
                out[b] = torch.where((masked_edit.edited & empty)[:, :, None], masked, out[b])
                edit = edit.filled(masked_edit, empty)
            if view.record is not None:
                in_row = layout.is_token(sinks.device)
                keys = in_row & ~sinks[b] if self._masks_sinks else in_row
                enter(view.record, b, layout, edit, keys, link, seen)
        return out

    def weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
    ) -> Tensor:
        """See `Intervention.weights`."""
        sinks, relevance = sinks_of(self, view, query)[doc], relevance_of(self, view, query)
        weights = super().weights(query, key, view, doc, rows, scale=scale)
        link = find_links(view.layouts[doc], sinks, relevance, doc, own_image=self.links == "later_tokens")
        position = torch.full((view.layouts[doc].length,), -1, device=query.device)
        if link is not None:
            position[link.rows] = torch.arange(len(link.rows), device=query.device)
        opens = (position[rows] >= 0).nonzero()[:, 0]
        if self._masks_empty_rows:
            kept = torch.ones_like(rows, dtype=torch.bool).index_fill_(0, opens, False).nonzero()[:, 0]
            weights[:, kept] = weights_without(weights[:, kept], sinks)
        if link is None or not len(opens):
            return weights
        start = link.start[position[rows[opens]]]
        later = torch.arange(len(link.keys), device=query.device) >= start[:, None]
        pi = link.score.expand_as(later).masked_fill(~later, float("-inf")).softmax(dim=-1)
        edited = weights if len(opens) == len(rows) else weights[:, opens]
        sink_tokens = sinks.nonzero()[:, 0]
        eta = edited[:, :, sink_tokens].sum(dim=-1, keepdim=True)
        if self._masks_sinks:
            edited[:, :, sink_tokens] = 0
        edited[:, :, link.keys] += (eta * pi).to(edited.dtype)
        if not self._masks_sinks:
            edited /= 1 + eta
        if len(opens) < len(rows):
            weights[:, opens] = edited
        return weights

    def _open(
        self,
        out: Tensor,
        lse: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor,
        link: "Links",
        edit: "Edit",
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
            return decode_without_sinks(query, key, value, view, sinks_of(self, view, query), scale=scale)
        return super().decode(query, key, value, view, scale=scale)

    def generated_weights(
        self, query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
    ) -> Tensor:
        """See `Intervention.generated_weights`."""
        weights = super().generated_weights(query, key, view, doc, scale=scale)
        if not self._masks_empty_rows:
            return weights
        return weights_without(weights, cached_sinks(self, view, query, doc, key.shape[1]))


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
