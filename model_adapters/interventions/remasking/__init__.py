"""`mask=ar`, `mask_only`, `unmask_only`: Attention Remasking and its two halves (METHODS 4)."""

from math import inf
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from model_adapters.interventions.options import RELEVANCE, SINKS, FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention

_THRESHOLD = FreeNumber("tau", least_effect=inf, grid=(5.0, 10.0, 15.0, 20.0, 25.0))


class _WithLinks(MaskOptions):
    needs = frozenset({SINKS, RELEVANCE})
    free_number = _THRESHOLD

    links: Literal["later_images", "later_tokens"] = Field(
        default="later_images",
        description="what an image's rows are opened to: grounded tokens of later images, or later ones of "
        "the same image too",
    )


class RemaskingOptions(_WithLinks):
    """Arguments of `mask=ar`."""

    empty_rows: Literal["keep", "mask"] = Field(
        default="keep", description="`mask`: rows with nothing to open lose their sinks"
    )

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.remasking.kernel import AttentionRemasking

        return AttentionRemasking(links=self.links, empty_rows=self.empty_rows)


class UnmaskOnlyOptions(_WithLinks):
    """Arguments of `mask=unmask_only`."""

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.remasking.kernel import UnmaskOnly

        return UnmaskOnly(links=self.links)


class MaskOnlyOptions(MaskOptions):
    """`mask=mask_only` takes no arguments beside those of sinks."""

    needs = frozenset({SINKS})
    free_number = _THRESHOLD

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.remasking.masking import MaskOnly

        return MaskOnly()
