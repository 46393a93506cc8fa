"""The table of model families: by transformers' model type, and by the names that lmms-eval knows them by.

A new family is a module, a line here and a cell of the test of all families (test_family_runs.py). Installed
packages add theirs by the entry-point group `mimic_eval.families` (name: the model type, value:
``package.module:Class``). No family is imported before it is chosen, and torch not at all.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from mimic_eval.records import UserError
from mimic_eval.records.registry import Registry

if TYPE_CHECKING:
    from model_adapters.families.base import Family


class _Line(NamedTuple):
    """A family of ours.

    Attributes:
        target: its class, a `Family`, as ``package.module:Class``.
        models: the lmms-eval models that take its checkpoints; the first is named after it.
    """

    target: str
    models: tuple[str, ...]


_FOLDER = "model_adapters.families"
_TABLE = {
    "gemma3": _Line(f"{_FOLDER}.gemma3:Gemma3", ("gemma3_mask",)),
    "idefics2": _Line(f"{_FOLDER}.idefics2:Idefics2", ("idefics2_mask", "mantis_mask")),
    "idefics3": _Line(f"{_FOLDER}.idefics3:Idefics3", ("idefics3_mask", "smolvlm_mask")),
    "internvl": _Line(f"{_FOLDER}.internvl:Internvl", ("internvl_mask", "internvl2_mask")),
    "llava": _Line(f"{_FOLDER}.llava:Llava", ("llava_mask", "llava_ov_mask")),
    "llava_onevision": _Line(f"{_FOLDER}.llava_onevision:LlavaOnevision", ("llava_ov_mask",)),
    "llava_next": _Line(f"{_FOLDER}.llava_next:LlavaNext", ("llava_next_mask",)),
    "mantis": _Line(f"{_FOLDER}.mantis:Mantis", ("mantis_mask", "llava_mask")),
    "qwen2_5_vl": _Line(f"{_FOLDER}.qwen2_5_vl:Qwen2p5VL", ("qwen2_5_vl_mask",)),
    "qwen2_vl": _Line(f"{_FOLDER}.qwen2_vl:Qwen2VL", ("qwen2_vl_mask",)),
    "qwen3_vl": _Line(f"{_FOLDER}.qwen3_vl:Qwen3VL", ("qwen3_vl_mask",)),
    "smolvlm": _Line(f"{_FOLDER}.idefics3:SmolVLM", ("smolvlm_mask", "idefics3_mask")),
}

ANY = "hf_mask"
"""The lmms-eval model that takes any type of checkpoint of which enough can be established (`hf`)."""

FAMILIES = Registry(
    "family", {model_type: line.target for model_type, line in _TABLE.items()}, group="mimic_eval.families"
)
"""Model type -> `Family`; Mantis, which shares LLaVA's, by its name."""


def model_names(model_type: str) -> tuple[str, ...]:
    """The lmms-eval models that take a family's checkpoints: the first is named after it.

    Args:
        model_type: of `FAMILIES`; another package's family is ``<model_type>_mask``.
    """
    if model_type in _TABLE:
        return _TABLE[model_type].models
    return (re.sub(r"\W", "_", model_type) + "_mask",)


def lmms_models() -> dict[str, tuple[str, ...]]:
    """The names for ``--model``, sorted, and the model types of each; first the one that it is named after.

    `ANY` has none: it takes every type.

    Raises:
        UserError: two packages define one model type.
    """
    ranked: dict[str, list[tuple[int, str]]] = {}
    for model_type in FAMILIES:
        for rank, name in enumerate(model_names(model_type)):
            ranked.setdefault(name, []).append((rank, model_type))
    models = {name: tuple(kind for _, kind in sorted(ranked[name])) for name in ranked} | {ANY: ()}
    return dict(sorted(models.items()))


def family_of(processor: Any, model: Any = None) -> "Family":
    """The family of a loaded processor, around it.

    Args:
        processor: of transformers.
        model: its model, whose config names the type, or None to go by the processor's class.

    Raises:
        UserError: no family takes it.
    """
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = type(processor).__name__
    if model is not None:
        types = [str(model.config.model_type)]
    else:
        types = [name for name in FAMILIES if PROCESSOR_MAPPING_NAMES.get(name) == kind]
    known = [name for name in types if name in FAMILIES]
    if not known:
        what = f"model type '{types[0]}'" if model is not None else f"processor {kind}"
        raise UserError(f"{what} is not supported: mimic families lists what is")
    family: type[Family] = FAMILIES.get(known[0])
    return family(processor)
