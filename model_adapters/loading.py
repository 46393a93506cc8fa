"""Checkpoints from disk or the Hub, refused in one line when they do not fit."""

import json
import os
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from model_adapters.engine import IMPLEMENTATION, register
from model_adapters.families import Family

EMBEDDED = Path(__file__).resolve().parent / "embedded"
NOTE = "mimic_eval.json"
"""A file beside our own checkpoints that says what they are."""


def embedded_checkpoint(model_type: str) -> Path:
    """The embedded reference checkpoint of a family."""
    return EMBEDDED / model_type


def own_note(pretrained: str) -> dict[str, Any]:
    """What one of our own checkpoints says of itself (`kind`, `description`); empty for any other."""
    path = Path(pretrained) / NOTE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def load_family(
    family: type[Family], pretrained: str, *, dtype: Any, device: str, peft: str | None
) -> tuple[Any, Family]:
    """Load a checkpoint with our attention in its decoder.

    Args:
        family: the architecture that is expected.
        pretrained: a folder or a Hub id.
        dtype: a torch dtype, or "auto" for the checkpoint's own.
        device: where to.
        peft: a PEFT adapter's folder or Hub id.

    Returns:
        The model in evaluation mode, and the family around its processor.

    Raises:
        UserError: nothing there, another architecture, weights that are missing or left over.
    """
    from transformers import AutoConfig, AutoProcessor

    _check_exists("pretrained", pretrained)
    try:
        config = AutoConfig.from_pretrained(pretrained)
    except (OSError, ValueError) as error:
        raise UserError(f"pretrained={pretrained} cannot be loaded: {_first_line(error)}") from error
    if config.model_type != family.model_type:
        raise UserError(
            f"pretrained={pretrained} is a '{config.model_type}' checkpoint, but {family.name} "
            f"('{family.model_type}', the -hf format) is expected"
        )
    register()
    try:
        model, report = family.model_class().from_pretrained(
            pretrained,
            dtype=dtype,
            attn_implementation={"text_config": IMPLEMENTATION, "vision_config": "sdpa"},
            output_loading_info=True,
        )
        processor = AutoProcessor.from_pretrained(pretrained)
    except (OSError, ValueError) as error:
        raise UserError(f"pretrained={pretrained} cannot be loaded: {_first_line(error)}") from error
    wrong = [f"lacks {key}" for key in sorted(report["missing_keys"])]
    wrong += [f"has an unknown {key}" for key in sorted(report["unexpected_keys"])]
    wrong += [f"has {key} in another shape" for key, *_ in sorted(report["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"pretrained={pretrained} does not fit its config: it {wrong[0]} ({len(wrong)} such weights)"
        )
    if peft:
        model = _with_peft(model, peft)
    return model.to(device).eval(), family(processor)


def _with_peft(model: Any, peft: str) -> Any:
    from peft import PeftModel

    _check_exists("peft", peft)
    try:
        return PeftModel.from_pretrained(model, peft)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"peft={peft} cannot be put on this checkpoint: {_first_line(error)}") from error


def _check_exists(key: str, name: str) -> None:
    """A path that does not exist is a mistake; `org/name` may be a Hub id."""
    looks_like_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not os.path.isdir(os.path.expanduser(name)) and not looks_like_hub:
        raise UserError(f"{key}={name}: no such folder, and not a Hub id of the form org/name")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
