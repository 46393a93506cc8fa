"""Training with the weights spread over processes: FSDP by accelerate (docs/training.md)."""

import os
from typing import Any

from mimic_eval.records import UserError


def is_sharded() -> bool:
    """Whether accelerate spreads the model over the processes, as `accelerate launch` tells them."""
    return any(_is_set(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED"))


def load_in_all_processes() -> None:
    """Let each process read the weights before FSDP spreads them.

    transformers would leave them out in all but the first process, which then cannot check what it loaded.
    """
    if _is_set("ACCELERATE_USE_FSDP"):
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def shard_by_layers(plugin: Any, model: Any) -> None:
    """Let FSDP gather one layer of the decoder at a time, unless the user names classes.

    accelerate's default names all classes that transformers knows for the architecture, some of which a
    checkpoint may lack. The vision encoder and the projector are gathered with what is left: a process whose
    samples have no picture does not run them, and the others would wait for it.

    Args:
        plugin: accelerate's settings of FSDP.
        model: of transformers, or such a one within PEFT.
    """
    from model_adapters.engine import decoder_layers

    if not plugin.transformer_cls_names_to_wrap:
        plugin.transformer_cls_names_to_wrap = sorted(
            {type(layer).__name__ for layer in decoder_layers(model)}
        )


def check_stage(accelerator: Any, *, full: bool) -> None:
    """Refuse DeepSpeed ZeRO-3 for a training of the full model, which it saves under wrong names.

    Args:
        accelerator: accelerate's, of this training.
        full: whether the model is trained in full.

    Raises:
        UserError: both.
    """
    if full and _zero_stage(accelerator) == 3:
        raise UserError(
            "--full is not supported with DeepSpeed ZeRO-3: use docs/launch/fsdp.yaml or deepspeed_zero2.yaml"
        )


def check_without_pictures(accelerator: Any, *, learnt: bool) -> None:
    """Refuse samples without pictures where a process that has some would wait, or mix up gradients.

    ZeRO-3 gathers the weights of the vision encoder as it runs, and DeepSpeed averages gradients in the order
    in which each process has them.

    Args:
        accelerator: accelerate's, of this training.
        learnt: whether weights outside the decoder are learnt.

    Raises:
        UserError: DeepSpeed, in several processes.
    """
    stage = _zero_stage(accelerator)
    if stage is not None and accelerator.num_processes > 1 and (learnt or stage == 3):
        why = "with --projector trained" if learnt else "with ZeRO-3"
        raise UserError(
            f"DeepSpeed cannot learn samples without pictures {why} in several processes: use "
            "docs/launch/fsdp.yaml, or leave these samples out"
        )


def count_weights(model: Any) -> tuple[int, int]:
    """How many weights a model has, and how many of them are learnt; ZeRO-3 leaves the weights empty."""
    sizes = [
        (getattr(weight, "ds_numel", weight.numel()), weight.requires_grad) for weight in model.parameters()
    ]
    return sum(size for size, _ in sizes), sum(size for size, learnt in sizes if learnt)


def _zero_stage(accelerator: Any) -> int | None:
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return None if plugin is None else int(plugin.zero_stage)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")
