"""Answers survive a kill and memory that runs out, and changed weights never reuse one."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mimic_eval.records import UserError
from model_adapters.models import LlavaOvMask
from tests.conftest import Command, Commands
from tests.model_adapters.test_adapter import Request, picture

pytestmark = pytest.mark.slow
RUN = ("lmms_eval", "--tasks", "mimic_counting,mimic_common", "--limit", 12, "--batch_size", 4)


def journal_lines(cache: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in cache.glob("answers/*/*.jsonl"))


def results_in(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("*_results.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


@pytest.mark.parametrize(("after", "number"), [(1, signal.SIGINT), (13, signal.SIGKILL)])
def test_a_run_that_is_killed_resumes_and_ends_with_the_same_table(
    command: Command,
    commands: Commands,
    planted: Path,
    calibrations: Path,
    tmp_path: Path,
    after: int,
    number: signal.Signals,
) -> None:
    """Killed, or interrupted with Ctrl-C, as soon as the journal holds `after` of 24 answers.

    The run that is killed does its own imports, the one that is interrupted is a fork.
    """
    arguments = f"pretrained={planted},mask=ar,relevance=oracle,score=z,tau=1"
    call = (*RUN, "--model", "llava_ov_mask", "--model_args", arguments, "--verbosity", "WARNING")
    whole, cache = tmp_path / "whole", tmp_path / "cache"
    for folder in (whole, cache):
        shutil.copytree(calibrations, folder)
    want = command(*call, "--output_path", tmp_path / "a", MIMIC_CACHE=str(whole))
    assert want.returncode == 0, want.stderr
    start = commands.started if number == signal.SIGINT else commands.started_fresh
    with start(*call, "--output_path", tmp_path / "b", MIMIC_CACHE=str(cache)) as process:
        deadline = time.monotonic() + 200
        while journal_lines(cache) < after and not process.ended() and time.monotonic() < deadline:
            time.sleep(0.002)
        done = process.end(number)
    kept = journal_lines(cache)
    if number == signal.SIGINT:
        assert done.returncode == 128 + number
        first, second = done.stderr.splitlines()[-2:]
        assert first.startswith(f"interrupted: {kept} answers are saved in {cache}")
        assert second == "run the same command to resume"
        assert "Traceback" not in done.stderr
    else:
        assert done.returncode == -number
    assert after <= kept < 24
    assert kept % 4 == 0  # whole batches: at most the one at work was lost
    assert not list((tmp_path / "b").rglob("*_results.json"))
    got = command(*call, "--output_path", tmp_path / "b", MIMIC_CACHE=str(cache))
    assert got.returncode == 0, got.stderr
    assert f"reused {kept} of 24 answers from the cache in" in got.stderr
    assert journal_lines(cache) == 24
    tables = [
        done.stdout[done.stdout.index("task ") : done.stdout.index("results and samples:")]
        for done in (want, got)
    ]
    assert tables[0] == tables[1]
    first, second = results_in(tmp_path / "a")["mimic"], results_in(tmp_path / "b")["mimic"]
    assert second == first  # rows, settings, and all that the intervention did
    assert first["effects"]["edits"]["docs"] == 24
    assert first["effects"]["edits"]["visual_rows"]["edited"] > 0


def test_sinks_that_no_token_can_be_are_refused(
    planted: Path, calibrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(calibrations))
    message = r"^score=ratio is at most 11\.3 in a decoder of width 128: tau=20 finds no sink, choose a "
    with pytest.raises(UserError, match=message):
        LlavaOvMask(pretrained=str(planted), mask="mask_only")
    LlavaOvMask(pretrained=str(planted), mask="mask_only", tau="8")


def docs(count: int) -> list[dict[str, Any]]:
    return [
        {"images": [picture(i), picture(i + 1)], "question": f"How many {i}?", "content_hash": f"{i}" * 64}
        for i in range(count)
    ]


def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    content = [{"type": "image", "url": image} for image in doc["images"]]
    return [{"role": "user", "content": [*content, {"type": "text", "text": doc["question"]}]}]


def answers(model: LlavaOvMask, rows: list[dict[str, Any]], **settings: Any) -> list[str]:
    model.task_dict = {"mimic_counting": {"test": rows}}
    requests = [Request(i, messages) for i in range(len(rows))]
    for request in requests:
        request.args[2].update(settings)
    return [answer.text for answer in model.generate_until(requests)]  # type: ignore[arg-type]


@contextmanager
def counted(model: LlavaOvMask) -> Iterator[list[int]]:
    """The sizes of the batches that reach the decoder's first layer with a prompt."""
    sizes: list[int] = []
    decoder = model.model.get_decoder()
    handle = decoder.layers[0].register_forward_pre_hook(
        lambda module, args: sizes.append(args[0].shape[0]) if args[0].shape[1] > 1 else None
    )
    try:
        yield sizes
    finally:
        handle.remove()


