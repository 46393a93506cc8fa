"""A task's generation settings, as `generate` takes them, and what of a checkpoint's defaults is used."""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_eval.records import UserError, nearest

_SAMPLING = ("temperature", "top_p", "top_k")
_OF_LLAVA = "image_aspect_ratio"  # in 25 of upstream's tasks: how its LLaVA prepares images
_KNOWN = ("max_new_tokens", "do_sample", "num_beams", "until", "repetition_penalty", _OF_LLAVA, *_SAMPLING)
_DEFAULT_TOKENS = 1024
_TAKEN = ("bos_token_id", "eos_token_id", "pad_token_id")
_NO_MATTER = ("use_cache", "output_attentions", "output_hidden_states", "transformers_version")
_QUIET = ("do_sample", *_SAMPLING)  # greedy decoding leaves them unused in every checkpoint

UPSTREAMS_STOP = ["\n\n"]
"""What upstream puts in as `until` where a task's file sets none."""


def generate_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `generate`: greedy unless sampling is requested.

    Args:
        settings: of the task and of ``--gen_kwargs``. ``do_sample`` decides; without it, a temperature above
            0 does. Sampling without a temperature has temperature 1, as in transformers.

    Raises:
        UserError: an unknown setting or value, or beam search.
    """
    for key in settings:
        if key not in _KNOWN:
            raise UserError(nearest("generation setting", key, _KNOWN))
    if _number("num_beams", settings.get("num_beams") or 1, least=1) != 1:
        raise UserError(f"num_beams={settings['num_beams']}: the *_mask models decode without beams")
    tokens = _number("max_new_tokens", settings.get("max_new_tokens", _DEFAULT_TOKENS), least=1)
    temperature = settings.get("temperature")
    sampling = settings.get("do_sample")
    warm = _number("temperature", (1.0 if sampling else 0) if temperature is None else temperature, least=0)
    sample = warm > 0 and (sampling is None or bool(sampling))
    arguments: dict[str, Any] = {"max_new_tokens": int(tokens), "do_sample": sample}
    arguments.update(dict.fromkeys(_SAMPLING))
    if sample:
        arguments["temperature"] = warm
        if settings.get("top_p") is not None:
            arguments["top_p"] = _number("top_p", settings["top_p"], least=0, most=1)
        if settings.get("top_k") is not None:
            arguments["top_k"] = int(_number("top_k", settings["top_k"], least=0))
    if settings.get("repetition_penalty"):
        arguments["repetition_penalty"] = _number(
            "repetition_penalty", settings["repetition_penalty"], least=0
        )
    return arguments


def used_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the answers really depend on, for the run's record and the journal's key."""
    arguments = generate_arguments(settings)
    until = settings.get("until")
    stops = [until] if isinstance(until, str) else list(until or ())
    return {**{key: value for key, value in arguments.items() if value is not None}, "until": stops}


def unused_settings(settings: Mapping[str, Any]) -> str | None:
    """One line on settings that are not used, or None if there are none.

    They are sampling settings under greedy decoding, and how lmms-eval's LLaVA prepares images.
    """
    lines = [line for line in (_unused_sampling(settings), _unused_preparation(settings)) if line]
    return "; ".join(lines) or None


def _unused_preparation(settings: Mapping[str, Any]) -> str | None:
    value = settings.get(_OF_LLAVA)
    if value is None:
        return None
    return f"{_OF_LLAVA}={value} is not used: images are prepared as the checkpoint says"


def _unused_sampling(settings: Mapping[str, Any]) -> str | None:
    if generate_arguments(settings)["do_sample"]:
        return None
    neutral = {"temperature": (0, 1), "top_p": (1,), "top_k": (0, 50)}  # transformers' and tasks' own
    idle = [key for key in _SAMPLING if settings.get(key) is not None and settings[key] not in neutral[key]]
    if settings.get("do_sample"):
        return "do_sample=True with temperature=0 is greedy: give a temperature above 0 to sample"
    if not idle:
        return None
    named = ", ".join(f"{key}={settings[key]}" for key in idle)
    wins = f"do_sample={settings['do_sample']} wins" if "do_sample" in settings else "temperature is 0"
    return f"{named} is not used: {wins}, answers are greedy (do_sample=True in --gen_kwargs samples)"


def take_defaults(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Make a model's generation defaults plain greedy; of the checkpoint's only the special tokens are taken.

    Args:
        model: of transformers, not within PEFT; its `generation_config` is replaced.
        tokenizer: gives the end token where the checkpoint's settings have none.

    Returns:
        What the checkpoint asks for and is not used: key -> value.
    """
    from transformers import GenerationConfig

    given = model.generation_config.to_dict()
    plain = GenerationConfig().to_dict()
    taken = {key: given.get(key) for key in _TAKEN}
    if taken["eos_token_id"] is None:
        text = model.config.get_text_config()
        taken["eos_token_id"] = getattr(text, "eos_token_id", None) or tokenizer.eos_token_id
    model.generation_config = GenerationConfig(**taken)
    ignored = (*_TAKEN, *_NO_MATTER)
    return {
        key: value
        for key, value in given.items()
        if key not in ignored and not key.startswith("_") and value is not None and value != plain.get(key)
    }


def tell_defaults(pretrained: str, unused: Mapping[str, Any]) -> None:
    """One line on what of a checkpoint's generation defaults would change greedy answers, and is not used."""
    named = [f"{key}={value}" for key, value in unused.items() if key not in _QUIET]
    if named:
        print(
            f"pretrained={pretrained}: its generation_config sets {', '.join(named)[:200]}; not used: "
            "answers are greedy unless --gen_kwargs says otherwise",
            file=sys.stderr,
        )


def by_settings(requests: Sequence[Any]) -> list[tuple[dict[str, Any], list[int]]]:
    """The positions of upstream's requests, grouped by their generation settings."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        groups[json.dumps(request_settings(request), sort_keys=True, default=str)].append(i)
    return [(request_settings(requests[members[0]]), members) for members in groups.values()]


def request_settings(request: Any) -> dict[str, Any]:
    """A request's generation settings; a task of ours that sets no stop has none (METHODS 2.1)."""
    settings, task = dict(request.args[2]), request.args[4]
    ours = str(task).startswith("mimic_") and settings.get("until") == UPSTREAMS_STOP
    return {**settings, "until": []} if ours else settings


def _number(name: str, value: Any, *, least: float, most: float = float("inf")) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = least - 1
    if not least <= number <= most or number == float("inf"):
        top = "" if most == float("inf") else f" and at most {most}"
        raise UserError(f"generation setting {name} must be a number of at least {least}{top}, got '{value}'")
    return number


def cut_at_stops(text: str, until: str | Sequence[str] | None) -> str:
    """The text before the first stop string."""
    stops = [until] if isinstance(until, str) else list(until or ())
    for stop in stops:
        if stop:
            text = text.split(stop, 1)[0]
    return text
