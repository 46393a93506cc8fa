"""The value of ``relevance=``, parsed and checked."""

import math
from dataclasses import dataclass

from mimic_eval.records import UserError, nearest

RELEVANCES = ("attention", "clip", "degraded:P", "grounded_clip", "oracle", "uniform")
"""The forms of ``relevance=``; see `parse_relevance`."""

WITH_BOXES = ("grounded_clip", "oracle")
"""Sources whose G comes from boxes: others may borrow it."""


@dataclass(frozen=True)
class RelevanceChoice:
    """A source of relevance, as the user chose it.

    Attributes:
        name: attention, clip, degraded, grounded_clip, oracle or uniform.
        other: whose boxes are used (degraded, uniform), or None for the source's G.
        probability: degraded: that a box is moved or dropped.
    """

    name: str
    other: str | None = None
    probability: float = 0.0

    @property
    def boxes(self) -> str | None:
        """Whose boxes make G: ``oracle``, ``grounded_clip``, or None where every visual token is in G."""
        return self.name if self.name in WITH_BOXES else self.other

    @property
    def score(self) -> str:
        """What c is: ``clip``, ``attention`` or ``constant``."""
        if self.name in ("clip", "attention"):
            return self.name
        return "clip" if self.boxes == "grounded_clip" and self.name != "uniform" else "constant"

    @property
    def needs_places(self) -> bool:
        """Whether it must know which part of the picture a token shows."""
        return self.boxes is not None or self.score == "clip"

    @property
    def models(self) -> tuple[str, ...]:
        """The outside models that are run, by the argument that names each: ``grounding``, ``clip``."""
        used = {"grounding": self.boxes == "grounded_clip", "clip": self.score == "clip"}
        return tuple(name for name, needed in used.items() if needed)

    def __str__(self) -> str:
        """The form that records hold, e.g. ``degraded:0.25:oracle``."""
        parts = [self.name]
        if self.name == "degraded":
            parts.append(f"{self.probability:g}")
        return ":".join([*parts, self.other] if self.other else parts)


def parse_relevance(text: str) -> RelevanceChoice:
    """Read ``relevance=``.

    ``grounded_clip``, ``clip``, ``attention``, ``oracle``; ``uniform`` (all visual tokens) or
    ``uniform:OTHER`` (the tokens that OTHER grounds); ``degraded:P`` or ``degraded:P:OTHER``, P within 0-1.
    OTHER is a source with boxes: ``oracle`` (degraded's default) or ``grounded_clip``.

    Raises:
        UserError: an unknown name, or parts that do not belong to it.
    """
    name, *parts = text.split(":")
    names = [form.partition(":")[0] for form in RELEVANCES]
    if name not in names:
        raise UserError(nearest("relevance", name, names))
    probability = 0.0
    if name == "degraded":
        probability = _probability(parts.pop(0) if parts else "", text)
        parts = parts or ["oracle"]
    most = 1 if name in ("degraded", "uniform") else 0
    if len(parts) > most:
        raise UserError(f"relevance={text} has a part too many: ':{parts[-1]}'")
    if parts and parts[0] not in WITH_BOXES:
        line = nearest("source of boxes", parts[0], WITH_BOXES)
        raise UserError(f"relevance={text}: {line}")
    return RelevanceChoice(name, parts[0] if parts else None, probability)


def _probability(text: str, given: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UserError(f"relevance=degraded:P takes a probability within 0-1, got '{given}'")
    return value
