"""Masks that add a bias to each score, and the materialised answer to them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model_adapters.heads import parse_heads
from model_adapters.interventions.base import Intervention
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.knockout.edges import parse_edges
from model_adapters.interventions.knockout.kernel import Knockout
from model_adapters.interventions.knockout.reference import blocked_pairs
from model_adapters.interventions.reference import weighted, weights_by_factors
from model_adapters.interventions.sofa.kernel import Sofa
from model_adapters.interventions.sofa.reference import factors
from model_adapters.layout import Layout

BLOCK = "image>other+image>prefix+image>between"
"""METHODS 5: block masking as edges, of a causal decoder."""


@dataclass(frozen=True)
class Case:
    """A mask, and the factor on exp(score) that it gives each row and key.

    Attributes:
        mask: ours.
        factor: from a layout and what the base model lets a row see, bool (N, N), to (N, N).
        heads: that it changes; None: all.
    """

    mask: Intervention
    factor: Callable[[Layout, Tensor], Tensor]
    heads: tuple[int, ...] | None = None

    def weights(self, query: Tensor, key: Tensor, layout: Layout, seen: Tensor, *, scale: float) -> Tensor:
        """(H, N, N), of query (H, N, D) and key (KV, N, D)."""
        changed = weights_by_factors(query, key, self.factor(layout, seen), scale=scale)
        if self.heads is None:
            return changed
        out = weights_by_factors(query, key, seen, scale=scale)
        out[list(self.heads)] = changed[list(self.heads)]
        return out

    def attention(self, qkv: tuple[Tensor, ...], layout: Layout, seen: Tensor, *, scale: float) -> Tensor:
        """(H, N, D)."""
        return weighted(self.weights(*qkv[:2], layout, seen, scale=scale), qkv[2])


def sofa(sigma: float, *, own_image: bool = False) -> Case:
    return Case(
        Sofa(sigma=sigma, own_image=own_image),
        lambda layout, seen: factors(layout, seen, sigma=sigma, own_image=own_image),
    )


def knockout(edges: str, *, heads: tuple[int, ...] | None = None) -> Case:
    chosen = None if heads is None else parse_heads("+".join(map(str, heads)))
    return Case(
        Knockout(parse_edges(edges), heads=chosen),
        lambda layout, seen: (seen & ~blocked_pairs(layout, edges)).double(),
        heads,
    )


CASES = {
    "sofa": sofa(0.5),
    "sofa_own_image": sofa(0.3, own_image=True),
    "sofa_full": sofa(1.0),
    "knockout_block": knockout(BLOCK),
    "knockout_itself": knockout("image>image+question>question+between>prefix"),
    "knockout_text": knockout("question>image[2]+last>prefix+image[3]>image[1]"),
    "knockout_heads": knockout("question>image+image>between", heads=(0, 3)),
}
BLOCKS = {
    prefix: Case(
        BlockMask(prefix=prefix), lambda layout, seen, prefix=prefix: block_mask(layout, prefix=prefix)
    )
    for prefix in (False, True)
}


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
