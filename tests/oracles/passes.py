"""Answers by transformers' attention, of several passes or with scaled states, without a cache."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from model_adapters.interventions.delimiters.reference import scaled_states

GROWN = ("token_type_ids", "mm_token_type_ids")


@contextmanager
def scaled_by_hand(
    layers: Sequence[Any], positions: Sequence[int], scale: float, *, images: int
) -> Iterator[None]:
    """While it is entered, layers of a decoder give the scaled states of a prompt of one doc.

    Args:
        layers: modules, whose output is (1, N, D) or a tuple that begins with it.
        positions: of the delimiters.
        scale: the factor.
        images: of the doc.
    """

    def after(module: Any, args: Any, out: Any) -> Any:
        hidden = out[0] if isinstance(out, tuple) else out
        scaled = scaled_states(hidden[0], positions, scale, images=images)[None]
        return (scaled, *out[1:]) if isinstance(out, tuple) else scaled

    handles = [layer.register_forward_hook(after) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
            with torch.inference_mode():
                logits.append(model(**grown(inputs.to(model.device, model.dtype), tokens)).logits[0, -1])
        tokens.append(int(choose(logits).argmax()))
        if tokens[-1] in (ends if isinstance(ends, list) else [ends]):
            break
    return tokens


def grown(inputs: Mapping[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """The inputs of one doc with tokens of text behind its prompt."""
    given = dict(inputs)
    ids = torch.cat([given["input_ids"], torch.tensor([list(tokens)], dtype=torch.long)], dim=1)
    for name in GROWN:
        if name in given:
            given[name] = torch.nn.functional.pad(given[name], (0, len(tokens)))
    return given | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
