"""Tiny checkpoints with random weights, in the real architectures and the real on-disk format.

They run through exactly the code of a real checkpoint. Their answers mean nothing. ``make_tiny_NAME`` is in
the module ``NAME``; `Family.make_tiny` finds a family's.
"""

from importlib import import_module
from typing import Any

_PREFIX = "make_tiny_"


def __getattr__(name: str) -> Any:
    if name.startswith(_PREFIX):
        try:
            return getattr(import_module(f"{__name__}.{name.removeprefix(_PREFIX)}"), name)
        except ModuleNotFoundError as error:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
