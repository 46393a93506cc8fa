"""`mask=none`: the base model."""

from typing import TYPE_CHECKING

from model_adapters.interventions.options import MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class NoneOptions(MaskOptions):
    """`mask=none` takes no arguments."""

    default_layers = "none"

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.none.kernel import NoIntervention

        return NoIntervention()
