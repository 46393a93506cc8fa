"""What interventions need beside the layouts, and the arguments that say how it is provided."""

import math
from typing import Any, Literal, Self

from pydantic import Field, StrictBool, ValidationInfo, field_validator, model_validator

from mimic_eval.records import UserError, check_integer
from model_adapters.arguments import Arguments
from model_adapters.interventions.options import DELIMITERS, RELEVANCE, ROLES, SINKS, TEXT_SINKS
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.choice import BOX_THRESHOLD, TEXT_THRESHOLD, TOP

_MOST_SEGMENTS = 1000


class SinkOptions(Arguments):
    """How sinks are detected (METHODS 6)."""

    calibration: str | None = Field(
        default=None,
        description="a file of `mimic calibrate`; else the cache folder's",
    )
    calibrate: StrictBool = Field(
        default=True, description="make a calibration from 32 embedded docs if there is none"
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
    box_threshold: float = Field(
        default=BOX_THRESHOLD, description="Grounding DINO: a box must score more than this, 0-1"
    )
    text_threshold: float = Field(
        default=TEXT_THRESHOLD,
        description="Grounding DINO: and a word of the phrases must score more than this in it, 0-1",
    )
    sam: str | None = Field(default=None, description="folder or Hub id of SAM or SAM 2")
    top: int = Field(default=TOP, description="`sam_clip`: how many segments of each picture are used")
    clip: str | None = Field(default=None, description="folder or Hub id of CLIP")
    relevance_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="precision of Grounding DINO, SAM and CLIP"
    )

    @field_validator("box_threshold", "text_threshold", mode="before")
    @classmethod
    def _threshold(cls, value: Any, info: ValidationInfo) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 1:
            raise UserError(f"{info.field_name} must be a number within 0-1, got '{value}'")
        return number

    @field_validator("top", mode="before")
    @classmethod
    def _top(cls, value: Any) -> int:
        number = int(value) if str(value).isdecimal() else value
        return check_integer("top", number, least=1, most=_MOST_SEGMENTS)

    @model_validator(mode="after")
    def _all_is_used(self) -> Self:
        choice = parse_relevance(self.relevance)
        for key in sorted(self.model_fields_set - {"relevance", *choice.settings}):
            raise UserError(f"{key}={getattr(self, key)} is not used by relevance={choice}: leave it out")
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
