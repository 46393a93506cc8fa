"""The parts of a vision-language model that a training learns or leaves alone (METHODS 10)."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from mimic_eval.records import UserError
from model_adapters.engine import decoder_layers

_PROJECTORS = (
    "multi_modal_projector",  # LLaVA, Gemma 3, InternVL
    "merger",  # Qwen-VL
    "deepstack_merger_list",
    "connector",  # Idefics
    "mm_projector",
    "aligner",
    "vision_projector",
)
"""What transformers' classes call the part between the vision encoder and the decoder."""


def linear_pattern(model: Any) -> str:
    """A pattern that PEFT matches with all linear layers of the decoder but the head.

    Args:
        model: of transformers.

    Raises:
        UserError: there are none.
    """
    names = {module: name for name, module in model.named_modules()}
    layers = decoder_layers(model)
    stack = names[layers[0]].rpartition(".")[0]
    linear = {
        name for layer in layers for name, module in layer.named_modules() if isinstance(module, nn.Linear)
    }
    if not linear:
        raise UserError(f"the decoder of {type(model).__name__} has no linear layers for LoRA: use --full")
    return rf"{re.escape(stack)}\.\d+\.(?:{'|'.join(re.escape(name) for name in sorted(linear))})"


def projectors(model: Any) -> dict[str, nn.Module]:
    """The modules between the vision encoder and the decoder, by their names in the model.

    Args:
        model: of transformers.

    Raises:
        UserError: none is known.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _PROJECTORS and next(module.parameters(), None) is not None:
            several = isinstance(module, nn.ModuleList)  # a list is no module that PEFT could replace
            found |= {f"{name}.{i}": one for i, one in enumerate(module)} if several else {name: module}
    outer = {name: module for name, module in found.items() if not _within(name, found)}
    if not outer:
        raise UserError(
            f"the projector of {type(model).__name__} is not known by name ({', '.join(_PROJECTORS)}): "
            "use --projector frozen"
        )
    return outer


def _within(name: str, others: Mapping[str, nn.Module]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)


def learn_decoder(model: Any, *, projector: bool) -> None:
    """Let the decoder with its embeddings and its head be learnt, and nothing of the vision encoder.

    Args:
        model: of transformers.
        projector: whether the projector is learnt too.

    Raises:
        UserError: no projector is known.
    """
    parts = [model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()]
    model.requires_grad_(False)
    for part in [*parts, *(projectors(model).values() if projector else ())]:
        if part is not None:
            part.requires_grad_(True)


def with_lora(model: Any, *, rank: int, alpha: int, dropout: float, projector: bool) -> Any:
    """The model with LoRA in all linear layers of its decoder, and everything else frozen.

    Args:
        model: of transformers.
        rank: of each update.
        alpha: the update counts alpha / rank times.
        dropout: of its input, in training.
        projector: whether the projector is learnt too, in full (`modules_to_save`).

    Raises:
        UserError: no linear layers, or no projector is known.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=linear_pattern(model),
        modules_to_save=sorted(projectors(model)) if projector else None,
    )
    return get_peft_model(model, config)


def beside_decoder(model: Any) -> list[nn.Module]:
    """The modules outside the decoder with weights that are learnt, of which only pictures make use.

    Args:
        model: of transformers, or such a one within PEFT.
    """
    decoder = [model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()]
    inside = {id(weight) for part in decoder if part is not None for weight in part.parameters()}
    return [
        module
        for module in model.modules()
        if any(
            weight.requires_grad and id(weight) not in inside for weight in module.parameters(recurse=False)
        )
    ]


def in_single_precision(model: Any, *, passes: Any) -> None:
    """Keep what is learnt in float32: steps of a small learning rate vanish in 16 bits.

    Args:
        model: of transformers, or within PEFT.
        passes: torch dtype of the passes, which the decoder's input has also where the embeddings are learnt.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.to(passes))
