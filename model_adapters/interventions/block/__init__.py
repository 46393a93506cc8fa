"""`mask=block`: an image's tokens see their own image only (METHODS 3)."""

from typing import TYPE_CHECKING

from pydantic import Field, StrictBool

from model_adapters.interventions.options import MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class BlockOptions(MaskOptions):
    """Arguments of `mask=block`."""

    default_layers = "second_half"

    prefix: StrictBool = Field(default=False, description="images also see the text before the first image")

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.block.kernel import BlockMask

        return BlockMask(prefix=self.prefix)
