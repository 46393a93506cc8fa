"""Adapters as PEFT and other training code write them."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from model_adapters.families import FAMILIES as REGISTRY
from model_adapters.families.base import Family
from model_adapters.lora import load_adapter

FAMILIES: dict[str, type[Family]] = {
    name: REGISTRY.get(name) for name in ("llava_onevision", "qwen2_vl", "internvl")
}
TARGETS = {
    "llava_onevision": ["q_proj", "v_proj", "up_proj"],  # q_proj and v_proj are in the vision tower too
    "qwen2_vl": ["q_proj", "v_proj", "up_proj", "qkv"],
    "internvl": ["q_proj", "v_proj", "up_proj"],
}
LLM_ONLY = r"model\.language_model\..*\.(q_proj|v_proj|up_proj)"
State = dict[str, torch.Tensor]


def base(family: str) -> Any:
    """The family's embedded checkpoint, a model for each call."""
    return copy.deepcopy(_read(family))


@cache
def _read(family: str) -> Any:
    from model_adapters.loading import EMBEDDED

    return FAMILIES[family].model_class().from_pretrained(EMBEDDED / family, dtype=torch.float32)


def make(family: str, folder: Path, **options: Any) -> State:
    """An adapter that PEFT writes, with random weights; what it holds."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(**{"r": 2, "target_modules": TARGETS[family], "init_lora_weights": False, **options})
    model = get_peft_model(base(family), config)
    for name, weight in model.named_parameters():
        if "modules_to_save.default" in name or "magnitude" in name:
            weight.data += torch.rand_like(weight)
    model.save_pretrained(folder)
    return load_file(folder / "adapter_model.safetensors")


def renamed(source: Path, folder: Path, change: Callable[[str], str], **settings: Any) -> Path:
    """A copy whose weights have other names, and whose config has other settings."""
    shutil.copytree(source, folder)
    held = load_file(source / "adapter_model.safetensors")
    changed = {change(key): weight for key, weight in held.items()}
    assert len(changed) == len(held)
    save_file(changed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    configured(folder, **settings)
    return folder


def configured(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def loaded(family: str, folder: Path) -> State:
    return dict(load_adapter(base(family), str(folder), former=FAMILIES[family].former_names).state_dict())


def assert_same(got: State, want: State) -> None:
    assert got.keys() == want.keys()
    assert [key for key in want if not torch.equal(got[key], want[key])] == []


def swap(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """The first pattern that a name has is replaced."""

    def change(key: str) -> str:
        for pattern, new in pairs:
            key, times = re.subn(pattern, new, key)
            if times:
                break
        return key

    return change


LLM, TOWER = r"base_model\.model\.model\.language_model\.", r"base_model\.model\.model\.vision_tower\."
BEFORE_4_52 = swap(
    (LLM, "base_model.model.language_model.model."), (TOWER, "base_model.model.vision_tower.vision_model.")
)
QWEN_BEFORE = swap((LLM, "base_model.model.model."), ("model.visual", "visual"))
INTERNVL_BEFORE = swap(
    (LLM, "base_model.model.language_model.model."), (TOWER, "base_model.model.vision_tower.")
)
LLAVA_CODE = swap(
    (r"base_model\.model\.model\.multi_modal_projector\.linear_1", "base_model.model.model.mm_projector.0"),
    (r"base_model\.model\.model\.multi_modal_projector\.linear_2", "base_model.model.model.mm_projector.2"),
    (LLM, "base_model.model.model."),
)
