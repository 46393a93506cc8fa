"""`mask=knockout`: edges of attention between groups of tokens are blocked (METHODS 5)."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from mimic_eval.records import UserError
from model_adapters.heads import FORMS as HEADS
from model_adapters.heads import parse_heads, text_of_heads
from model_adapters.interventions.knockout.edges import FORM, needs_later_keys, parse_edges
from model_adapters.interventions.options import ROLES, MaskOptions

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention


class KnockoutOptions(MaskOptions):
    """Arguments of `mask=knockout`."""

    needs: ClassVar[frozenset[str]] = frozenset({ROLES})

    edges: str | None = Field(default=None, description=f"what is blocked: {FORM}")
    heads: str = Field(default="all", description=f"where it is blocked: {HEADS}")

    @field_validator("edges", mode="before")
    @classmethod
    def _edges(cls, value: Any) -> str:
        text = "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        parse_edges(text)
        return text

    @field_validator("heads", mode="before")
    @classmethod
    def _heads(cls, value: Any) -> str:
        text = text_of_heads(value) if isinstance(value, list | tuple | range) else str(value)
        parse_heads(text)
        return text

    @model_validator(mode="after")
    def _given(self) -> "KnockoutOptions":
        if self.edges is None:
            raise UserError(f"mask=knockout needs edges=, what is blocked: {FORM}")
        return self

    def check(self, *, causal: bool) -> None:
        """See `MaskOptions.check`: an edge to a later token, which a causal decoder does not have."""
        for edge in parse_edges(self.edges or "") if causal else ():
            if needs_later_keys(edge):
                raise UserError(
                    f"edges={edge} blocks nothing: the decoder is causal, and {edge.query} comes before "
                    f"{edge.key}"
                )

    def build(self) -> "Intervention":
        """See `MaskOptions.build`."""
        from model_adapters.interventions.knockout.kernel import Knockout

        return Knockout(parse_edges(self.edges or ""), heads=parse_heads(self.heads))
