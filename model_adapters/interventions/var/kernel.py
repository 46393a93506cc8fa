"""Visual attention redistribution: sinks give to the other visual tokens, in text rows (METHODS 5).

With I the mass of a row on visual tokens, a_v and a_t that on visual and on text sinks, o_n, s_v and s_t the
softmax outputs over visual tokens that are no sinks, visual sinks and text sinks, an edited row is
O + (1 - p)(a_v + a_t) o_n - (1 - p)(a_v s_v + a_t s_t): its weights on sinks times p, and those on the other
visual tokens times 1 + (1 - p)(a_v + a_t) / (I - a_v).
"""

from typing import Any

import torch
from torch import Tensor

from model_adapters.interventions.options import SINKS, TEXT_SINKS
from model_adapters.interventions.text_rows import Edited, KeyGroups, TextRowEdit

HEADS = ("selected", "all")
VARIANTS = ("paper", "released")
LEAST_LEFT = 1e-6
"""A row with less than this on visual tokens that are no sinks has nothing to give the attention to."""


class AttentionRedistribution(TextRowEdit):
    """`var`: sinks keep a share p of a row's attention, the rest goes to visual tokens that are no sinks.

    A row of a head is edited if its layer has a visual sink, at most `rho` of its attention on visual tokens
    is on sinks, and at least `min_visual_share` of its attention is on visual tokens.

    Args:
        p: 0-1; 1 changes nothing.
        rho: 0-1.
        min_visual_share: 0-1.
        rows: of `ROWS`.
        heads: ``selected``, or ``all``: whatever `rho` and `min_visual_share` say.
        variant: ``paper`` or ``released``, for the record: they differ in the layers that are edited.

    Raises:
        ValueError: a value out of its range.
    """

    name = "var"
    needs = frozenset({SINKS, TEXT_SINKS})

    def __init__(
        self,
        *,
        p: float = 0.6,
        rho: float = 0.5,
        min_visual_share: float = 0.2,
        rows: str = "after_last",
        heads: str = "selected",
        variant: str = "paper",
    ) -> None:
        super().__init__(rows=rows)
        for name, share in (("p", p), ("rho", rho), ("min_visual_share", min_visual_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be within 0-1, got {share}")
        for name, value, known in (("heads", heads, HEADS), ("variant", variant, VARIANTS)):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got '{value}'")
        self.p, self.rho, self.min_visual_share = p, rho, min_visual_share
        self.selects, self.variant = heads == "selected", variant

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "variant": self.variant,
            "p": self.p,
            "rho": self.rho,
            "min_visual_share": self.min_visual_share,
            "rows": self.rows,
            "heads": "selected" if self.selects else "all",
        }

    def edit(self, weights: Tensor, seen: Tensor, keys: KeyGroups) -> Edited:
        """See `TextRowEdit.edit`."""
        assert keys.sinks is not None
        assert keys.text_sinks is not None
        others = (keys.image >= 0) & ~keys.sinks
        groups = torch.stack([others, keys.sinks, keys.text_sinks], dim=-1).to(weights.dtype)
        on_others, on_sinks, on_text = (weights @ groups[:, None]).unbind(dim=-1)
        moved = (1 - self.p) * (on_sinks + on_text)
        edited = keys.sinks.any(dim=1)[:, None, None] & (moved > 0)
        if self.selects:
            visual = on_others + on_sinks
            edited = edited & (on_sinks / (visual + 1e-6) <= self.rho) & (visual >= self.min_visual_share)
        skipped = edited & (on_others < LEAST_LEFT)
        edited = edited & ~skipped
        gain = 1 + moved / on_others.clamp(min=LEAST_LEFT)
        lost = (keys.sinks | keys.text_sinks)[:, None, None]
        factor = torch.where(others[:, None, None], gain[..., None], 1.0).masked_fill(lost, self.p)
        return Edited(weights * factor, edited, moved, skipped)
