"""The table of families: names without heavy imports, and a family of another package."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mimic_eval.records import UserError, registry
from mimic_eval.records.registry import Registry
from model_adapters import families
from model_adapters.assembly import relevance_source
from model_adapters.families import FAMILIES, lmms_models, model_names
from model_adapters.layout import Layout, Span
from model_adapters.lora.names import FORMER
from model_adapters.manifests import manifests
from model_adapters.options import AdapterOptions

THEIRS = '''
"""A family of another package: LLaVA under another model type."""
import json
from transformers import LlavaConfig, LlavaForConditionalGeneration
from model_adapters.families.llava import Llava
from model_adapters.tiny.llava import make_tiny_llava

class TwinConfig(LlavaConfig):
    model_type = "twin-llava"

class Twin(LlavaForConditionalGeneration):
    config_class = TwinConfig

class TwinLlava(Llava):
    model_type = "twin-llava"
    name = "Twin"
    tiny = "their_twin:make_tiny"
    has_places = False

    @staticmethod
    def model_class():
        return Twin

def make_tiny(out, **how):
    make_tiny_llava(out, **how)
    plain = LlavaForConditionalGeneration.from_pretrained(out)
    config = {key: value for key, value in plain.config.to_dict().items() if key != "model_type"}
    twin = Twin(TwinConfig(**config))
    twin.load_state_dict(plain.state_dict())
    twin.generation_config = plain.generation_config
    twin.save_pretrained(out)
'''


def test_the_names_of_models_need_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from model_adapters.families import lmms_models; print(*lmms_models()); "
        "assert not {'torch', 'transformers', 'lmms_eval', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"internvl_mask", "internvl2_mask", "llava_ov_mask", "qwen2_vl_mask"} <= set(done.stdout.split())


def test_a_model_takes_the_checkpoints_of_its_family_first() -> None:
    assert lmms_models()["llava_ov_mask"] == ("llava_onevision", "llava")
    assert lmms_models()["internvl2_mask"] == lmms_models()["internvl_mask"] == ("internvl",)
    assert model_names("internvl")[0] == "internvl_mask"
    assert model_names("their-type2.5") == ("their_type2_5_mask",)


@pytest.mark.parametrize("model_type", FAMILIES.ours)
def test_a_family_carries_its_facts(model_type: str) -> None:
    family = FAMILIES.get(model_type)
    assert family.model_type == {"mantis": "llava"}.get(model_type, model_type)
    assert callable(family.make_tiny)
    assert set(family.delimiters) <= {"before", "after", "closing"}
    assert set(family.former_names) <= set(FORMER)


def test_delimiters_are_tokens_around_an_image_or_at_its_end() -> None:
    layout = Layout(20, 2, (Span(4, 8), Span(9, 13)))
    positions = {
        name: FAMILIES.get(name).delimiter_tokens(FAMILIES.get(name).__new__(FAMILIES.get(name)), layout)
        for name in ("qwen2_vl", "llava_onevision", "llava")
    }
    assert positions == {"qwen2_vl": (3, 8, 13), "llava_onevision": (7, 12), "llava": ()}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with a family."""
    (tmp_path / "their_twin.py").write_text(THEIRS)
    about = tmp_path / "their_twin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-twin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mimic_eval.families]\ntwin-llava = their_twin:TwinLlava\n")
    monkeypatch.syspath_prepend(tmp_path)
    fresh = Registry(
        "family", {name: FAMILIES._targets[name] for name in FAMILIES.ours}, group=FAMILIES.group
    )
    monkeypatch.setattr(families.registry, "FAMILIES", fresh)
    for user in ("model_adapters.models", "model_adapters.sinks.planted", "model_adapters.sinks.files"):
        __import__(user)
        monkeypatch.setattr(sys.modules[user], "FAMILIES", fresh)
    return "twin-llava"


def test_a_family_of_another_package_is_a_model(theirs: str, tmp_path: Path) -> None:
    from model_adapters import models
    from model_adapters.sinks import calibrate_command

    assert lmms_models()["twin_llava_mask"] == (theirs,)
    (manifest,) = (own for own in manifests() if own.model_id == "twin_llava_mask")
    module, _, name = manifest.chat_class_path.rpartition(".")
    assert module == "model_adapters.models"
    model_type = getattr(models, name)
    (family,) = model_type.families
    checkpoint = tmp_path / "tiny"
    family.make_tiny(checkpoint, seed=1)
    assert json.loads((checkpoint / "config.json").read_text())["model_type"] == theirs
    model = model_type(pretrained=str(checkpoint), mask="block", journal="off")
    assert calibrate_command(model.model) == "mimic calibrate twin_llava_mask"
    FAMILIES.get("llava").make_tiny(tmp_path / "llava", seed=1)
    same = models.model_class("llava_mask")(pretrained=str(tmp_path / "llava"), mask="block", journal="off")
    assert answer(model) == answer(same)
    with pytest.raises(UserError, match="pretrained=, a folder or a Hub id"):
        model_type(journal="off")
    ar = AdapterOptions.parse({"mask": "ar"})
    with pytest.raises(UserError, match="Twin's tokens show none: choose uniform or attention"):
        relevance_source(ar, torch.device("cpu"), family)


def answer(model: Any) -> str:
    from PIL import Image

    images = [Image.new("RGB", (60, 40), color) for color in ("red", "blue")]
    content = [{"type": "image"}] * 2 + [{"type": "text", "text": "Which?"}]
    prompt = model.family.prompt([{"role": "user", "content": content}])
    (reply,) = model.reply([images], [prompt], {"max_new_tokens": 6, "do_sample": False})
    return str(reply.text)


def test_two_packages_with_one_model_type_are_refused(
    theirs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[mimic_eval.families]\ntwin-llava = other:Twin\n")
    with pytest.raises(UserError, match=r"family 'twin-llava' is defined twice: .*uninstall one"):
        lmms_models()


def test_a_package_whose_family_is_broken_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib.metadata import EntryPoint

    from model_adapters import models

    points = [EntryPoint("broken", "no_such_package:Family", "mimic_eval.families")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    fresh = Registry("family", {"llava": FAMILIES._targets["llava"]}, group=FAMILIES.group)
    monkeypatch.setattr(families.registry, "FAMILIES", fresh)
    monkeypatch.setattr(models, "FAMILIES", fresh)
    assert "broken_mask" in lmms_models()
    with pytest.raises(UserError, match="family 'broken': no_such_package:Family cannot be imported"):
        models.model_class("broken_mask")
    assert models.model_class("llava_mask").families[0].model_type == "llava"
