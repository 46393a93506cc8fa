"""What interventions need beside the layouts, and the arguments that say how it is provided."""

from typing import Literal, Self

from pydantic import Field, StrictBool, model_validator

from mimic_eval.records import UserError
from model_adapters.arguments import Arguments
from model_adapters.interventions.options import DELIMITERS, RELEVANCE, ROLES, SINKS, TEXT_SINKS
from model_adapters.relevance import parse_relevance


class SinkOptions(Arguments):
    """How sinks are detected (METHODS 6)."""

    calibration: str | None = Field(
        default=None,
        description="a file of `mimic calibrate`; else the cache folder's",
    )
    score: Literal["ratio", "z"] = Field(default="ratio", description="how a sink is scored (METHODS 6)")
    tau: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="threshold of the score; 20 for `ratio`, calibrated for `z`",
    )
    allow_no_sinks: StrictBool = Field(default=False, description="run without any sink dimension")


class RelevanceOptions(Arguments):
    """Where relevance comes from (METHODS 7)."""

    relevance: str = Field(
        default="grounded_clip", description="which tokens are opened, and how much of each"
    )
    grounding: str | None = Field(default=None, description="folder or Hub id of Grounding DINO")
    clip: str | None = Field(default=None, description="folder or Hub id of CLIP")

    @model_validator(mode="after")
    def _models_are_used(self) -> Self:
        choice = parse_relevance(self.relevance)
        for key in ("grounding", "clip"):
            value = getattr(self, key)
            if value is not None and key not in choice.models:
                raise UserError(f"{key}={value} is not used by relevance={choice}: leave it out")
        return self


class RoleOptions(Arguments):
    """The doc's boxes and targets come with it: no arguments."""


class DelimiterOptions(Arguments):
    """The family says which tokens they are: no arguments."""


PROVIDERS: dict[str, type[Arguments]] = {
    SINKS: SinkOptions,
    TEXT_SINKS: SinkOptions,
    RELEVANCE: RelevanceOptions,
    ROLES: RoleOptions,
    DELIMITERS: DelimiterOptions,
}
"""By what `MaskOptions.needs` names."""
