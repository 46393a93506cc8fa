"""Which generation settings are used, which are said not to be, and what the record holds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError, announced_run
from model_adapters.generation import generate_arguments, unused_settings, used_settings
from model_adapters.loading import EMBEDDED
from model_adapters.models import LlavaOvMask, Qwen2VLMask

TASK = {"max_new_tokens": 16, "temperature": 0, "do_sample": False}


def sampling(**settings: Any) -> tuple[bool, Any]:
    arguments = generate_arguments({**TASK, **settings})
    return arguments["do_sample"], arguments["temperature"]


def test_do_sample_decides_and_a_temperature_without_it_is_said() -> None:
    """`--gen_kwargs temperature=1.5` was greedy, and recorded as 1.5."""
    assert sampling(temperature=1.5) == (False, None)
    line = unused_settings({**TASK, "temperature": 1.5})
    assert line is not None
    assert line.startswith("temperature=1.5 is not used: do_sample=False wins, answers are greedy")
    assert "temperature" not in used_settings({**TASK, "temperature": 1.5})
    assert sampling(temperature=1.5, do_sample=True) == (True, 1.5)
    assert unused_settings({**TASK, "temperature": 1.5, "do_sample": True}) is None
    assert used_settings({**TASK, "temperature": 1.5, "do_sample": True})["temperature"] == 1.5


def test_sampling_without_a_temperature_is_that_of_transformers() -> None:
    """It was greedy."""
    assert generate_arguments({"do_sample": True})["temperature"] == 1
    assert generate_arguments({"temperature": 0.2})["do_sample"] is True
    assert sampling(do_sample=True) == (False, None)
    assert "do_sample=True with temperature=0 is greedy" in str(unused_settings({**TASK, "do_sample": True}))


def test_how_llava_of_lmms_eval_prepares_images_is_not_used_and_said() -> None:
    """SEED-Bench stopped: "Unknown generation setting 'image_aspect_ratio'"."""
    settings = {**TASK, "image_aspect_ratio": "original"}
    assert generate_arguments(settings) == generate_arguments(TASK)
    assert used_settings(settings) == used_settings(TASK)
    line = "image_aspect_ratio=original is not used: images are prepared as the checkpoint says"
    assert unused_settings(settings) == line
    assert str(unused_settings({**settings, "temperature": 1.5})).endswith(f"; {line}")


@pytest.mark.parametrize("idle", [{}, {"temperature": 1.0}, {"top_k": 50, "top_p": 1.0}])
def test_defaults_are_not_mentioned(idle: dict[str, Any]) -> None:
    assert unused_settings({**TASK, **idle}) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_beams": 3}, "num_beams=3: the .* decode without beams"),
        ({"num_beams": "x"}, "num_beams must be a number"),
        (
            {"do_sample": True, "temperature": 1, "top_p": 7},
            "top_p must be a number of at least 0 and at most 1",
        ),
        (
            {"do_sample": True, "temperature": "warm"},
            "temperature must be a number of at least 0, got 'warm'",
        ),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"temperature": float("inf")}, "temperature must be a number"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a number of at least 1"),
    ],
)
def test_wrong_values_are_one_line(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        generate_arguments(settings)


class Request:
    """What upstream hands to a chat model."""

    def __init__(self, doc_id: int, **settings: Any) -> None:
        from mimic_tasks.lmms_hooks import doc_to_messages

        self.args = ("", doc_to_messages, {**TASK, **settings}, doc_id, "mimic_listing", "test")


def answers(model: Any, **settings: Any) -> list[str]:
    from mimic_tasks.locate import task_folder
    from mimic_tasks.stored_docs import read_docs, task_files

    docs = list(read_docs(task_files(task_folder().path)["listing"], ("images", "question", "image_ids")))[:2]
    model.task_dict = {"mimic_listing": {"test": docs}}
    return [answer.text for answer in model.generate_until([Request(i, **settings) for i in range(2)])]


def checkpoint(tmp_path: Path, **settings: Any) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(EMBEDDED / "qwen2_vl", folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


MODES: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"repetition_penalty": 3.0},
    {"no_repeat_ngram_size": 1},
    {"min_length": 900, "min_new_tokens": 12},
    {"suppress_tokens": list(range(5, 700))},
    {"bad_words_ids": [[7], [8]]},
    {"forced_eos_token_id": 2, "forced_bos_token_id": 9},
    {"max_length": 20},
    {"use_cache": False, "cache_implementation": "static"},
    {"num_return_sequences": 2, "do_sample": True, "temperature": 5.0},
    {"guidance_scale": 3.0},
    {"prompt_lookup_num_tokens": 3},
    {"stop_strings": ["a"]},
]


@pytest.fixture(scope="module")
def greedy() -> list[str]:
    return answers(Qwen2VLMask(mask="none", journal="off", device="cpu"))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: next(iter(mode)))
def test_a_checkpoints_decoding_mode_leaves_answers_greedy(
    mode: dict[str, Any], greedy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """num_beams=3: "1 layouts were announced for a batch of 3", exit 1."""
    folder = checkpoint(tmp_path, **mode)
    model = Qwen2VLMask(pretrained=str(folder), mask="none", journal="off", device="cpu")
    assert answers(model) == greedy
    unused = announced_run().get("generation_config_unused", {})
    for key, value in mode.items():
        if key not in ("use_cache",):
            assert unused[key] == value
    said = capsys.readouterr().err
    first = next(iter(mode))
    if first not in ("use_cache",):
        assert f"its generation_config sets {first}=" in said or first + "=" in said
    assert announced_run()["generation"] == {
        "mimic_listing": {"max_new_tokens": 16, "do_sample": False, "until": []}
    }


def test_the_end_token_of_a_checkpoint_is_taken(tmp_path: Path, greedy: list[str]) -> None:
    model = Qwen2VLMask(pretrained=str(checkpoint(tmp_path, eos_token_id=7)), mask="none", journal="off")
    assert announced_run()["end_tokens"] == 7
    assert len(answers(model)[0]) > len(greedy[0])  # 2 does not end it any more


def test_a_run_says_and_records_what_it_used(capsys: pytest.CaptureFixture[str], greedy: list[str]) -> None:
    model = Qwen2VLMask(mask="none", journal="off", device="cpu")
    assert answers(model, temperature=1.5) == greedy
    assert capsys.readouterr().err.count("temperature=1.5 is not used: do_sample=False wins") == 1
    assert announced_run()["generation"]["mimic_listing"]["do_sample"] is False
    answers(model, temperature=1.5, do_sample=True)
    assert announced_run()["generation"]["mimic_listing"]["temperature"] == 1.5


def test_prompts_that_are_too_long_are_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mimic_eval.records import announced_effects

    folder = tmp_path / "checkpoint"
    shutil.copytree(EMBEDDED / "llava_onevision", folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["max_position_embeddings"] = 60
    (folder / "config.json").write_text(json.dumps(settings))
    for _ in range(2):  # the second time from the journal
        model = LlavaOvMask(pretrained=str(folder), mask="none", device="cpu")
        answers(model)
        long = announced_effects()["long_prompts"]
        assert (long["docs"], long["limit"]) == (2, 60)
        assert long["longest"] > 60
        assert (
            capsys.readouterr().err.count("2 docs have prompts longer than the model was made for: up to")
            == 1
        )
    answers(LlavaOvMask(mask="none", journal="off", device="cpu"))
    assert "long_prompts" not in announced_effects()
