"""mimic-eval: whether a vision-language model reasons over several images, why not, and what cures it.

The Python API is what this module names (docs/api.md); the commands are `mimic` and `lmms_eval`.
"""

TYPE_CHECKING = False  # as `typing` has it: a command that starts must import next to nothing
if TYPE_CHECKING:
    from mimic_eval.api import Query, UserError, embedded_checkpoint, embedded_docs, intervene, layout

__version__ = "0.1.0"

__all__ = ["Query", "UserError", "__version__", "embedded_checkpoint", "embedded_docs", "intervene", "layout"]


def __getattr__(name: str) -> object:
    """The API, imported when it is first used: it brings torch, which the commands' help must not."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module 'mimic_eval' has no attribute '{name}'")
    from mimic_eval import api

    return getattr(api, name)
