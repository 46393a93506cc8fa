"""A tiny checkpoint with random weights of any model type that transformers knows for images and text.

Nothing here knows a family: sizes, tokens and classes are read from transformers' own (`any_config`,
`any_processor`); what they do not say is in a small table (`any_facts`).
"""

import copy
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from model_adapters.refusals import refusals
from model_adapters.tiny.any_config import tiny_config
from model_adapters.tiny.any_facts import FACTS
from model_adapters.tiny.any_processor import tiny_processor
from model_adapters.tiny.common import WEIGHT_SCALE, check_new, seeded, write_note

MOST_WEIGHTS = 12_000_000
"""A model with more has a size that no rule made small."""

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}PLACEHOLDER{% else %}"
    "{{ '\\n' + part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class NotMade(UserError):
    """A model type of which no tiny checkpoint can be made. The message says why, in one line."""


def model_types() -> dict[str, str]:
    """Every model type that transformers registers for `AutoModelForImageTextToText`, and its class."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return {
        name: kind if isinstance(kind, str) else kind[0]
        for name, kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items()
    }


def make_tiny(model_type: str, out: Path, *, seed: int = 0, weight_scale: float = WEIGHT_SCALE) -> None:
    """Write a checkpoint of a model type with random weights.

    Args:
        model_type: one of `model_types`.
        out: the folder; it must be new or empty.
        seed: of the weights.
        weight_scale: standard deviation of the weights.

    Raises:
        NotMade: its classes do not take the sizes, or a class is missing.
        UserError: the folder is not empty.
    """
    check_new(out)
    stage = "config"
    try:
        facts = FACTS.get(model_type, {})
        config = tiny_config(model_type, vocabulary=1000, changes=facts.get("config"))
        stage = "processor"
        processor = tiny_processor(model_type, config, facts)
        processor.chat_template = _TEMPLATE.replace("PLACEHOLDER", _placeholder(processor, facts))
        stage = "model"
        config = tiny_config(model_type, vocabulary=len(processor.tokenizer), changes=facts.get("config"))
        set_tokens(config, processor)
        for name, token in facts.get("ids", {}).items():
            setattr(config, name, processor.tokenizer.convert_tokens_to_ids(token))
        set_scale(config, weight_scale)
        model = _model(model_types()[model_type], config, seed, weight_scale)
        stage = "files"
        out.mkdir(parents=True, exist_ok=True)
        model.half().save_pretrained(out)
        processor.save_pretrained(out)
    except NotMade:
        raise
    except refusals() as error:
        line = " ".join(str(error).split())[:160]
        raise NotMade(f"{stage}: {type(error).__name__}: {line}") from error
    write_note(out, seed=seed)


def _placeholder(processor: Any, facts: dict[str, Any]) -> str:
    token = facts.get("placeholder") or getattr(processor, "image_token", None)
    if token is None:
        token = getattr(processor.tokenizer, "image_token", None)
    return str(token or "")


def set_tokens(config: Any, processor: Any) -> None:
    """Give every token field of a config tree the id that the processor's token has.

    Args:
        config: changed in place.
        processor: made for it.
    """
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            set_tokens(value, processor)
        elif name.endswith(("_token_id", "_token_index")):
            token_id = _token(processor, name.removesuffix("_id").removesuffix("_index"))
            if token_id is not None:
                setattr(config, name, token_id)


def _token(processor: Any, name: str) -> int | None:
    """The id of a token by its name (``image_token``), from the tokenizer, else from the processor."""
    tokenizer = processor.tokenizer
    for holder in (tokenizer, processor):
        token_id = getattr(holder, f"{name}_id", None)
        if isinstance(token_id, int):
            return token_id
        text = getattr(holder, name, None)
        if isinstance(text, str):
            token_id = tokenizer.convert_tokens_to_ids(text)
            if isinstance(token_id, int):
                return token_id
    return None


def set_scale(config: Any, scale: float) -> None:
    """The standard deviation of random weights in every part of a config tree, changed in place."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            set_scale(value, scale)
        elif name in ("initializer_range", "init_std"):
            setattr(config, name, scale)


def _model(name: str, config: Any, seed: int, scale: float) -> Any:
    import torch
    import transformers

    kind = getattr(transformers, name)
    with torch.device("meta"):
        weights = list(kind(copy.deepcopy(config)).named_parameters())
    count = sum(weight.numel() for _, weight in weights)
    if count > MOST_WEIGHTS:
        largest, weight = max(weights, key=lambda pair: pair[1].numel())
        raise NotMade(f"model: {count / 1e6:.0f} million weights, {largest} has {tuple(weight.shape)}")
    with seeded(seed):
        model = kind(config)
        for weight in model.parameters():
            if weight.dim() > 1 and not bool(weight.any()):  # a projection of zeros would show no image
                torch.nn.init.normal_(weight, std=scale)
    return model
