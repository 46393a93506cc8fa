"""An observer that sums attention over groups of tokens, in chunks of rows (METHODS 8).

A chunk of weights (H, R, N) times the keys' indicator (N, G) gives the mass of each row on each group; from
it come the sums over groups of rows and the entropy over images. No N x N tensor is made, and memory is
linear in N. Weights are those after the intervention.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from model_adapters.base_mask import on_cache
from model_adapters.diagnostics.groups import TEXTS, TokenGroups
from model_adapters.engine import Observer
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.mass import accumulator, by_group
from model_adapters.interventions.options import SINKS
from model_adapters.layout import Layout

_WEIGHTS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}


@dataclass(frozen=True, eq=False)
class DocSums:
    """The sums of one doc; L layers of the decoder, H heads, Q groups of rows, G of keys (`groups`).

    Attributes:
        images: M.
        mass: float64 (L, H, Q, G), attention weights summed over rows and keys.
        rows: int64 (Q), rows of each group; of the answer those that were fed back.
        entropy: float64 (L, Q), H_norm summed over the rows that have one (Eq. 8), weights averaged over
            heads, negative mass as 0; 0 with fewer than two images.
        entropy_rows: int64 (L, Q), rows that have one. The others have no visual mass.
        tokens_of: int64 (G), tokens of each group of keys, where no token is a sink.
        sinks: bool (L, N), the sinks of each layer; None if they were not looked for.
        tokens: float64 (L, Q, N), attention to each token of the prompt summed over rows, its mean over
            heads; None if it was not requested.
    """

    images: int
    mass: Tensor
    rows: Tensor
    entropy: Tensor
    entropy_rows: Tensor
    tokens_of: Tensor
    sinks: Tensor | None = None
    tokens: Tensor | None = None

    def on_cpu(self) -> "DocSums":
        """The same on the CPU."""
        there: dict[str, Any] = {k: v.cpu() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **there)


class AttentionSums(Observer):
    """An `engine.Observer`: the sums of each doc of the batch that was announced last.

    Args:
        layers: those that it watches.
        depth: layers of the decoder, L.
        sinks: keys are split by sinks, which the engine must find.
        tokens: sums for each token too.

    Attributes:
        docs: the sums of each doc of the batch.
        layouts: of the batch, as the decoder got it.
    """

    def __init__(
        self, layers: frozenset[int], *, depth: int, sinks: bool = False, tokens: bool = False
    ) -> None:
        self.layers = layers
        self.needs = frozenset({SINKS}) if sinks else frozenset()
        self.depth = depth
        self.tokens = tokens
        self.docs: list[DocSums] = []
        self.layouts: tuple[Layout, ...] = ()
        self._groups: list[TokenGroups] = []
        self._inside: Sequence[Sequence[Tensor] | None] = ()

    def begin(self, inside: Sequence[Sequence[Tensor] | None]) -> None:
        """Announce a batch, of one doc if its answers' rows are to be counted: rows do not end together.

        Args:
            inside: for each doc, for each image bool (P,), True = the token overlaps a truth box; None: no
                boxes are known.
        """
        self._inside, self._groups, self.docs = inside, [], []

    def _start(self, view: LayerView, heads: int, device: torch.device) -> None:
        """Make the sums at the first layer of a batch, whose layouts are then known."""
        self.layouts = view.layouts
        self._groups = [
            TokenGroups.of(layout, inside, device=device)
            for layout, inside in zip(view.layouts, self._inside, strict=True)
        ]
        self.docs = [self._empty(groups, heads) for groups in self._groups]

    def _empty(self, groups: TokenGroups, heads: int) -> DocSums:
        device, length = groups.rows.device, len(groups.rows)
        q, g = groups.images + len(TEXTS) + 1, 4 * groups.images + len(TEXTS) + 1
        shape = (self.depth, q)
        in_row = groups.rows >= 0
        return DocSums(
            groups.images,
            torch.zeros(self.depth, heads, q, g, dtype=torch.float64, device=device),
            torch.bincount(groups.rows[in_row], minlength=q),
            torch.zeros(shape, dtype=torch.float64, device=device),
            torch.zeros(shape, dtype=torch.int64, device=device),
            torch.bincount(groups.keys[in_row], minlength=g),
            torch.zeros(self.depth, length, dtype=torch.bool, device=device) if SINKS in self.needs else None,
            torch.zeros(*shape, length, dtype=torch.float64, device=device) if self.tokens else None,
        )

    def observe(
        self, query: Tensor, key: Tensor, view: LayerView, attending: Intervention, *, scale: float
    ) -> None:
        """See `engine.Observer`."""
        if not self._groups:
            self._start(view, query.shape[1], query.device)
        for b, layout in enumerate(view.layouts):
            sums, groups = self.docs[b], self._groups[b]
            sinks = self._sinks(view, b)
            if sums.sinks is not None and sinks is not None:
                sums.sinks[view.layer] = sinks
            indicator = groups.indicator(sinks, dtype=accumulator(query.dtype)).to(query.device)
            at_once = _WEIGHTS_AT_ONCE.get(query.device.type, _WEIGHTS_AT_ONCE["cuda"])
            step = max(1, at_once // (query.shape[1] * layout.length))
            causal = _Causal(key[b], scale) if _is_plain(attending, view) else None
            for first in range(layout.padding, layout.end, step):
                rows = torch.arange(first, min(first + step, layout.end), device=query.device)
                chunk = query[b, :, rows[0] : rows[-1] + 1]
                if causal is not None:
                    weights = causal.weights(chunk, layout.padding, first)
                    keys = slice(layout.padding, first + len(rows))
                else:
                    weights = attending.weights(chunk, key[b], view, b, rows, scale=scale)
                    keys = slice(0, layout.length)
                self._add(
                    sums, view.layer, groups.rows[first : first + len(rows)], weights, indicator[keys], keys
                )

    def observe_generated(
        self, query: Tensor, key: Tensor, view: LayerView, attending: Intervention, *, scale: float
    ) -> None:
        """See `engine.Observer`."""
        for b in range(len(view.layouts)):
            sums, groups = self.docs[b], self._groups[b]
            weights = attending.generated_weights(query[b], key[b], view, b, scale=scale)[:, None]
            indicator = groups.indicator(self._sinks(view, b), dtype=weights.dtype).to(query.device)
            dropped = 0 if view.base is None else view.base.key_offset
            in_cache = on_cache(indicator.T, key.shape[2], dropped=dropped, generated=False).T.clone()
            in_cache[max(0, len(indicator) - dropped) :, -1] = 1
            answer = torch.full((1,), groups.images + len(TEXTS), device=groups.rows.device)
            if view.layer == min(self.layers):
                sums.rows[answer] += 1
            prompt = slice(min(dropped, len(indicator)), len(indicator))
            self._add(sums, view.layer, answer, weights, in_cache, prompt)

    def _sinks(self, view: LayerView, doc: int) -> Tensor | None:
        if SINKS not in self.needs:
            return None
        if view.sinks is None:
            raise ValueError("these sums need `LayerView.sinks`, got None")
        return view.sinks[doc].to(self._groups[doc].keys.device)

    def _add(
        self,
        sums: DocSums,
        layer: int,
        groups: Tensor,
        weights: Tensor,
        indicator: Tensor,
        prompt: slice,
    ) -> None:
        """Add a chunk.

        Args:
            sums: of the doc.
            layer: from 0.
            groups: int (R), of the rows.
            weights: (H, R, S).
            indicator: (S, G), of the keys.
            prompt: the tokens of the prompt that the first keys are; generated tokens may follow.
        """
        device = sums.mass.device  # of the first layer, where a model's layers are on several
        by_key = (weights @ indicator).to(device)
        sums.mass[layer].index_add_(1, groups, by_key.double())
        if sums.tokens is not None:
            mean = weights.mean(dim=0, dtype=torch.float64)[:, : prompt.stop - prompt.start].to(device)
            sums.tokens[layer, :, prompt].index_add_(0, groups, mean)
        if sums.images < 2:
            return
        of_images = by_key[:, :, len(TEXTS) : len(TEXTS) + 4 * sums.images].double().mean(dim=0)
        per_image = of_images.reshape(-1, sums.images, 4).sum(dim=2).clamp_(min=0)
        visual = per_image.sum(dim=1)
        has = visual > 0
        share = per_image / torch.where(has, visual, 1)[:, None]
        entropy = torch.special.entr(share).sum(dim=1) / math.log(sums.images)
        sums.entropy[layer].index_add_(0, groups, torch.where(has, entropy, 0))
        sums.entropy_rows[layer].index_add_(0, groups, has.long())


def _is_plain(attending: Intervention, view: LayerView) -> bool:
    """Causal softmax attention: nothing is edited, and the base mask is plain."""
    return view.base is None and type(attending).weights is Intervention.weights


class _Causal:
    """Causal weights of one doc, each chunk over no more keys than its last row sees.

    Args:
        key: (KV, N, D).
        scale: factor on the scores.
    """

    def __init__(self, key: Tensor, scale: float) -> None:
        self._turned = key.to(accumulator(key.dtype)).transpose(1, 2) * scale

    def weights(self, query: Tensor, start: int, first: int) -> Tensor:
        """(H, R, first + R - start), of the rows from `first` over the keys from `start`.

        Args:
            query: (H, R, D), of consecutive rows.
            start: the first token that is no padding.
            first: the first row.
        """
        end = first + query.shape[1]
        scores = by_group(query.to(self._turned.dtype), self._turned[:, :, start:end])
        ahead = torch.ones(query.shape[1], query.shape[1], dtype=torch.bool, device=query.device).triu(1)
        scores[:, :, first - start :].masked_fill_(ahead, float("-inf"))
        return scores.softmax(dim=-1)
