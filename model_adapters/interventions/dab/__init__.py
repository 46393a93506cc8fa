"""`mask=dab`: text rows attend more evenly to the images (METHODS 5)."""

from typing import TYPE_CHECKING

from pydantic import Field

from model_adapters.interventions.options import FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class DabOptions(MaskOptions):
    """Arguments of `mask=dab`."""

    free_number = FreeNumber("alpha", least_effect=0.0, grid=(0.0, 0.25, 0.5, 0.75, 1.0))

    alpha: float = Field(
        default=0.5,
        ge=0,
        allow_inf_nan=False,
        description="how far the attention on each image moves to the mean over images: 1 is all the way",
    )
    min_visual_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="a row is edited if this share of its attention is on images",
    )

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.dab.kernel import AttentionBalancing

        return AttentionBalancing(alpha=self.alpha, min_visual_share=self.min_visual_share)
