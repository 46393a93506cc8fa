"""Answers of several passes by transformers' attention: no cache, and a whole prompt for each token."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

GROWN = ("token_type_ids", "mm_token_type_ids")


@contextmanager
def transformers_attention(model: Any) -> Iterator[None]:
    """While it is entered, a model of ours attends as transformers has it."""
    configs = {name: getattr(model.config, name) for name in model.config.sub_configs}
    before = {name: config._attn_implementation for name, config in configs.items() if config is not None}
    model.set_attn_implementation({**before, "text_config": "sdpa"})
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def greedy_by_hand(
    model: Any,
    family: Any,
    passes: Sequence[Sequence[Image.Image]],
    prompt: str,
    choose: Callable[[Sequence[Tensor]], Tensor],
    *,
    steps: int,
) -> list[int]:
    """The tokens of an answer up to its end token.

    Args:
        model: of transformers.
        family: prepares prompts.
        passes: the pictures of each pass.
        prompt: the text, the same in all.
        choose: from the logits (V) of each pass those that the next token is the largest of.
        steps: tokens at most.
    """
    prepared = [family.prepare([list(pictures)], [prompt]).inputs for pictures in passes]
    ends = model.generation_config.eos_token_id
    tokens: list[int] = []
    while len(tokens) < steps:
        logits = []
        for inputs in prepared:
            given = dict(inputs.to(model.device, model.dtype))
            ids = torch.cat([given["input_ids"], torch.tensor([tokens], dtype=torch.long)], dim=1)
            for name in GROWN:
                if name in given:
                    given[name] = torch.nn.functional.pad(given[name], (0, len(tokens)))
            given |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with torch.inference_mode():
                logits.append(model(**given).logits[0, -1])
        tokens.append(int(choose(logits).argmax()))
        if tokens[-1] in (ends if isinstance(ends, list) else [ends]):
            break
    return tokens
