"""The value of ``relevance=``, parsed and checked."""

import math
from dataclasses import dataclass

from mimic_eval.records import UserError, nearest

RELEVANCES = ("attention", "clip", "degraded:P", "grounded_clip", "oracle", "sam_clip", "uniform")
"""The forms of ``relevance=``; see `parse_relevance`."""

WITH_BOXES = ("grounded_clip", "oracle")
"""Sources whose G comes from boxes: others may borrow it."""

WITH_REGIONS = (*WITH_BOXES, "sam_clip")
"""Sources whose G comes from boxes or segments."""


BOX_THRESHOLD, TEXT_THRESHOLD = 0.35, 0.25
"""Grounding DINO's defaults, which the paper uses."""

TOP = 5
"""Segments of a picture that `sam_clip` uses, by default."""

DTYPES = ("float32", "bfloat16", "float16")
"""Precisions of an outside model's matrix products."""


@dataclass(frozen=True)
class RelevanceChoice:
    """A source of relevance, as the user chose it.

    Attributes:
        name: attention, clip, degraded, grounded_clip, oracle, sam_clip or uniform.
        other: whose boxes or segments are used (degraded, uniform), or None for the source's G.
        probability: degraded: that a box is moved or dropped.
    """

    name: str
    other: str | None = None
    probability: float = 0.0

    @property
    def regions(self) -> str | None:
        """Whose boxes or segments make G: of `WITH_REGIONS`, or None where every visual token is in G."""
        return self.name if self.name in WITH_REGIONS else self.other

    @property
    def score(self) -> str:
        """What c is: ``clip``, ``attention`` or ``constant``."""
        if self.name in ("clip", "attention"):
            return self.name
        with_clip = self.regions in ("grounded_clip", "sam_clip")
        return "clip" if with_clip and self.name != "uniform" else "constant"

    @property
    def needs_places(self) -> bool:
        """Whether it must know which part of the picture a token shows."""
        return self.regions is not None or self.score == "clip"

    @property
    def models(self) -> tuple[str, ...]:
        """The outside models that are run, by the arguments that name them."""
        segments = self.regions == "sam_clip"  # ranked by CLIP, whatever the score
        used = {
            "grounding": self.regions == "grounded_clip",
            "sam": segments,
            "clip": segments or self.score == "clip",
        }
        return tuple(name for name, needed in used.items() if needed)

    @property
    def settings(self) -> tuple[str, ...]:
        """The arguments that it uses beside ``relevance``: its models, and numbers that choose regions."""
        numbers = {"grounding": ("box_threshold", "text_threshold"), "sam": ("top",)}
        used = [name for model in self.models for name in (model, *numbers.get(model, ()))]
        return (*used, "relevance_dtype") if used else ()

    def __str__(self) -> str:
        """The form that records hold, e.g. ``degraded:0.25:oracle``."""
        parts = [self.name]
        if self.name == "degraded":
            parts.append(f"{self.probability:g}")
        return ":".join([*parts, self.other] if self.other else parts)


def parse_relevance(text: str) -> RelevanceChoice:
    """Read ``relevance=``.

    ``grounded_clip``, ``sam_clip``, ``clip``, ``attention``, ``oracle``; ``uniform`` (all visual tokens) or
    ``uniform:OTHER`` (the tokens that OTHER grounds); ``degraded:P`` or ``degraded:P:OTHER``, P within 0-1.
    OTHER is a source with boxes: ``oracle`` (degraded's default) or ``grounded_clip``; for ``uniform`` also
    ``sam_clip``.

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
    others = WITH_BOXES if name == "degraded" else WITH_REGIONS
    if parts and parts[0] not in others:
        line = nearest("source of boxes", parts[0], others)
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
