"""The processes of a run: each answers other docs, as upstream has it, or all run one model together.

Upstream gives each process its docs by RANK and WORLD_SIZE, which it reads after the model is loaded. Where
the processes run one model together (`tp_plan=auto`), each must run every doc: `run_together` makes each look
like the only one, and all but the first write nothing.
"""

import os

_RANK = "MIMIC_RANK"
_SIZE = "MIMIC_WORLD_SIZE"


def world_size() -> int:
    """How many processes `torchrun` or `accelerate launch` started; 1 without them."""
    return int(os.environ.get(_SIZE) or os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """This process's number among them, from 0."""
    return int(os.environ.get(_RANK) or os.environ.get("RANK") or 0)


def run_together() -> None:
    """From now on upstream gives every doc to this process, as to each of the others."""
    if together():
        return
    os.environ[_RANK] = os.environ.get("RANK", "0")
    os.environ[_SIZE] = os.environ.get("WORLD_SIZE", "1")
    os.environ["RANK"], os.environ["WORLD_SIZE"] = "0", "1"


def together() -> bool:
    """Whether several processes run one model together."""
    return _RANK in os.environ


def follows() -> bool:
    """Whether another process writes the results and says what there is to say."""
    return together() and rank() > 0