@pytest.fixture
def own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_answer_is_made_once_for_all_runs_alike(tiny: Path, own_journal: Path, tmp_path: Path) -> None:
    rows = docs(5)
    want = answers(LlavaOvMask(pretrained=str(tiny), batch_size=2), rows)
    moved = tmp_path / "moved"
    shutil.copytree(tiny, moved)  # the weights count, not where they lie
    again = LlavaOvMask(pretrained=str(moved), batch_size=3)
    with counted(again) as sizes:
        assert answers(again, rows) == want
    assert not sizes
    for arguments in (
        {"mask": "none"},
        {"layers": "5"},
        {"prefix": True},
        {"pool": 2},
        {"dtype": "bfloat16"},
    ):
        other = LlavaOvMask(pretrained=str(tiny), **arguments)
        with counted(other) as sizes:
            answers(other, rows[:1])
        assert sizes == [1], arguments
    reverse = LlavaOvMask(pretrained=str(tiny), order="reversed")
    with counted(reverse) as sizes:
        answers(reverse, rows[:1])
        answers(again, [{**rows[0], "question": "And now?"}])
        answers(again, rows[:1], max_new_tokens=2)
    assert sizes == [1]


def test_other_weights_under_the_same_path_never_reuse_an_answer(
    tiny: Path, own_journal: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    rows = docs(3)
    before = answers(LlavaOvMask(pretrained=str(folder)), rows)
    file = folder / "model.safetensors"
    stat = file.stat()
    weights = load_file(file)
    name = next(key for key in weights if key.endswith("layers.0.mlp.down_proj.weight"))
    weights[name] *= -1
    save_file(weights, file, metadata={"format": "pt"})
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size  # nothing but the bytes tells them apart
    changed = LlavaOvMask(pretrained=str(folder))
    with counted(changed) as sizes:
        after = answers(changed, rows)
    assert sizes == [1, 1, 1]
    assert after != before


def test_journal_off_keeps_and_reuses_nothing(tiny: Path, own_journal: Path) -> None:
    for _ in range(2):
        model = LlavaOvMask(pretrained=str(tiny), journal="off")
        with counted(model) as sizes:
            answers(model, docs(2))
        assert sizes == [1, 1]
    assert not own_journal.exists()


def test_sampled_answers_are_drawn_anew(tiny: Path, own_journal: Path) -> None:
    model = LlavaOvMask(pretrained=str(tiny))
    with counted(model) as sizes:
        for _ in range(2):
            answers(model, docs(1), temperature=1.0, do_sample=True)
    assert sizes == [1, 1]
    assert not own_journal.exists()


def needs_room_for(model: LlavaOvMask, most: int) -> Any:
    """Batches of more than `most` prompts ask torch for more memory than there is."""

    def take(module: Any, args: tuple[Any, ...]) -> None:
        if args[0].shape[0] > most:
            torch.empty(10**15)

    return model.model.get_decoder().layers[1].register_forward_pre_hook(take)


def test_out_of_memory_halves_the_batch_and_goes_on(
    tiny: Path, own_journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = docs(7)
    want = answers(LlavaOvMask(pretrained=str(tiny), journal="off"), rows)
    model = LlavaOvMask(pretrained=str(tiny), batch_size=5)
    needs_room_for(model, 1)
    with counted(model) as sizes:
        assert answers(model, rows) == want
    assert sizes == [5, 2, *[1] * 7]
    said = capsys.readouterr().err
    assert (
        "Out of memory with 5 docs at a time (mimic_counting doc 0 and the next): going on with 2\n" in said
    )
    assert (
        "Out of memory with 2 docs at a time (mimic_counting doc 0 and the next): going on with 1\n" in said
    )


def test_a_doc_too_large_alone_is_said_in_one_line_and_the_others_are_kept(
    tiny: Path, own_journal: Path
) -> None:
    rows = docs(4)
    model = LlavaOvMask(pretrained=str(tiny), batch_size=2)
    answers(model, rows[:2])
    handle = needs_room_for(model, 0)
    with pytest.raises(
        UserError, match=r"^out of memory with mimic_counting doc 2 alone \(2 images\): use an"
    ):
        answers(model, rows)
    handle.remove()
    with counted(model) as sizes:
        answers(model, rows)
    assert sizes == [1, 1]  # at the size that was left; docs 0 and 1 were kept
