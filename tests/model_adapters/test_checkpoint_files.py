"""A checkpoint's small files: damaged, missing, with code of their own, asking for too much."""

import builtins
import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError, announced_run
from model_adapters.loading import EMBEDDED
from model_adapters.models import Internvl2Mask, LlavaOvMask, Qwen2VLMask
from tests.work import modules_at_work

EVIL = "open({place!r}, 'w').write('ran')\nclass C:\n    pass\n"
MODELS = {"llava_onevision": LlavaOvMask, "qwen2_vl": Qwen2VLMask, "internvl": Internvl2Mask}


def copy(tmp_path: Path, name: str = "llava_onevision") -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in (EMBEDDED / name).iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file)
        else:
            shutil.copy(file, folder)
    return folder


def load(folder: Path, name: str = "llava_onevision") -> Any:
    return MODELS[name](pretrained=str(folder), mask="none", journal="off", device="cpu")


def change(path: Path, **settings: Any) -> None:
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **settings}))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content", ["", '{"eos_tok', "[1]", "null", "[" * 100_000], ids=range(5))
@pytest.mark.parametrize(
    "name",
    [
        "added_tokens.json",
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(name: str, content: str, tmp_path: Path) -> None:
    """A generation_config.json that was cut off changed 12 of 12 answers, without a word."""
    folder = copy(tmp_path)
    (folder / name).write_text(content)
    assert f"cannot be loaded: its {name} cannot be read: " in refused(folder)


def test_missing_files_are_said_with_what_holds_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(tmp_path, "internvl")
    (folder / "generation_config.json").unlink()
    model = load(folder, "internvl")
    assert f"pretrained={folder} has no generation_config.json: answers end at the" in capsys.readouterr().err
    assert model.model.generation_config.eos_token_id == model.family.processor.tokenizer.eos_token_id == 2
    assert announced_run()["end_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("processor_config.json", "it has no processor_config.json and no preprocessor_config.json"),
        ("chat_template.jinja", "has no chat template"),
        ("config.json", "it has no config.json with a model_type"),
    ],
)
def test_what_cannot_be_left_out_is_refused(name: str, told: str, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / name).unlink()
    assert told in refused(folder)


def test_an_index_that_names_absent_files_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names model-00001-of-00002.safetensors, which is not there (1 of 2 files)" in refused(folder)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../x.safetensors"}})
    )
    assert "names ../x.safetensors, which is not there" in refused(folder)


