"""Identities: what changes an answer changes a hash, and where something lies does not."""

import json
import shutil
from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mimic_eval.records import UserError
from model_adapters import identity
from model_adapters.identity import canonical_json, config_hash, processor_hash, weights_hash

EMBEDDED = Path(__file__).resolve().parents[2] / "model_adapters/embedded"


class Weights(nn.Module):
    """Tensors by name, as a model's buffers."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def some() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        "table": torch.randn(7, 5, generator=draw).bfloat16(),
        "cube": torch.randn(3, 4, 6, generator=draw),
        "count": torch.tensor(5),
        "flags": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 4),
    }


def plainly(tensors: dict[str, torch.Tensor]) -> str:
    """`weights_hash` written out."""
    rows = []
    for name, tensor in sorted(tensors.items()):
        data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        rows.append([name, list(tensor.shape), str(tensor.dtype), sha256(data).hexdigest()])
    return sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


# --- Canonical JSON


def test_equal_settings_have_one_text() -> None:
    class Mode(Enum):
        FAST = "fast"

    given = {
        "b": {3, 1, 2},
        "a": (1, 2.5),
        "m": Mode.FAST,
        "t": torch.float16,
        "n": np.float64(0.5),
        "p": Path("x"),
    }
    assert (
        canonical_json(given)
        == '{"a":[1,2.5],"b":[1,2,3],"m":"fast","n":0.5,"p":"x","t":"torch.float16"}'
        == canonical_json(dict(reversed(given.items())))
    )
    with pytest.raises(TypeError, match=r"^value\.a\[1\] is a builtins\.object, which has no JSON form$"):
        canonical_json({"a": [1, object()]})


# --- Weights


@pytest.mark.parametrize("piece", [8, 40, 2**24])
def test_the_hash_is_its_definition_whatever_the_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_PIECE", piece)
    tensors = some()
    assert weights_hash(Weights(**tensors)) == plainly(tensors)
    turned = {**tensors, "table": tensors["table"].T, "cube": tensors["cube"].permute(2, 0, 1)}
    assert not turned["table"].is_contiguous()
    assert weights_hash(Weights(**turned)) == plainly(turned) != plainly(tensors)


def test_no_piece_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_PIECE", 64)
    for shape in ((5, 7, 3), (1, 100), (100, 1), (200,), (1, 1, 90)):
        for tensor in (torch.rand(shape), torch.rand(shape).permute(*reversed(range(len(shape))))):
            pieces = list(identity._pieces(tensor))
            assert max(piece.nbytes for piece in pieces) <= 64
            assert torch.equal(torch.cat([piece.reshape(-1) for piece in pieces]), tensor.reshape(-1))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["table"].view(torch.int16)[6, 4].add_(1),  # the last bit of one element
        lambda t: t.update(renamed=t.pop("table")),
        lambda t: t.update(table=t["table"].view(torch.float16)),  # the same bytes
        lambda t: t.update(table=t["table"].float()),
        lambda t: t.update(table=t["table"].reshape(5, 7)),
        lambda t: t.update(nothing=torch.zeros(4, 0)),
        lambda t: t.update(table=t["count"], count=t["table"]),
        lambda t: t.pop("flags"),
        lambda t: t.update(more=torch.zeros(0)),
    ],
)
def test_any_change_of_a_weight_changes_the_hash(change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = some()
    change(tensors)
    assert weights_hash(Weights(**tensors)) != weights_hash(Weights(**some()))


def test_tied_weights_are_hashed_once_and_count_as_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.rand(6, 4)
    seen: list[torch.Tensor] = []
    plain = identity._tensor_hash
    monkeypatch.setattr(identity, "_tensor_hash", lambda tensor: (seen.append(tensor), plain(tensor))[1])
    tied = weights_hash(Weights(embed=table, head=table))
    assert len(seen) == 1
    assert tied == weights_hash(Weights(embed=table, head=table.clone()))
    assert tied != weights_hash(Weights(embed=table, head=table + 1))
    for part in (table[:3], table[3:], table.view(-1)[:6], table[::2]):  # of one memory, but not tied
        assert weights_hash(Weights(a=table, b=part)) == plainly({"a": table, "b": part})


def test_what_is_not_saved_does_not_count() -> None:
    model = Weights(**some())
    before = weights_hash(model)
    model.register_buffer("cache", torch.rand(3), persistent=False)
    assert weights_hash(model) == before


def test_weights_that_cannot_be_read_are_refused() -> None:
    for tensor, reason in (
        (torch.empty(3, device="meta"), "is not in memory"),
        (torch.eye(3).to_sparse(), "is no dense tensor"),
    ):
        with pytest.raises(UserError, match=f"^the weight w {reason}, so that .*: use journal=off$"):
            weights_hash(Weights(w=tensor))


# --- Checkpoints on disk


def load(folder: Path, **how: Any) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, **how)


def processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(params=["llava_onevision", "internvl"])
def source(request: pytest.FixtureRequest) -> Path:
    return EMBEDDED / str(request.param)


@pytest.fixture
def copied(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copied"))


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def test_a_copied_checkpoint_has_the_same_hashes(source: Path, copied: Path) -> None:
    model, copy = load(source, dtype=torch.float32), load(copied, dtype=torch.float32)
    assert model.config._name_or_path != copy.config._name_or_path
    assert weights_hash(model) == weights_hash(copy)
    assert config_hash(model) == config_hash(copy)
    assert processor_hash(processor(source)) == processor_hash(processor(copied))


def test_changed_weights_under_the_same_path_change_the_hash(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = load(copied)
    weights = load_file(copied / "model.safetensors")
    name = sorted(weights)[len(weights) // 2]
    weights[name].view(-1)[0] += 1
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    after = load(copied)
    assert weights_hash(before) != weights_hash(after)
    assert config_hash(before) == config_hash(after)
    assert weights_hash(load(copied)) == weights_hash(after)
    assert weights_hash(load(copied, dtype=torch.bfloat16)) != weights_hash(after)


def test_settings_that_change_answers_change_the_config_hash(copied: Path) -> None:
    hashes = [config_hash(load(copied))]
    rewrite(copied / "config.json", lambda c: c["text_config"]["rope_parameters"].update(rope_theta=5e5))
    hashes.append(config_hash(load(copied)))
    rewrite(copied / "generation_config.json", lambda c: c.update(eos_token_id=1))
    hashes.append(config_hash(load(copied)))
    assert len(set(hashes)) == 3


def test_an_adapter_is_part_of_the_weights_and_of_the_config(copied: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    plain = load(copied, dtype=torch.float32)
    without = (weights_hash(plain), config_hash(plain))
    made = get_peft_model(plain, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    made.save_pretrained(tmp_path / "lora")
    shutil.copytree(tmp_path / "lora", tmp_path / "lora2")

    def hashes(folder: str) -> tuple[str, str]:
        model = PeftModel.from_pretrained(load(copied, dtype=torch.float32), tmp_path / folder)
        return weights_hash(model), config_hash(model)

    first = hashes("lora")
    assert first[0] != without[0]
    assert first[1] != without[1]
    rewrite(tmp_path / "lora2/adapter_config.json", lambda c: c.update(base_model_name_or_path="elsewhere"))
    assert hashes("lora2") == first
    rewrite(tmp_path / "lora2/adapter_config.json", lambda c: c.update(lora_alpha=99))  # no weight changes
    scaled = hashes("lora2")
    assert scaled[0] == first[0]
    assert scaled[1] != first[1]


# --- The processor


def test_using_a_processor_does_not_change_its_hash(source: Path) -> None:
    used = processor(source)
    before = processor_hash(used)
    used.tokenizer(["one", "one two three"], padding=True)
    used.tokenizer("one two three", truncation=True, max_length=2)
    assert processor_hash(used) == before


def image_setting(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: rewrite(
        folder / "processor_config.json", lambda c: c["image_processor"].update({name: value})
    )


def other_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + " ")


def swap(vocabulary: dict[str, int]) -> None:
    first, second = list(vocabulary)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def add_token(tokenizer: dict[str, Any], content: str) -> None:
    token = dict(tokenizer["added_tokens"][-1], id=len(tokenizer["model"]["vocab"]), content=content)
    tokenizer["model"]["vocab"][content] = token["id"]
    tokenizer["added_tokens"].append(token)


@pytest.mark.parametrize(
    "change",
    [
        image_setting("image_mean", [0.5, 0.5, 0.5]),
        image_setting("size", {"height": 32, "width": 32}),
        image_setting("max_pixels", 5000),
        image_setting("resample", 2),
        other_template,
        lambda folder: rewrite(folder / "tokenizer.json", lambda t: swap(t["model"]["vocab"])),
        lambda folder: rewrite(folder / "tokenizer.json", lambda t: t["model"]["merges"].pop()),
        lambda folder: rewrite(folder / "tokenizer.json", lambda t: add_token(t, "name_or_path")),
        lambda folder: rewrite(folder / "tokenizer_config.json", lambda t: t.update(pad_token="<|im_end|>")),
        lambda folder: rewrite(folder / "tokenizer_config.json", lambda t: t.update(padding_side="left")),
    ],
)
def test_what_changes_the_inputs_changes_the_processors_hash(
    copied: Path, source: Path, change: Callable[[Path], None]
) -> None:
    change(copied)
    assert processor_hash(processor(copied)) != processor_hash(processor(source))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("llava_onevision", "image_grid_pinpoints", [[48, 48], [48, 96]]),
        ("internvl", "max_patches", 2),
    ],
)
def test_how_pictures_are_tiled_changes_the_processors_hash(
    name: str, setting: str, value: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(EMBEDDED / name, tmp_path / "copied"))
    image_setting(setting, value)(folder)
    assert processor_hash(processor(folder)) != processor_hash(processor(EMBEDDED / name))


def test_a_processors_own_settings_change_its_hash() -> None:
    llava = processor(EMBEDDED / "llava_onevision")
    before = processor_hash(llava)
    llava.vision_aspect_ratio = "anyres_max_4"
    assert processor_hash(llava) != before
    llava.vision_aspect_ratio = "anyres_max_9"
    assert processor_hash(llava) == before
    llava.chat_template += " "  # what `apply_chat_template` goes by, not the tokenizer's
    assert processor_hash(llava) != before
    internvl = processor(EMBEDDED / "internvl")
    before = processor_hash(internvl)
    internvl.image_seq_length = 9
    assert processor_hash(internvl) != before


def test_a_tokenizer_without_rules_to_hash_is_refused() -> None:
    llava = processor(EMBEDDED / "llava_onevision")
    llava.tokenizer = object()
    with pytest.raises(UserError, match=r"^the tokenizer object is no fast one, .*: use journal=off$"):
        processor_hash(llava)
