"""`mask=delimiters`: the hidden states of the tokens between images are scaled (METHODS 5)."""

from typing import TYPE_CHECKING

from pydantic import Field

from model_adapters.interventions.options import DELIMITERS, FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class DelimiterOptions(MaskOptions):
    """Arguments of `mask=delimiters`."""

    needs = frozenset({DELIMITERS})
    default_layers = ":4"
    free_number = FreeNumber("scale", least_effect=1.0, grid=(1.0, 2.0, 4.0, 8.0, 16.0))

    scale: float = Field(
        default=8.0,
        gt=0,
        allow_inf_nan=False,
        description="factor on the hidden states of delimiters after each layer of `layers`",
    )

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.delimiters.kernel import DelimiterScaling

        return DelimiterScaling(scale=self.scale)
