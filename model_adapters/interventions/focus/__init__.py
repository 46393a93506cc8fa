"""`mask=focus`: one pass for each image, the others replaced by noise (METHODS 5)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictBool, field_validator, model_validator

from mimic_eval.records import UserError
from mimic_eval.records.order import parse_seed
from model_adapters.interventions.options import FreeNumber, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention

Noise = Literal["imagenet_uniform", "gaussian", "uniform", "gray", "black"]


class FocusOptions(MaskOptions):
    """Arguments of `mask=focus`. METHODS' ``noise=shared`` is ``shared_noise=true`` with the usual noise."""

    default_layers = "none"
    free_number = FreeNumber("lambda", least_effect=0.0, grid=(0.0, 0.03, 0.1, 0.3, 1.0))

    lam: float = Field(
        default=0.1,
        alias="lambda",
        ge=0,
        allow_inf_nan=False,
        description="how much of the logits of the pass without any image is taken off",
    )
    noise: Noise = Field(default="imagenet_uniform", description="what replaces an image")
    shared_noise: StrictBool = Field(
        default=False,
        description="one noise picture per image for all passes over a doc (2M pictures, not M(M+1)); "
        "`noise=shared` is short for it",
    )
    noise_seed: int = Field(default=0, description="seed of the noise")
    cut: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="no token whose probability by the mean logits is below this share of the largest",
    )

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("noise") != "shared":
            return given
        if given.get("shared_noise", True) is not True:
            raise UserError("noise=shared and shared_noise=false disagree: leave one of them out")
        rest = {name: value for name, value in given.items() if name != "noise"}
        return {**rest, "shared_noise": True}

    @field_validator("noise_seed", mode="before")
    @classmethod
    def _seed(cls, value: Any) -> int:
        return parse_seed(str(value), "noise_seed")

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.focus.kernel import Focus

        return Focus(
            lam=self.lam,
            noise=self.noise,
            shared_noise=self.shared_noise,
            noise_seed=self.noise_seed,
            cut=self.cut,
        )
