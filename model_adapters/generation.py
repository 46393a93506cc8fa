"""A task's generation settings, as `generate` takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mimic_eval.records import UserError, nearest

_SAMPLING = ("temperature", "top_p", "top_k")
_KNOWN = ("max_new_tokens", "do_sample", "num_beams", "until", "repetition_penalty", *_SAMPLING)
_DEFAULT_TOKENS = 1024

UPSTREAMS_STOP = ["\n\n"]
"""What upstream puts in as `until` where a task's file sets none."""


def generate_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `generate`: greedy unless sampling is asked for.

    Raises:
        UserError: an unknown setting, or beam search.
    """
    for key in settings:
        if key not in _KNOWN:
            raise UserError(nearest("generation setting", key, _KNOWN))
    if int(settings.get("num_beams") or 1) != 1:
        raise UserError(f"num_beams={settings['num_beams']}: the *_mask models decode without beams")
    temperature = _number("temperature", settings.get("temperature") or 0, least=0)
    tokens = _number("max_new_tokens", settings.get("max_new_tokens", _DEFAULT_TOKENS), least=1)
    sample = bool(settings.get("do_sample", temperature > 0)) and temperature > 0
    arguments: dict[str, Any] = {
        "max_new_tokens": int(tokens),
        "do_sample": sample,
    }
    for key in _SAMPLING:
        arguments[key] = settings.get(key) if sample else None
    if settings.get("repetition_penalty"):
        arguments["repetition_penalty"] = float(settings["repetition_penalty"])
    return arguments


def _number(name: str, value: Any, *, least: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = least - 1
    if not number >= least:
        raise UserError(f"generation setting {name} must be a number of at least {least}, got '{value}'")
    return number


def cut_at_stops(text: str, until: str | Sequence[str] | None) -> str:
    """The text before the first stop string."""
    stops = [until] if isinstance(until, str) else list(until or ())
    for stop in stops:
        if stop:
            text = text.split(stop, 1)[0]
    return text
