"""Which rows of a doc Attention Remasking and its halves edit, and their entry in the record."""

from typing import NamedTuple

import torch
from torch import Tensor

from model_adapters.base_mask import Seen, chunks
from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.mass import accumulator
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.remasking.links import Links
from model_adapters.layout import Layout


class Edit(NamedTuple):
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
    def none(cls, query: Tensor) -> "Edit":
        """No edit of a query (H, N, D)."""
        eta = torch.zeros(query.shape[:2], dtype=accumulator(query.dtype), device=query.device)
        return cls(eta, *(torch.zeros_like(eta, dtype=torch.bool) for _ in range(2)))

    def filled(self, other: "Edit", rows: Tensor) -> "Edit":
        """Another's in `rows`, bool (N)."""
        return Edit(*(torch.where(rows, theirs, ours) for ours, theirs in zip(self, other, strict=True)))


def enter(
    record: EditRecord,
    b: int,
    layout: Layout,
    edit: Edit,
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


def sinks_of(intervention: Intervention, view: LayerView, query: Tensor) -> Tensor:
    if view.sinks is None:
        raise ValueError(f"mask={intervention.name} needs `LayerView.sinks`, got None")
    return view.sinks.to(query.device)


def relevance_of(intervention: Intervention, view: LayerView, query: Tensor) -> Relevance:
    if view.relevance is None:
        raise ValueError(f"mask={intervention.name} needs `LayerView.relevance`, got None")
    return Relevance(*(x.to(query.device) for x in view.relevance))
