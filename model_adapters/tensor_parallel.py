"""One model over several processes (`tp_plan=auto`): each has some heads of each layer, all run every doc."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch

from mimic_eval.records import UserError
from mimic_eval.records.processes import follows, world_size
from model_adapters.journal import Journal


def distributed_config() -> Any:
    """For `from_pretrained`: transformers' plan for the model, over all processes of the run."""
    from transformers.distributed.configuration_utils import DistributedConfig

    return DistributedConfig(tp_plan="auto", tp_size=world_size())


def check_heads(model: Any) -> None:
    """Refuse a decoder whose heads the processes cannot share evenly.

    Raises:
        UserError: the number of heads is no multiple of that of processes.
    """
    text, processes = model.config.get_text_config(), world_size()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    if heads % processes or kv_heads % processes:
        raise UserError(
            f"tp_plan=auto: the model's {heads} attention heads ({kv_heads} for keys, values) do not divide "
            f"among {processes} processes: start another number of them"
        )


def of_all_processes(value: str) -> str:
    """One hash of what each process has (hex); the same in all of them.

    Args:
        value: this process's.
    """
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return hashlib.sha256("\n".join(values).encode()).hexdigest()


class SharedJournal(Journal):
    """The journal of processes that run one model together: all must go on with the same answers.

    The first process reads the files, once, and writes them; the others get its answers.

    Args:
        identity: as of `Journal`, the same in all processes.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        super().__init__(None, identity, rescan=math.inf)
        answers: list[Any] = [self._answers]
        torch.distributed.broadcast_object_list(answers, src=0)
        self._answers = answers[0]

    def _write(self, lines: bytes) -> None:
        if not follows():
            super()._write(lines)
