"""`lmms_eval`'s arguments and config files: each works, or is refused in one line before a model loads."""

import argparse
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mimic_eval.cli.lmms.arguments import check_early, defaults_for
from mimic_eval.cli.lmms.config import settle
from mimic_eval.cli.lmms.outcome import cause
from mimic_eval.cli.lmms.wrappers import limiting
from mimic_eval.records import UserError
from mimic_tasks import lmms_hooks

pytestmark = pytest.mark.usefixtures("no_variables")

OURS = ("--tasks", "mimic_counting", "--model", "llava_ov_mask")
UPSTREAMS = ("--tasks", "mimic_counting", "--model", "dummy")


REFUSED = [
    (UPSTREAMS, ("--use_cache", "x"), "--use_cache knows neither weights nor pictures"),
    (UPSTREAMS, ("-c", "x"), "--use_cache knows neither"),
    (OURS, ("--cache_requests", "true"), "--cache_requests knows neither"),
    (
        OURS,
        ("--cache_requests", "refresh"),
        "leave it out (the *_mask models keep their answers in a journal",
    ),
    (("--tasks", "mmmu_val", "--model", "qwen2_vl_mask"), ("--use_cache", "x"), "--use_cache knows neither"),
    (UPSTREAMS, ("--num_fewshot", "2"), "--num_fewshot 2: the mimic tasks"),
    (OURS, ("--apply_chat_template",), "--apply_chat_template: the chat template is always applied"),
    (OURS, ("--fewshot_as_multiturn",), "--fewshot_as_multiturn: few-shot examples"),
    (UPSTREAMS, ("--check_integrity",), "--check_integrity: it runs tests of upstream's source tree"),
    (OURS, ("--force_simple",), "llava_ov_mask is a chat model only"),
    (UPSTREAMS, ("--gen_kwargs", "max_new_tokens"), "'max_new_tokens' has no '='"),
    (UPSTREAMS, ("--hf_hub_log_args", "me"), "'me' has no '='"),
    (UPSTREAMS, ("--launcher_args", "tp=8"), "must name the launcher"),
    (UPSTREAMS, ("--reasoning_tags", "think"), "must be a JSON list of pairs"),
    (UPSTREAMS, ("--reasoning_tags", '[["a"]]'), "must be a JSON list of pairs"),
    (UPSTREAMS, ("--output_path", "a,b"), "upstream interprets commas"),
    (UPSTREAMS, ("--output_path", ""), "--output_path is empty: leave it out"),
    (UPSTREAMS, ("--output_path=",), "--output_path is empty: leave it out"),
    (UPSTREAMS, ("--limit", "inf"), "--limit must be"),
    (UPSTREAMS, ("--limit", "nan"), "--limit must be"),
]


@pytest.mark.parametrize(("run", "arguments", "message"), REFUSED)
def test_what_would_give_wrong_answers_or_none_is_refused_early(
    run: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError) as error:
        check_early([*run, *arguments])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        (*UPSTREAMS, "--num_fewshot", "0"),
        (*UPSTREAMS, "--write_out", "--process_with_media", "--seed", "42", "--limit", "0.5"),
        (*UPSTREAMS, "--gen_kwargs", 'max_new_tokens=3,until="a,b"', "--batch_size", "auto"),
        (*UPSTREAMS, "--reasoning_tags", '[["<a>", "</a>"]]', "--system_instruction", "Hello"),
        (*UPSTREAMS, "--reasoning_tags", "none"),
        ("--tasks", "mmmu_val", "--model", "dummy", "--use_cache", "x", "--num_fewshot", "2"),
        (*OURS, "--output_path", "2024"),
    ],
)
def test_what_works_is_not_refused(arguments: tuple[str, ...]) -> None:
    check_early(list(arguments))


# Config files


def config(folder: Path, content: Any) -> str:
    file = folder / "run.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(file)


