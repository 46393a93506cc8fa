"""One model in parts: loaded by accelerate, and with a part that its hooks bring in for each token."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.loading import check_spread
from model_adapters.models import LlavaOvMask, Qwen2VLMask
from model_adapters.options import AdapterOptions
from model_adapters.tiny import make_tiny_qwen2_vl

GREEDY = {"max_new_tokens": 6, "do_sample": False}
IMAGES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    for seed in range(3)
]


def answers(model: Any) -> list[str]:
    """To a doc of three images and one of two."""
    asked = {"type": "text", "text": "Which?"}
    prompts = [
        model.family.prompt([{"role": "user", "content": [{"type": "image"}] * n + [asked]}]) for n in (3, 2)
    ]
    return [reply.text for reply in model.reply([IMAGES, IMAGES[1:]], prompts, GREEDY)]


def apart(model: Any, folder: Path) -> None:
    """Half of the decoder's layers on disk, everything else in memory: each part gets accelerate's hooks."""
    depth = model.model.config.get_text_config().num_hidden_layers
    layers = [f"model.language_model.layers.{i}" for i in range(depth)]
    others = ["embed_tokens", "norm", "rotary_emb"]
    places: dict[str, Any] = {f"model.language_model.{name}": "cpu" for name in others}
    places |= {name: "disk" if i % 2 else "cpu" for i, name in enumerate(layers)}
    for name, _ in model.model.model.named_children():
        if name != "language_model":
            places[f"model.{name}"] = "cpu"
    places |= {f"model.{name}": "cpu" for name, _ in model.model.model.named_parameters(recurse=False)}
    places["lm_head"] = "cpu"
    dispatch_model(model.model, places, main_device="cpu", offload_dir=folder, force_hooks=True)


@pytest.mark.parametrize("mask", ["none", "block", "mask_only"])
def test_a_model_in_parts_answers_as_a_whole_one(
    planted: Path, calibrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(calibrations))
    more = {"tau": "8"} if mask == "mask_only" else {}
    model = LlavaOvMask(pretrained=str(planted), mask=mask, journal="off", feature_cache="off", **more)
    whole = answers(model)
    apart(model, tmp_path / "parts")
    assert any(weight.is_meta for weight in model.model.parameters())
    assert answers(model) == whole
    with pytest.raises(UserError, match=r"^pretrained=x does not fit on this machine's GPUs: \d+% of its"):
        check_spread(model.model, "x")


def test_device_map_auto_loads_all_of_it_and_answers_alike(tmp_path: Path) -> None:
    make_tiny_qwen2_vl(tmp_path / "model", seed=3)
    plain, spread = (
        Qwen2VLMask(pretrained=str(tmp_path / "model"), journal="off", **more)
        for more in ({}, {"device_map": "auto"})
    )
    assert {str(weight.device) for weight in spread.model.parameters()} <= {"cpu", "cuda:0"}
    if not torch.cuda.is_available():
        assert answers(spread) == answers(plain)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device_map": "balanced"}, "device_map must be auto, got 'balanced'"),
        ({"device_map": "auto", "device": "cpu"}, "device=cpu is not used with device_map=auto: leave one"),
    ],
)
def test_a_wrong_device_map_is_said(given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        AdapterOptions.parse(given)


@pytest.mark.parametrize(
    ("given", "processes", "message"),
    [
        ({"tp_plan": "rows"}, 2, "tp_plan must be auto, got 'rows'"),
        (
            {},
            1,
            r"tp_plan=auto spreads one model over several processes, and this is the only one: start",
        ),
        ({"device": "cpu"}, 2, "device=cpu is not used with tp_plan=auto: leave one"),
        ({"device_map": "auto"}, 2, "device_map=auto and tp_plan=auto both spread one model: leave one"),
        ({"peft": "x"}, 2, "peft=x does not go with tp_plan=auto: leave one"),
        ({"mask": "ar", "relevance": "attention"}, 2, "relevance=attention is a mean over all heads, of wh"),
    ],
)
def test_a_wrong_tp_plan_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], processes: int, message: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(UserError, match=f"^{message}"):
        AdapterOptions.parse({"tp_plan": "auto", **given})


def test_heads_that_the_processes_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_adapters.tensor_parallel import check_heads

    model = LlavaOvMask(mask="none", journal="off")
    monkeypatch.setenv("WORLD_SIZE", "3")
    line = r"^tp_plan=auto: the model's 4 attention heads \(2 for keys, values\) do not divide among 3"
    with pytest.raises(UserError, match=line):
        check_heads(model.model)


def test_several_processes_have_no_device_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes would each do so: start one process"):
        AdapterOptions.parse({"device_map": "auto"})
