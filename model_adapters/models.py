"""The lmms-eval models by name: one class for each, made of the families that it takes."""

from functools import cache

from mimic_eval.records import UserError, nearest
from model_adapters.adapter import MaskedModel
from model_adapters.families import FAMILIES, lmms_models
from model_adapters.families.base import Family


@cache
def model_class(name: str) -> type[MaskedModel]:
    """The lmms-eval model of a name for ``--model``.

    Raises:
        UserError: an unknown name, or a family that cannot be imported.
    """
    known = lmms_models()
    if name not in known:
        raise UserError(nearest("model", name, known))
    families = tuple(FAMILIES.get(model_type) for model_type in known[name]) or (_any_family(),)
    about = f"`{name}`: {', '.join(family.name for family in families)}."
    return type(name, (MaskedModel,), {"families": families, "__module__": __name__, "__doc__": about})


def _any_family() -> type[Family]:
    from model_adapters.hf import HfFamily

    return HfFamily


def __getattr__(name: str) -> type[MaskedModel]:
    """The class of a model, which lmms-eval imports by a dotted path; `LlavaOvMask` for ``llava_ov_mask``."""
    if not name.startswith("_"):
        for known in lmms_models():
            if known.replace("_", "") == name.replace("_", "").lower():
                return model_class(known)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
