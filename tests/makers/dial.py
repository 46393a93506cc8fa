"""A mask made for tests, whose number goes from no effect (0) to answers that are lost (1)."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from model_adapters.interventions.options import FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention

DIAL = "tests.makers.dial:DialOptions"


class DialOptions(MaskOptions):
    """Its image rows attend less the larger `amount` is."""

    free_number = FreeNumber("amount", 0.0, (0.0, 0.5, 1.0))

    amount: float = Field(default=1.0, ge=0, le=1, description="share of the attention's output that is lost")
    copies: int = Field(default=1, ge=1, description="another number")

    def build(self) -> "Intervention":
        from model_adapters.base_mask import ordinary_prefill
        from model_adapters.interventions.base import Intervention

        amount = self.amount

        class Dial(Intervention):
            name = "dial"

            def prefill(self, query: Any, key: Any, value: Any, view: Any, *, scale: float) -> Any:
                out = ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
                return out * (1 - amount)

            def settings(self) -> dict[str, Any]:
                return {"amount": amount}

        return Dial()
