"""`mask=block`: an image's tokens see their own image only (METHODS 3)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, StrictBool, model_validator

from mimic_eval.records import UserError
from model_adapters.interventions.options import EffectiveLayers, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class BlockOptions(MaskOptions):
    """Arguments of `mask=block`."""

    default_layers = "second_half"

    prefix: StrictBool = Field(default=False, description="images also see the text before the first image")

    variant: Literal["paper", "released"] = Field(
        default="paper",
        description="`released`: as the released code, which masks only layers before the first one that "
        "`layers` does not name",
    )

    @model_validator(mode="after")
    def _prefix(self) -> "BlockOptions":
        if self.variant == "released" and self.prefix:
            raise UserError(
                "variant=released masks the text before the first image too: leave prefix=true out, or "
                "choose variant=paper"
            )
        return self

    def effective_layers(self, layers: frozenset[int]) -> EffectiveLayers:
        """See `MaskOptions.effective_layers`: those before the first that is not named (METHODS 3)."""
        if self.variant == "paper":
            return EffectiveLayers(layers)
        masked = frozenset(range(min(set(range(len(layers) + 1)) - layers)))
        return EffectiveLayers(
            masked,
            "the released code drops its mask at the first layer that is not named, and never restores it",
        )

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.block.kernel import BlockMask

        return BlockMask(prefix=self.prefix, variant=self.variant)
