"""Attention Remasking and its halves as matrices (METHODS 4): the oracles of `kernel`."""

import torch
from torch import Tensor

from model_adapters.layout import Layout


def opened_links(layout: Layout, sinks: Tensor, grounded: Tensor, *, links: str = "later_images") -> Tensor:
    """U as a matrix: bool (N, N), True = row i may newly attend to key j (METHODS 4).

    Args:
        layout: of length N.
        sinks: bool (N).
        grounded: bool (N), G.
        links: ``later_images``, or ``later_tokens``: later tokens of the row's own image too.
    """
    opened = torch.zeros(layout.length, layout.length, dtype=torch.bool)
    for m, image in enumerate(layout.images):
        rows = image.indices()
        for later in layout.images[m if links == "later_tokens" else m + 1 :]:
            for j in later.indices().tolist():
                opened[rows[rows < j], j] = bool(grounded[j] and not sinks[j])
    return opened


def remasked_weights(
    alpha: Tensor,
    layout: Layout,
    sinks: Tensor,
    grounded: Tensor,
    score: Tensor,
    *,
    links: str = "later_images",
    empty_rows: str = "keep",
) -> Tensor:
    """alpha' of `ar` (METHODS 4, Eq. 9 and 10): (H, N, N).

    Args:
        alpha: (H, N, N), causal.
        layout: of length N.
        sinks: bool (N).
        grounded: bool (N), G.
        score: (N), c.
        links: as of `opened_links`.
        empty_rows: ``keep`` or ``mask``.
    """
    opened, eta, pi = _opening(alpha, layout, sinks, grounded, score, links)
    others = alpha.masked_fill(sinks, 0.0)
    rest = torch.nan_to_num(others / others.sum(dim=-1, keepdim=True))
    has_links = opened.any(dim=-1)[:, None]
    edited = torch.where(has_links & (eta > 0), (1 - eta) * rest + eta * pi, alpha)
    if empty_rows == "mask":
        return torch.where(has_links, edited, weights_without_sinks(alpha, sinks))
    return edited


def weights_with_links(
    alpha: Tensor,
    layout: Layout,
    sinks: Tensor,
    grounded: Tensor,
    score: Tensor,
    *,
    links: str = "later_images",
) -> Tensor:
    """alpha' of `unmask_only` (METHODS 4); arguments as `remasked_weights`."""
    opened, eta, pi = _opening(alpha, layout, sinks, grounded, score, links)
    return torch.where(opened.any(dim=-1)[:, None], (alpha + eta * pi) / (1 + eta), alpha)


def weights_without_sinks(alpha: Tensor, sinks: Tensor) -> Tensor:
    """alpha' of `mask_only` (METHODS 4): (H, N, N); rows with less than 1e-6 on other keys stay."""
    others = alpha.masked_fill(sinks, 0.0)
    left = others.sum(dim=-1, keepdim=True)
    return torch.where(left < 1e-6, alpha, others / left)


def _opening(
    alpha: Tensor, layout: Layout, sinks: Tensor, grounded: Tensor, score: Tensor, links: str
) -> tuple[Tensor, Tensor, Tensor]:
    """U (N, N), eta (H, N, 1) and pi (N, N)."""
    opened = opened_links(layout, sinks, grounded, links=links).to(alpha.device)
    eta = alpha[:, :, sinks].sum(dim=-1, keepdim=True)
    raised = score.to(alpha.dtype).exp() * opened
    return opened, eta, torch.nan_to_num(raised / raised.sum(dim=-1, keepdim=True))
