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


def check_without_pictures(accelerator: Any) -> None:
    """Refuse ZeRO-3 for samples without pictures: others would wait for their part of the vision encoder.

    Args:
        accelerator: accelerate's, of this training.

    Raises:
        UserError: DeepSpeed spreads the weights over several processes.
    """
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3 and accelerator.num_processes > 1:
        raise UserError(
            "DeepSpeed ZeRO-3 cannot learn samples without pictures, where another process has some: use "
            "docs/launch/fsdp.yaml or deepspeed_zero2.yaml, or leave these samples out"
        )


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")
