"""Limits of what a model looks at of a picture: they change its tokens, its record and its journal's key."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import RUN_SETTINGS, UserError, announced_run
from model_adapters.families.registry import FAMILIES, model_names
from model_adapters.loading import load_family
from model_adapters.models import model_class
from model_adapters.options import AdapterOptions
from model_adapters.vision_limits import LIMITS, apply_limits

SETTINGS = {"max_new_tokens": 2, "do_sample": False, "until": []}
CASES: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "qwen2_vl": ("max_pixels", {"min_tokens": 1}, [256, 1024, 4096]),
    "internvl": ("max_tiles", {"max_tiles": 6}, [1, 6]),
    "llava_onevision": ("max_tiles", {"sides": 3}, [1, 9]),
    "llava_next": ("max_tiles", {}, [2, 4]),
    "idefics3": ("image_size", {}, [32, 64]),
}
"""A family's limit, how its checkpoint is made, and rising values."""


def random_image(width: int = 120, height: int = 80) -> Image.Image:
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("limits")
    for model_type, (_, how, _) in CASES.items():
        FAMILIES.get(model_type).make_tiny(at / model_type, **how)
    return {model_type: at / model_type for model_type in CASES}


def tokens(folder: Path, model_type: str, **limits: int) -> int:
    """Tokens of one picture, whose features fill them."""
    model, family = load_family(
        FAMILIES.get(model_type), str(folder), dtype=torch.float32, device="cpu", peft=None
    )
    apply_limits(family, model, limits)
    prompt = family.prompt([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}])
    picture = random_image(80) if model_type == "llava_next" else random_image()
    batch = family.prepare([[picture]], [prompt])
    with torch.inference_mode():
        (features,) = family.image_features(model, batch)
    (image,) = batch.layouts[0].images
    assert len(features.tokens) == image.length
    if family.has_places:
        ((places,),) = family.places(batch.inputs, [[picture]])
        assert places.length == image.length
    return int(image.length)


@pytest.mark.parametrize("model_type", CASES)
def test_a_smaller_limit_gives_fewer_tokens_that_the_model_fills(
    model_type: str, folders: dict[str, Path]
) -> None:
    limit, _, values = CASES[model_type]
    counts = [tokens(folders[model_type], model_type, **{limit: value}) for value in values]
    assert counts == sorted(set(counts)), counts
    assert counts[-1] >= tokens(folders[model_type], model_type)


@pytest.mark.parametrize("family", list(FAMILIES.ours), ids=str)
def test_every_family_names_limits_that_it_can_set(family: str) -> None:
    kind = FAMILIES.get(family)
    assert set(kind.limits) <= set(LIMITS)
    assert bool(kind.limits) == ("set_limits" in {name for base in kind.__mro__[:-2] for name in vars(base)
                                                  if base.__name__ != "Family"})  # fmt: skip


def test_limits_are_in_the_record_and_change_the_journal_s_key(folders: dict[str, Path]) -> None:
    assert set(LIMITS) <= set(RUN_SETTINGS)
    journals = []
    for limits in ({}, {"max_pixels": 1024}):
        model = model_class(model_names("qwen2_vl")[0])(
            pretrained=str(folders["qwen2_vl"]), mask="none", **limits
        )
        assert announced_run().get("max_pixels") == limits.get("max_pixels")
        journals.append(model.journal.folder)
    assert journals[0] != journals[1]


@pytest.mark.parametrize(
    ("model_type", "limits", "line"),
    [
        (
            "qwen2_vl",
            {"max_tiles": 2},
            r"max_tiles=2 is not used by Qwen2-VL: it takes min_pixels, max_pixels",
        ),
        ("qwen2_vl", {"max_pixels": 100}, r"max_pixels=100 is less than a token shows \(256 pixels\)"),
        (
            "qwen2_vl",
            {"min_pixels": 9000, "max_pixels": 8000},
            "min_pixels=9000 is more than max_pixels=8000",
        ),
        ("llava_next", {"max_tiles": 1}, "max_tiles=1: this checkpoint's smallest canvas has 2 tiles"),
    ],
)
def test_a_limit_that_does_not_fit_is_one_line(
    model_type: str, limits: dict[str, int], line: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=line):
        tokens(folders[model_type], model_type, **limits)


@pytest.mark.parametrize("value", ["0", "-3", "many", "1.5"])
def test_a_limit_is_an_integer(value: str) -> None:
    with pytest.raises(UserError, match="max_pixels must be an integer"):
        AdapterOptions.parse({"max_pixels": value})


def test_a_quantised_checkpoint_is_refused_in_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(folders["qwen2_vl"], tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    settings = json.loads(config.read_text())
    settings["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    config.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"is quantised \(bitsandbytes\), which is not supported"):
        load_family(
            FAMILIES.get("qwen2_vl"), str(tmp_path / "model"), dtype=torch.float32, device="cpu", peft=None
        )
