"""The inputs of a decoder's layers, seen one layer at a time while a prompt runs through the model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model_adapters.engine import Engine, decoder_layers
from model_adapters.families.base import Family, PreparedBatch
from model_adapters.generation import generate_arguments
from model_adapters.interventions.none.kernel import NoIntervention

Visitor = Callable[[int, Tensor], None]
"""Called with a layer, from 0, and its input (B, N, D), which must not be stored."""


@torch.inference_mode()
def visit_inputs(model: Any, family: Family, batch: PreparedBatch, visit: Visitor) -> None:
    """One pass of the unchanged model over a prompt; the model is left as it was.

    Args:
        model: loaded with `engine.IMPLEMENTATION`.
        family: the model's.
        batch: from `Family.prepare`.
        visit: sees each layer's input in order.
    """

    def hook(layer: int) -> Callable[..., None]:
        def see(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            visit(layer, args[0] if args else kwargs["hidden_states"])

        return see

    handles = [
        layer.register_forward_pre_hook(hook(number), with_kwargs=True)
        for number, layer in enumerate(decoder_layers(model))
    ]
    try:
        with Engine(NoIntervention(), frozenset()).running(model, batch.layouts):
            model.generate(
                **batch.inputs.to(model.device, model.dtype),
                **generate_arguments({"max_new_tokens": 1, "do_sample": False}),
                pad_token_id=family.pad_token_id,
            )
    finally:
        for handle in handles:
            handle.remove()
