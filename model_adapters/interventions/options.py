"""What a user may say of an intervention: each has a class of options, which knows how to build it.

The classes are read before torch is imported, so that a wrong argument is refused at once.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model_adapters.arguments import Arguments

if TYPE_CHECKING:
    from model_adapters.interventions.base import Intervention

SINKS = "sinks"
"""Visual tokens with a massive activation (METHODS 6), in `LayerView.sinks`."""
TEXT_SINKS = "text_sinks"
"""Text tokens with a massive activation, the first token too, in `LayerView.text_sinks`."""
RELEVANCE = "relevance"
"""Grounded visual tokens and their relevance (METHODS 7), in `LayerView.relevance`."""
ROLES = "roles"
"""The doc's boxes and targets (METHODS 13), in `LayerView.queries`."""
DELIMITERS = "delimiters"
"""The tokens that mark where an image starts and ends (METHODS 5), in `LayerView.delimiters`."""


class EffectiveLayers(NamedTuple):
    """The layers that a mask changes.

    Attributes:
        layers: from 0.
        why: the reason, where they are not those that were named.
    """

    layers: frozenset[int]
    why: str = ""


class FreeNumber(NamedTuple):
    """The number of a method that papers choose on data, and `mimic tune` for a user.

    Attributes:
        argument: its name among the mask's arguments, or those of what it needs.
        least_effect: the value with the least effect, where the method changes nothing; infinite if it
            changes less the larger the value is.
        grid: the values that are tried unless a user names others.
    """

    argument: str
    least_effect: float
    grid: tuple[float, ...]


class MaskOptions(Arguments):
    """Arguments of one intervention; a subclass adds a field for each.

    Attributes:
        needs: what must be provided for it: of `SINKS`, `TEXT_SINKS`, `RELEVANCE`, `ROLES`, `DELIMITERS`.
            Each brings its provider's arguments.
        default_layers: where it applies unless ``layers=`` says so, as `parse_layers` reads it.
        free_number: what `mimic tune` chooses, or None if the method has no such number.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    default_layers: ClassVar[str] = "all"
    free_number: ClassVar[FreeNumber | None] = None

    def usual_layers(self) -> str:
        """`default_layers`, unless they depend on the arguments."""
        return self.default_layers

    def check(self, *, causal: bool) -> None:
        """Refuse what makes no sense for a decoder, before a checkpoint is loaded.

        Args:
            causal: no token sees text or another image behind it; False where that is not known.

        Raises:
            UserError: an argument that can have no effect.
        """

    def effective_layers(self, layers: frozenset[int]) -> "EffectiveLayers":
        """Where it really applies, of the layers that the user named or of the default ones."""
        return EffectiveLayers(layers)

    @abstractmethod
    def build(self) -> "Intervention":
        """The intervention with these arguments; torch is imported here."""
