"""`mask=sofa`: images also see later images, with a weight below 1 (METHODS 5)."""

from typing import TYPE_CHECKING

from pydantic import Field, StrictBool

from model_adapters.interventions.options import FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class SofaOptions(MaskOptions):
    """Arguments of `mask=sofa`."""

    default_layers = "::2"
    free_number = FreeNumber("sigma", least_effect=0.0, grid=(0.0, 0.25, 0.5, 0.75, 1.0))

    sigma: float = Field(
        default=0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="weight of a later image's token beside one that causal attention lets a row see, 0-1; 0 "
        "is `mask=none`",
    )
    own_image: StrictBool = Field(
        default=False, description="images also see their own later tokens, with the same weight"
    )

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.sofa.kernel import Sofa

        return Sofa(sigma=self.sigma, own_image=self.own_image)