RUN = {"model": "llava_ov_mask", "tasks": "mimic_counting"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("", "must hold `flag: value` lines"),
        ("- a\n- b", "must hold `flag: value` lines"),
        ([], "holds no run"),
        ({**RUN, "env": ["A=1"]}, "env must hold"),
        ({**RUN, "wandb_args": "project=x"}, "upstream takes wandb_args from the command line only"),
        ({**RUN, "model_args": {"mask": "bloc"}}, "Unknown mask 'bloc'"),
        ({**RUN, "model_args": ["mask=block"]}, "model_args must be text"),
        ({**RUN, "model_args": {"pretrained": "a,b"}}, "the value of pretrained cannot be separated"),
        ({**RUN, "use_cache": "x"}, "--use_cache knows neither"),
        ({**RUN, "cache_requests": True}, "--cache_requests knows neither"),
        ({**RUN, "limit": "some"}, "--limit must be"),
        ([RUN, {**RUN, "num_fewshot": 3}], "--num_fewshot 3"),
        ({"model": "llava_ov_mask"}, "no task given"),
    ],
)
def test_a_config_file_is_checked_as_a_command_line_is(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        check_early(["--config", config(tmp_path, content)])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        check_early(["--config", str(tmp_path / "nowhere.yaml")])


def settled(monkeypatch: pytest.MonkeyPatch, **values: Any) -> argparse.Namespace:
    """A run's arguments with values of a config file, as upstream has them after reading it."""
    from lmms_eval import __main__ as upstream

    monkeypatch.setattr(sys, "argv", ["lmms_eval"])
    parser, args = upstream.parse_eval_args()
    for name, value in values.items():
        setattr(args, name, value)
    settle(args, parser)
    return args


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        (
            "model_args",
            {"mask": "none", "prefix": True, "pool": 2, "peft": None},
            "mask=none,prefix=true,pool=2",
        ),
        ("gen_kwargs", {"max_new_tokens": 8, "temperature": 0.5}, "max_new_tokens=8,temperature=0.5"),
        ("gen_kwargs", "max_new_tokens=8", "max_new_tokens=8"),
        ("seed", 42, [42, 42, 42, 42]),
        ("seed", [0, 1, 2, 3], [0, 1, 2, 3]),
        ("seed", None, "0,1234,1234,1234"),
        ("tasks", ["mimic_counting", "mimic_listing"], "mimic_counting,mimic_listing"),
        ("batch_size", 4, "4"),
        ("limit", "2", 2.0),
        ("output_path", 2024, "2024"),
        ("cache_requests", True, "true"),
        ("reasoning_tags", [["<a>", "</a>"]], '[["<a>", "</a>"]]'),
        ("log_samples", True, True),
        ("model_args", None, ""),
    ],
)
def test_a_config_files_values_become_those_of_a_command_line(
    name: str, value: Any, want: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping, `seed: 42` and a number were Python errors (B17)."""
    assert getattr(settled(monkeypatch, **{name: value}), name) == want


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("log_samples", "yes please", "log_samples must be true or false"),
        ("seed", "a", "seed cannot be 'a'"),
        ("num_fewshot", "two", "num_fewshot cannot be 'two'"),
        ("cache_requests", "sometimes", "must be one of true, refresh, delete"),
        ("gen_kwargs", {"until": ["a", "b"]}, "the value of until cannot be separated"),
        ("model", {"a": 1}, "model must be text"),
    ],
)
def test_a_value_without_such_a_form_is_refused(
    name: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=message):
        settled(monkeypatch, **{name: value})


# Stops and limits


class Task(SimpleNamespace):
    """What `limiting` uses of one of upstream's tasks."""

    eval_docs: list[int]


def run_limited(monkeypatch: pytest.MonkeyPatch, task: Task, **given: Any) -> None:
    from lmms_eval import evaluator_utils

    found = [SimpleNamespace(task_name="t", task=task)]
    monkeypatch.setattr(evaluator_utils, "get_task_list", lambda _: found)
    limiting(lambda **_: None)(task_dict={}, **given)


@pytest.mark.parametrize(
    ("hook", "before", "after"),
    [
        (lmms_hooks.process_counting, ["\n\n"], []),
        (lmms_hooks.process_counting, ["Question:"], ["Question:"]),
        (lmms_hooks.process_counting, [], []),
        (yaml.safe_load, ["\n\n"], ["\n\n"]),
    ],
)
def test_a_task_of_ours_that_sets_no_stop_has_none(
    hook: Any, before: list[str], after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream's blank line emptied every answer that begins with one; folders built before set none."""
    config = SimpleNamespace(process_results=hook, generation_kwargs={"until": before})
    run_limited(monkeypatch, Task(config=config, eval_docs=[0, 1]))
    assert config.generation_kwargs["until"] == after


def test_an_offset_beyond_the_docs_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(config=SimpleNamespace(), eval_docs=[0, 1])
    run_limited(monkeypatch, task, offset=1)
    with pytest.raises(UserError, match="--offset 2: t has 2 docs"):
        run_limited(monkeypatch, task, offset=2)


def test_defaults_of_upstreams_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = defaults_for(["--tasks", "mimic"])
    assert re.fullmatch(r"runs/\d{8}_\d{6}", made.pop("output_path"))
    assert made == {"verbosity": "WARNING", "log_samples": True}
    assert defaults_for(["--verbosity", "INFO", "--output_path=x"]) == {"log_samples": True}
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert defaults_for(["--verbosity=DEBUG"]) == {}
    assert "cannot be written: results are only printed" in capsys.readouterr().err


def test_model_of_upstreams_that_wants_a_gpu_is_told_what_to_give() -> None:
    """`--model qwen2_vl` on a machine without one: `RuntimeError: Found no NVIDIA driver on your system`."""
    told = cause(RuntimeError("Found no NVIDIA driver on your system. Please check that you have one"))
    assert told == "this machine has no GPU that torch can use: add device_map=cpu to --model_args"
