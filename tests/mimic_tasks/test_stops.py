"""No stop but the end token (METHODS 2.1), with a checkpoint whose every answer begins with a blank line."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from mimic_tasks.locate import EMBEDDED
from model_adapters.tiny import make_tiny_qwen2_vl
from tests.conftest import Command

ANSWER = "\n\n3"


@pytest.fixture(scope="module")
def answers_after_a_blank_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-VL whose next token follows from the last one alone: after a prompt `ANSWER`, then the end."""
    folder = tmp_path_factory.mktemp("blank_line")
    make_tiny_qwen2_vl(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([ANSWER])
    tokenizer.save_pretrained(folder)
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        embeddings = model.get_input_embeddings().weight
        answer = tokenizer.convert_tokens_to_ids(ANSWER)
        [prompt_end] = tokenizer.encode("\n")
        model.lm_head.weight[answer] = embeddings[prompt_end]
        model.lm_head.weight[tokenizer.eos_token_id] = embeddings[answer] * 100 - embeddings[prompt_end]
    model.save_pretrained(folder)
    return folder


def unchanged(folder: Path) -> None:
    """As this version builds it."""


def older(folder: Path) -> None:
    """As builds before this one wrote it: no `until`, and upstream puts a blank line in."""
    file = folder / "mimic_counting.yaml"
    text = file.read_text()
    assert "  until: []\n" in text
    file.write_text(text.replace("  until: []\n", ""))


@pytest.mark.parametrize("model", ["qwen2_vl_mask", "qwen2_vl"])
@pytest.mark.parametrize("build", [unchanged, older])
def test_an_answer_that_begins_with_a_blank_line_is_scored(
    model: str,
    build: Callable[[Path], None],
    answers_after_a_blank_line: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    """It was empty, with our models and with upstream's."""
    data = Path(copytree(EMBEDDED, tmp_path / "data"))
    build(data)
    ours = model.endswith("_mask")
    arguments = "journal=off" if ours else "device_map=cpu,device=cpu,min_pixels=784,max_pixels=3136"
    arguments = f"pretrained={answers_after_a_blank_line},{arguments}"
    done = command(
        "lmms_eval", "--tasks", "mimic_counting", "--model", model, "--model_args", arguments, "--limit", 8,
        "--log_samples", "--output_path", tmp_path / "out", "--verbosity", "ERROR", MIMIC_DATA=str(data),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [samples] = tmp_path.glob("out/**/*samples_mimic_counting.jsonl")
    records = [json.loads(line)["mimic"] for line in samples.read_text().splitlines()]
    assert len(records) == 8
    assert {record["response"].strip() for record in records} == {"3"}
    assert {record["status"] for record in records} == {"parsed"}
    assert [record["score"] for record in records] == [float(record["gt"] == "3") for record in records]
    assert any(record["score"] for record in records)
