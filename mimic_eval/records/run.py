"""What a run is and what was done in it: the model announces it, and the code that writes results reads it.

Upstream's result files hold the model's arguments as the user typed them, not what followed from them. So the
adapter announces the settings that it really runs with, and afterwards what its intervention did, and our
command writes them into the results.
"""

from collections.abc import Callable
from typing import Any

RUN_SETTINGS = (
    "checkpoint", "checkpoint_kind", "peft", "family", "mask", "layers", "depth", "variant", "prefix",
    "edges", "heads", "own_image", "empty_rows", "links", "p", "rho", "min_visual_share", "rows", "alpha",
    "calibration", "score", "tau", "sink_dimensions", "mu", "sigma", "relevance", "grounding",
    "box_threshold", "text_threshold", "sam", "top", "clip", "relevance_dtype", "pool", "min_pixels",
    "max_pixels", "max_tiles",
    "image_size", "order", "image_marks", "dtype", "device", "device_map", "tp_plan", "batch_size", "kernel",
    "generation",
    "lambda", "noise", "shared_noise", "noise_seed", "cut", "shifts", "scale",
    "end_tokens", "generation_config_unused", "system_instruction", "tuned",
)  # fmt: skip
"""All that our models announce; the leaderboard takes no other settings from a submission."""

INTERVENTIONS = (
    "none", "block", "ar", "mask_only", "unmask_only", "var", "sofa", "focus", "knockout", "orders",
    "delimiters", "dab",
)  # fmt: skip
"""What `mask` can be (METHODS 1)."""

_announced: dict[str, Any] = {}
_effects: dict[str, Any] = {}
_work: dict[str, int] = {}
_parameters: list[int] = []
_cached: list[Callable[[], str]] = []
_system: list[str] = []


def announce_run(**record: Any) -> None:
    """Announce what the model of this process runs with; replaces what was announced of another."""
    _announced.clear()
    _announced.update(record)
    _effects.clear()
    _work.clear()
    _parameters.clear()


def extend_run(**record: Any) -> None:
    """Add settings to the announcement."""
    _announced.update(record)


def announce_system_instruction(text: str | None) -> None:
    """Set the ``--system_instruction`` of the next model of this process, or None for none."""
    _system.clear()
    if text:
        _system.append(text)


def announced_system_instruction() -> str | None:
    """The announced system instruction, or None."""
    return _system[0] if _system else None


def announced_run() -> dict[str, Any]:
    """What was announced, or an empty record for a model that is not ours."""
    return dict(_announced)


def announce_effects(**effects: Any) -> None:
    """Announce what the model's intervention did; replaces earlier effects."""
    _effects.clear()
    _effects.update(effects)


def announced_effects() -> dict[str, Any]:
    """What the intervention did, or an empty record."""
    return dict(_effects)


def announce_work(**work: int) -> None:
    """Announce what the model read and wrote; replaces earlier work."""
    _work.clear()
    _work.update(work)


def announced_work() -> dict[str, int]:
    """What the model read and wrote, or an empty record."""
    return dict(_work)


def announce_parameters(count: int) -> None:
    """Announce how many parameters the model has; no setting, as it follows from the checkpoint."""
    _parameters[:] = [count]


def announced_parameters() -> int | None:
    """How many parameters the model has, or None for a model that is not ours."""
    return _parameters[0] if _parameters else None


def announce_cached(text: Callable[[], str]) -> None:
    """Register a text about what a command has stored, for the last line after a signal.

    Args:
        text: called at the signal: what is stored, and after "; " how to go on.
    """
    _cached[:] = [text]


def announced_cached() -> str | None:
    """What the command has stored by now, or None if nothing was registered."""
    return _cached[0]() if _cached else None