@pytest.mark.parametrize(
    ("part", "key", "value", "told"),
    [
        ("text_config", "num_hidden_layers", 10**6, "asks for "),
        ("text_config", "vocab_size", 10**9, "asks for at least "),
        ("text_config", "intermediate_size", 10**8, "asks for at least "),
        ("vision_config", "num_hidden_layers", 10**6, "asks for "),
        ("vision_config", "image_size", 10**7, "asks for at least "),
    ],
)
def test_a_config_larger_than_its_weights_is_refused_at_once(
    part: str, key: str, value: int, told: str, tmp_path: Path
) -> None:
    folder = copy(tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    settings[part][key] = value
    (folder / "config.json").write_text(json.dumps(settings))
    said = list[str]()
    made = modules_at_work(lambda: said.append(refused(folder)))
    assert f"cannot be loaded: its config.json {told}" in said[0]
    assert made["torch.nn.modules.module"] < 100  # no layer is made


def test_layers_without_width_are_refused_by_the_number_of_tensors(tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = copy(tmp_path)
    with safe_open(folder / "model.safetensors", "pt") as file:
        number = len(file.keys())
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"].update(num_hidden_layers=10**6, hidden_size=1, intermediate_size=1)
    (folder / "config.json").write_text(json.dumps(settings))
    told = f"asks for 1,000,000 layers, and its files of weights hold {number} tensors"
    assert told in refused(folder)


def test_an_adapter_is_no_checkpoint(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    change(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="some/where")
    assert (
        f"it is an adapter (adapter_config.json): name its base model, and the adapter by peft={folder}"
        in (refused(folder))
    )


PROCESSOR = {"processor_class": "EvilProcessor", "auto_map": {"AutoProcessor": "evil.C"}}
EVERYWHERE = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoProcessor"), "evil.C")
CODE: list[tuple[str, dict[str, Any]]] = [
    ("processor_config.json", PROCESSOR),
    (
        "tokenizer_config.json",
        {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.C", "evil.C"]}},
    ),
    ("preprocessor_config.json", {"image_processor_type": "E", "auto_map": {"AutoImageProcessor": "evil.C"}}),
    (
        "video_preprocessor_config.json",
        {"video_processor_type": "E", "auto_map": {"AutoVideoProcessor": "evil.C"}},
    ),
    ("config.json", {"auto_map": EVERYWHERE}),
    ("preprocessor_config.json", PROCESSOR),
    ("tokenizer_config.json", PROCESSOR),
]


@pytest.mark.parametrize(("name", "settings"), CODE, ids=[f"{n}-{next(iter(s))}" for n, s in CODE])
@pytest.mark.parametrize("name_of_model", ["llava_onevision", "internvl", "qwen2_vl"])
def test_code_of_a_checkpoint_is_never_run_and_never_offered(
    name_of_model: str, name: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Do you wish to run the custom code? [y/N]`, and `y` ran it."""

    def asked(*words: Any) -> str:
        raise AssertionError(f"asked: {words}")

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = copy(tmp_path, name_of_model)
    (folder / "evil.py").write_text(EVIL.format(place=str(tmp_path / "ran")))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text(EVIL.format(place=str(tmp_path / "ran")))
    change(folder / name, **settings)
    said = "code of its own"  # or it is loaded, by transformers' own classes
    with contextlib.suppress(UserError):
        load(folder, name_of_model)
        said = ""
    if said:
        with pytest.raises(UserError, match=said):
            load(folder, name_of_model)
    assert not (tmp_path / "ran").exists()


def test_the_reported_processor_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    change(folder / CODE[0][0], **CODE[0][1])
    assert (
        "names code of its own (auto_map) where transformers has no class: such code is never run"
        in refused(folder)
    )


class Evil:
    """A pickle that makes a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.place), "w"))


def test_code_in_pickled_weights_is_not_run(tmp_path: Path) -> None:
    import torch

    folder = copy(tmp_path)
    (folder / "model.safetensors").unlink()
    large = torch.zeros(2**20)  # as large as its config says
    torch.save({"lm_head.weight": Evil(tmp_path / "ran"), "x": large}, folder / "pytorch_model.bin")
    assert "cannot be loaded: " in refused(folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_without_code_are_loaded(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = copy(tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    ours, theirs = load(folder).model.state_dict(), load(EMBEDDED / "llava_onevision").model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def template(tmp_path: Path, text: str) -> Any:
    folder = copy(tmp_path)
    (folder / "chat_template.jinja").write_text(text)
    return load(folder).family


def test_a_chat_template_that_does_not_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from model_adapters import template as limits

    monkeypatch.setattr(limits, "SECONDS", 0.5)
    family = template(tmp_path, LOOP)
    with pytest.raises(
        UserError, match=r"chat template has not ended after 0\.5 s of CPU time: it is not used"
    ):
        family.prompt(MESSAGES)
    with ThreadPoolExecutor(1) as thread, pytest.raises(UserError, match="has not ended after"):
        thread.submit(family.prompt, MESSAGES).result()  # as docs are prepared


def test_time_in_which_a_process_is_suspended_is_not_a_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from model_adapters import template as limits

    monkeypatch.setattr(limits, "SECONDS", 0.5)
    family = template(tmp_path, "{{ messages[0]['role'] }}")
    family.prompt(MESSAGES)
    clock = time.monotonic
    calls = iter(range(1000))
    monkeypatch.setattr(
        time, "monotonic", lambda: clock() + 60 * next(calls)
    )  # SIGSTOP between any two lines
    assert family.prompt(MESSAGES) == "user"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ raise_exception('no images') }}", "cannot be used: TemplateError: no images"),
        ("{{ 1 + 'a' }}", "cannot be used: TypeError: "),
        ("{{ ''.__class__.__mro__ }}", "cannot be used: SecurityError: "),
        ("{% for %}", "cannot be used: TemplateSyntaxError: "),
        ("{{ nothing.there }}", "cannot be used: UndefinedError: "),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "needs too much: RecursionError"),
    ],
)
def test_a_chat_template_that_fails_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    family = template(tmp_path, text)
    with pytest.raises(UserError) as error:
        family.prompt(MESSAGES)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_large_or_empty_chat_template_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "chat_template.jinja").write_text(" \n")
    assert "its chat_template.jinja cannot be read: it is empty" in refused(folder)
    (folder / "chat_template.jinja").write_text("x" * (2**20 + 1))
    assert "its chat_template.jinja has 1,048,577 bytes; at most 1,048,576 are taken" in refused(folder)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_system_instruction_is_in_the_prompt_or_refused(name: str, tmp_path: Path) -> None:
    """It was ignored without a word."""
    family = load(EMBEDDED / name, name).family
    plain = family.prompt(MESSAGES)
    told = family.prompt(MESSAGES, system="Answer in French.")
    assert "Answer in French." not in plain
    assert told.index("Answer in French.") < told.index("How many?")
    family.processor.chat_template = "{% for m in messages if m.role == 'user' %}<image>Hello{% endfor %}"
    with pytest.raises(UserError, match="--system_instruction: the checkpoint's chat template has no place"):
        family.prompt(MESSAGES, system="Answer in French.")


def test_upstreams_chat_template_flag_finds_what_it_asks_for() -> None:
    """`'LlavaOvMask' object has no attribute 'chat_template'`."""
    model = load(EMBEDDED / "llava_onevision")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many?"}]
    text = model.apply_chat_template(chat)
    assert text.index("Be brief.") < text.index("How many?")
    assert model.chat_template == (EMBEDDED / "llava_onevision/chat_template.jinja").read_text().rstrip("\n")
    assert model.tokenizer_name.endswith("llava_onevision")
