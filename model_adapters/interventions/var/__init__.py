"""`mask=var`: attention on sinks goes to the other visual tokens, in text rows (METHODS 5)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from model_adapters.interventions.options import SINKS, TEXT_SINKS, FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class VarOptions(MaskOptions):
    """Arguments of `mask=var`."""

    needs = frozenset({SINKS, TEXT_SINKS})
    default_layers = "2:-1"
    free_number = FreeNumber("p", least_effect=1.0, grid=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

    p: float = Field(default=0.6, ge=0, le=1, description="share of their attention that sinks keep")
    rho: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="a row is edited if at most this share of its attention on images is on visual sinks",
    )
    min_visual_share: float = Field(
        default=0.2, ge=0, le=1, description="a row is edited if this share of its attention is on images"
    )
    rows: Literal["after_last", "after_first"] = Field(
        default="after_last",
        description="rows of text after the last image, or all after the first; generated tokens always",
    )
    heads: Literal["selected", "all"] = Field(
        default="selected", description="`all`: whatever `rho` and `min_visual_share` say"
    )
    variant: Literal["paper", "released"] = Field(
        default="paper", description="`released`: the last layer is edited too, as by the released code"
    )

    def usual_layers(self) -> str:
        """See `MaskOptions.usual_layers`: those of the variant."""
        return "2:" if self.variant == "released" else self.default_layers

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.var.kernel import AttentionRedistribution

        return AttentionRedistribution(
            p=self.p,
            rho=self.rho,
            min_visual_share=self.min_visual_share,
            rows=self.rows,
            heads=self.heads,
            variant=self.variant,
        )
