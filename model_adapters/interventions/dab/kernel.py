"""Dynamic attention balancing: text rows attend more evenly to the images (METHODS 5).

With r_k the mass of a row on image k and N_k the image's tokens, an edited row is
O + alpha sum_k (mean_k r - r_k) mean(v over image k): every token of image k gains
alpha (mean_k r - r_k) / N_k.
"""

from typing import Any

import torch
from torch import Tensor

from model_adapters.interventions.text_rows import Edited, KeyGroups, TextRowEdit


class AttentionBalancing(TextRowEdit):
    """`dab`: the mass of a row on each image moves towards the mean over the images.

    Rows are text after the last image and generated tokens. A row of a head is edited if more than
    `min_visual_share` of its attention is on images and it sees two of them. Of an image that a sliding
    window cuts, only the tokens that the row sees count and change; an image that it does not see is left
    out of the mean. Weights may become negative, and are counted.

    Args:
        alpha: at least 0; 0 changes nothing.
        min_visual_share: 0-1.

    Raises:
        ValueError: a value out of its range.
    """

    name = "dab"

    def __init__(self, *, alpha: float = 0.5, min_visual_share: float = 0.2) -> None:
        super().__init__()
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"`alpha` must be at least 0, got {alpha}")
        if not 0 <= min_visual_share <= 1:
            raise ValueError(f"`min_visual_share` must be within 0-1, got {min_visual_share}")
        self.alpha, self.min_visual_share = alpha, min_visual_share

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {"alpha": self.alpha, "min_visual_share": self.min_visual_share}

    def edit(self, weights: Tensor, seen: Tensor, keys: KeyGroups) -> Edited:
        """See `TextRowEdit.edit`."""
        images = torch.arange(keys.images, device=weights.device)
        member = (keys.image[..., None] == images).to(weights.dtype)  # (B, S, M)
        tokens = seen.to(weights.dtype) @ member  # (B, R, M)
        mass = weights @ member[:, None]  # (B, H, R, M)
        count = (tokens > 0).sum(dim=-1)[:, None]  # (B, 1, R)
        mean = mass.sum(dim=-1) / count.clamp(min=1)
        gain = self.alpha * (mean[..., None] - mass) * (tokens > 0)[:, None]
        edited = (mass.sum(dim=-1) > self.min_visual_share) & (count > 1) & (gain != 0).any(dim=-1)
        added = (gain / tokens.clamp(min=1)[:, None]) @ member.transpose(1, 2)[:, None]
        return Edited(weights + added * seen[:, None], edited, gain.clamp(min=0).sum(dim=-1))

    def counts(self, made: Edited) -> dict[str, Tensor]:
        """Weights below 0, how much they are together, and the rows that have some."""
        below = made.weights.clamp(max=0).masked_fill(~made.edited[..., None], 0.0)
        return {
            "negative_weights": (below < 0).sum(dim=(1, 2, 3)),
            "rows_with_negative_weights": (below < 0).any(dim=-1).sum(dim=(1, 2)),
            "negative_mass": -below.double().sum(dim=(1, 2, 3)),
        }
