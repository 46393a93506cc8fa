"""The names that an adapter's weights have had: by transformers' version, and by the code that trained it.

A layout says for each module of the loaded model under which name a file has it. Which layout a file has is
read from its weights' names, not from what its config says of versions.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from model_adapters.internvl2.weights import Grouping, native_pieces, original_names

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|base_layer)\."
)
_TUNED = r"(?:lora|ia3|hada|lokr|oft|boft|hra)_\w+"
_ADAPTER_NAME = re.compile(rf"\.({_TUNED})\.(?!weight$|bias$)\w+")
_REST = re.compile(rf"|weight|bias|token_adapter\..+|{_TUNED}(\..+)?")
_LLM, _TOWER, _PROJECTOR = "model.language_model.", "model.vision_tower.", "model.multi_modal_projector"
_NEXT_PROJECTOR = {"linear_1": "0", "linear_2": "2"}


class Target(NamedTuple):
    """A module or weight of the loaded model.

    Attributes:
        name: its name there.
        take: makes its rows of the file's; of a fused projection they are a part.
    """

    name: str
    take: Callable[[Tensor], Tensor]


class NameLayout(NamedTuple):
    """The names of one kind of file.

    Attributes:
        label: for messages.
        targets: a name in the file -> what it is in the loaded model, several for a fused projection.
    """

    label: str
    targets: dict[str, tuple[Target, ...]]

    def split(self, key: str) -> tuple[str, str] | None:
        """A weight's name as a known name and what follows it (``lora_A.weight``); None if it is unknown."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            name, rest = ".".join(parts[:end]), ".".join(parts[end:])
            if name in self.targets:
                return (name, rest) if _REST.fullmatch(rest) else None
        return None


def cleaned(key: str) -> str:
    """A weight's name without what wraps models in training: PEFT, DeepSpeed, FSDP, compilation.

    ``module.base_model.model.model.layers.0.q_proj.lora_A.default.weight`` becomes
    ``model.layers.0.q_proj.lora_A.weight``.
    """
    key = _WRAPPERS.sub("", key)
    while key.startswith("module."):
        key = key.removeprefix("module.")
    key = key.replace("base_model.model.", "")
    key = key.replace(".modules_to_save.default.", ".")
    return _ADAPTER_NAME.sub(r".\1", key)


def layouts(
    names: Iterable[str], *, former: Sequence[str], grouping: Grouping | None = None
) -> list[NameLayout]:
    """All layouts in which an adapter of a model may have been written; the model's present one first.

    Args:
        names: of its modules and parameters.
        former: `Family.former_names`, keys of `FORMER`.
        grouping: of its decoder's heads, for an adapter of InternLM2's fused projections.
    """
    present = [name for name in names if name]
    versions: list[tuple[str, Callable[[str], str | None]]] = [
        ("this version of transformers", lambda name: name),
        ("transformers 4.52 to 5", _with_vision_model),
        ("a model without its head", lambda name: _without(name, "model.")),
    ]
    for key in former:
        versions += FORMER[key]
    versions.append(("its language model alone", lambda name: _without(name, _LLM)))
    versions.append(("its language model alone", _llm_with_head))
    known = [NameLayout(label, _table(present, old_name)) for label, old_name in versions]
    if "internvl2_code" in former:
        known += _original_internvl2(present, grouping)
    return known


def best_layout(known: Sequence[NameLayout], keys: Sequence[str]) -> NameLayout:
    """The layout that places the most of a file's weights; of equal ones the first.

    Where no single one places all, but all together do (a file of names of several times), that is taken.
    """
    best = max(known, key=lambda layout: _placed(layout, keys))
    if _placed(best, keys) == len(keys):
        return best
    together: dict[str, tuple[Target, ...]] = {}
    for layout in known:
        together = {**layout.targets, **together}
    every = NameLayout("several versions", together)
    return every if _placed(every, keys) == len(keys) else best


