"""`mask=orders`: logits averaged over cyclic shifts of a doc's images (METHODS 5)."""

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from mimic_eval.records import UserError
from model_adapters.interventions.options import MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class OrdersOptions(MaskOptions):
    """Arguments of `mask=orders`."""

    default_layers = "none"

    shifts: str = Field(
        default="all",
        description="passes over a doc, each with its images shifted cyclically: `all`, or a number of "
        "shifts spread evenly from the doc's order on",
    )

    @field_validator("shifts", mode="before")
    @classmethod
    def _shifts(cls, value: Any) -> str:
        text = str(value)
        if text == "all" or (text.isdecimal() and text.isascii() and 0 < int(text) < 10**6):
            return text
        raise UserError(f"shifts must be all or an integer of at least 1, got '{text:.60}'")

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.orders.kernel import Orders

        return Orders(shifts=None if self.shifts == "all" else int(self.shifts))
