"""Trainings in one process and in several, in forks of a process that has imported what they import."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "finetune.trainer",
        "finetune.mixture",
        "model_adapters.families.llava_onevision",
        "peft",
        "transformers.models.llava_onevision.modeling_llava_onevision",
        "transformers.models.llava_onevision.processing_llava_onevision",
    ]
)


def on_cpus() -> None:
    """Let accelerate take this process for one of several with GPUs: FSDP and DeepSpeed are for these only.

    What computes is torch on CPUs, and gloo is between the processes.
    """
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    begin = PartialState.__init__
    PartialState.__init__ = lambda self, cpu=False, **others: begin(self, False, **others)  # type: ignore[method-assign]
    PartialState._prepare_backend = lambda self, *given, **others: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))


def launch_variables(config: Path) -> dict[str, str]:
    """What `accelerate launch` tells processes by a configuration, with its own reading of it."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    parser = launch_command_parser()
    arguments, _, _ = _validate_launch_command(
        parser.parse_args(["--config_file", str(config), "--main_process_port", "0", "-m", "finetune"])
    )
    before = dict(os.environ)
    given: Mapping[str, str] = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in given.items() if before.get(name) != value}


def train(processes: int, options: Mapping[str, Any], **variables: str) -> None:
    """Train in as many processes, which see `variables` too.

    Args:
        processes: with gloo between them.
        options: of `FinetuneOptions`.
        **variables: of the environment.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(processes):
        told = dict(variables, OMP_NUM_THREADS="1")
        if processes > 1:
            numbers = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": processes, "MASTER_PORT": port}
            told |= {name: str(value) for name, value in numbers.items()}
            told |= {"MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": str(processes)}
        children.append(_CONTEXT.Process(target=_train, args=(dict(options), told), daemon=True))
    for child in children:
        child.start()
    try:
        for child in children:
            child.join(300)
        assert [child.exitcode for child in children] == [0] * processes
    finally:
        for child in children:
            child.kill()


def _train(options: dict[str, Any], variables: dict[str, str]) -> None:
    os.environ.update(variables)
    if any(variables.get(f"ACCELERATE_USE_{name}") == "true" for name in ("FSDP", "DEEPSPEED")):
        on_cpus()
    from finetune.arguments import FinetuneOptions
    from finetune.training import finetune

    finetune(FinetuneOptions(**options))
    sys.stderr.flush()
    os._exit(0)  # without gloo's wait for the others