def _placed(layout: NameLayout, keys: Sequence[str]) -> int:
    return sum(layout.split(key) is not None for key in keys)


def _same(weight: Tensor) -> Tensor:
    return weight


def _table(names: Sequence[str], old_name: Callable[[str], str | None]) -> dict[str, tuple[Target, ...]]:
    table: dict[str, tuple[Target, ...]] = {}
    for name in names:
        old = old_name(name)
        if old:
            table[old] = (Target(name, _same),)
    return table


def _without(name: str, prefix: str) -> str | None:
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _in_tower(name: str) -> bool:
    return f"{name}.".startswith(_TOWER)


def _with_vision_model(name: str) -> str:
    return name.replace(_TOWER, f"{_TOWER}vision_model.", 1)


def _before_4_52(name: str, inner: str = "vision_model.") -> str | None:
    """LLaVA's and InternVL's classes: the decoder was a complete causal model beside the vision tower."""
    if name == "lm_head":
        return "language_model.lm_head"
    if name.startswith(_LLM):
        return f"language_model.model.{name.removeprefix(_LLM)}"
    if name.startswith(_TOWER):
        return f"vision_tower.{inner}{name.removeprefix(_TOWER)}"
    return _without(name, "model.")


def _flat_before_4_52(name: str) -> str | None:
    """Qwen2-VL's classes: the decoder was `model`, the vision tower `visual`."""
    if name == "lm_head":
        return name
    return f"model.{name.removeprefix(_LLM)}" if name.startswith(_LLM) else _without(name, "model.")


def _llava_next(name: str) -> str | None:
    """LLaVA's and LLaVA-NeXT's own code: all hangs on the decoder."""
    if name.startswith(_LLM):
        return f"model.{name.removeprefix(_LLM)}"
    if name.startswith(_TOWER):
        return f"model.vision_tower.vision_tower.vision_model.{name.removeprefix(_TOWER)}"
    if f"{name}.".startswith(f"{_PROJECTOR}."):
        rest = name.removeprefix(_PROJECTOR).removeprefix(".")
        first, _, more = rest.partition(".")
        parts = ["model.mm_projector", _NEXT_PROJECTOR.get(first, first), more]
        return ".".join(part for part in parts if part)
    return name


def _llm_with_head(name: str) -> str | None:
    if name == "lm_head":
        return name
    return f"model.{name.removeprefix(_LLM)}" if name.startswith(_LLM) else None


FORMER: dict[str, tuple[tuple[str, Callable[[str], str | None]], ...]] = {
    "llava_code": (
        ("LLaVA's own code", lambda name: None if _in_tower(name) else _llava_next(name)),
        ("LLaVA's own code", _llava_next),
    ),
    "nested": (
        ("transformers before 4.52", _before_4_52),
        ("transformers before 4.52", lambda name: _before_4_52(name, inner="")),
    ),
    "flat": (("transformers before 4.52", _flat_before_4_52),),
    "internvl2_code": (),  # which has fused projections too: `_original_internvl2`
}
"""What a family's weights were called (`Family.former_names`): label, and the old name of a present one."""


def _original_internvl2(names: Sequence[str], grouping: Grouping | None) -> list[NameLayout]:
    """InternVL2's own code (METHODS 12), with any decoder and with InternLM2, whole and the decoder alone."""
    layouts_of_code = []
    for group in (None, grouping):
        table: dict[str, tuple[Target, ...]] = {}
        for original in original_names(names, internlm2=group is not None):
            pieces = native_pieces(f"{original}.weight", grouping=group) or ()
            targets = tuple(Target(piece.name.removesuffix(".weight"), piece.take) for piece in pieces)
            if targets and all(target.name in names for target in targets):
                table[original] = targets
        alone = {
            name.removeprefix("language_model."): targets
            for name, targets in table.items()
            if name.startswith("language_model.")
        }
        layouts_of_code += [NameLayout("InternVL2's own code", part) for part in (table, alone)]
    return layouts_of_code
