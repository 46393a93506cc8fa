"""Calibrations as files that serve one model only, and `mimic calibrate`."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from mimic_eval.cli.calibrate import CorpusDocs, draw_docs
from mimic_eval.cli.commands import app
from mimic_eval.records import UserError
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.stored_docs import read_docs
from model_adapters.families.llava_onevision import LlavaOnevision
from model_adapters.loading import load_family
from model_adapters.sinks import (
    Calibration,
    Corpus,
    LayerMagnitudes,
    SinkDimension,
    calibrate_command,
    default_path,
    find_calibration,
    load_calibration,
    model_config,
    save_calibration,
)
from model_adapters.sinks.planted import make_planted_checkpoint
from model_adapters.tiny import make_tiny_llava_onevision

Command = Callable[..., CompletedProcess[str]]


def load(path: Path, dtype: torch.dtype = torch.float32, peft: str | None = None) -> Any:
    return load_family(LlavaOnevision, str(path), dtype=dtype, device="cpu", peft=peft)[0]


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return load(tiny)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("planted") / "llava"
    make_planted_checkpoint("llava_onevision", out, dimensions=(77,), layer=1, layers=2)
    return out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(model: Any, *, sinks: bool = True) -> Calibration:
    return Calibration(
        dimensions=(SinkDimension(5, 0.1 + 0.2, 1 / 3, 501.5, 1),) if sinks else (),
        tau=2 / 3 if sinks else None,
        ratio_tau=20.0,
        flagged=5 if sinks else 0,
        layers=(LayerMagnitudes(0.1, 500.0, 1), LayerMagnitudes(0.25, 501.5, 5)),
        corpus=Corpus("embedded", 7, 2, 5, 120, 90, "ab" * 32),
        min_magnitude=100.0,
        min_ratio=1000.0,
        checkpoint="here",
        dtype="float32",
        config=model_config(model),
        versions={"torch": "2"},
    )


@pytest.mark.parametrize("sinks", [True, False])
def test_a_calibration_comes_back_from_its_file_as_it_was(model: Any, tmp_path: Path, sinks: bool) -> None:
    calibration = made(model, sinks=sinks)
    save_calibration(calibration, tmp_path / "new" / "c.json")
    assert load_calibration(tmp_path / "new" / "c.json") == calibration
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["c.json"]
    before = (tmp_path / "new" / "c.json").read_bytes()
    save_calibration(calibration, tmp_path / "new" / "c.json")
    assert (tmp_path / "new" / "c.json").read_bytes() == before


def test_a_run_finds_the_calibration_in_the_cache_or_where_it_is_told(model: Any, cache: Path) -> None:
    calibration = made(model)
    save_calibration(calibration, default_path(model))
    assert default_path(model).parent == cache / "calibrations"
    assert find_calibration(model) == calibration
    other = replace(calibration, tau=9.0)
    save_calibration(other, cache / "other.json")
    assert find_calibration(model, str(cache / "other.json")) == other


def test_a_missing_calibration_names_the_command(model: Any, cache: Path) -> None:
    with pytest.raises(UserError) as said:
        find_calibration(model, pretrained="org/llava")
    assert str(said.value) == (
        "this model has no calibration of its sinks yet: make it with: "
        "mimic calibrate llava_ov_mask --pretrained org/llava"
    )
    with pytest.raises(UserError) as said:
        find_calibration(model, str(cache / "a b.json"))
    assert str(said.value) == (
        f"calibration={cache}/a b.json: no such file: make it with: "
        f"mimic calibrate llava_ov_mask --out '{cache}/a b.json'"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "is not a file of mimic calibrate"),
        (b'{"format": "other"}', "is not a file of mimic calibrate"),
        (
            b'{"format": "mimic_eval calibration", "version": 99}',
            "has version 99, this mimic-eval reads version 2",
        ),
        (b'{"format": "mimic_eval calibration", "version": 1}', "make it again with mimic calibrate"),
        (b'{"format": "mimic_eval calibration", "version": 2}', "is damaged"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, change: bytes, told: str) -> None:
    (tmp_path / "c.json").write_bytes(change)
    with pytest.raises(UserError, match=told):
        load_calibration(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tau", None),
        ("tau", float("nan")),
        ("tau", "3"),
        ("identity", "0" * 64),
        ("dimensions", [{"index": 64, "mu": 0.0, "sigma": 1.0, "largest": 500.0, "layer": 1}]),
        ("dimensions", [{"index": 5, "mu": 0.0, "sigma": float("inf"), "largest": 500.0, "layer": 1}]),
        ("dimensions", [{"index": 5, "mu": None, "sigma": 1.0, "largest": 500.0, "layer": 1}]),
        ("dimensions", [{"index": 5}]),
        ("dimensions", 3),
        ("corpus", {}),
        ("config", {}),
        ("surplus", 1),
    ],
)
def test_a_calibration_with_a_wrong_value_is_refused(
    model: Any, tmp_path: Path, key: str, value: Any
) -> None:
    path = tmp_path / "c.json"
    save_calibration(made(model), path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, key: value}))
    with pytest.raises(UserError, match=r"is damaged .*make it again with mimic calibrate"):
        load_calibration(path)


def test_a_truncated_file_is_refused(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    save_calibration(made(model), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="is not JSON: make it again with mimic calibrate"):
        load_calibration(path)


def test_the_same_model_from_another_folder_or_in_another_dtype_or_with_an_adapter_is_served(
    model: Any, tiny: Path, tmp_path: Path, cache: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    save_calibration(made(model), default_path(model))
    other = load(tiny, torch.bfloat16)
    other.save_pretrained(tmp_path / "copy")
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        (tmp_path / "copy" / name).write_bytes((tiny / name).read_bytes())
    get_peft_model(load(tiny), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
    marked = load(tiny)
    marked.config.text_config._how_it_was_loaded = "somehow"
    for same in (other, load(tmp_path / "copy"), load(tiny, peft=str(tmp_path / "lora")), marked):
        assert default_path(same) == default_path(model)
        assert find_calibration(same) == made(model)


def test_another_model_is_refused_and_told_how_it_differs(model: Any, tmp_path: Path, cache: Path) -> None:
    save_calibration(made(model), tmp_path / "c.json")
    make_tiny_llava_onevision(tmp_path / "deeper", layers=7)
    other = load(tmp_path / "deeper")
    assert default_path(other) != default_path(model)
    with pytest.raises(UserError) as said:
        find_calibration(other, str(tmp_path / "c.json"), pretrained="deeper")
    message = str(said.value)
    assert "c.json is of another model (text_config." in message
    assert "text_config.num_hidden_layers 6, not 7" in message
    assert message.endswith(
        "leave calibration= out, after: mimic calibrate llava_ov_mask --pretrained deeper"
    )


def test_a_place_that_cannot_be_written_is_told(model: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_calibration(made(model), tmp_path / "file" / "c.json")


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_calibration(made(model), tmp_path / "c.json")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_calibration(made(model, sinks=False), tmp_path / "c.json")
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]
    assert load_calibration(tmp_path / "c.json") == made(model)


def test_the_command_of_a_model_is_its_own(model: Any) -> None:
    assert calibrate_command(model) == "mimic calibrate llava_ov_mask"


def test_docs_are_drawn_by_their_seed_from_all_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    def hashes(docs: int, seed: int) -> list[str]:
        drawn, source = draw_docs(EMBEDDED, docs, seed)
        assert source == str(EMBEDDED)
        return [doc["content_hash"] for doc in drawn]

    assert hashes(12, 1) == hashes(12, 1)
    assert len(set(hashes(12, 1))) == 12
    assert hashes(12, 1) != hashes(12, 2)
    counting = {
        doc["content_hash"] for doc in read_docs(EMBEDDED / "counting/test.parquet", ("content_hash",))
    }
    assert 0 < len(counting & set(hashes(24, 0))) < 24
    assert capsys.readouterr().err == ""
    assert len(hashes(1000, 0)) == 240
    assert "has 240 docs: all of them are looked at" in capsys.readouterr().err


def test_a_doc_with_a_broken_picture_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(EMBEDDED / "counting/test.parquet")
    docs = table.to_pylist()
    docs[3]["images"][1]["bytes"] = docs[3]["images"][1]["bytes"][:40]
    (tmp_path / "counting").mkdir()
    pq.write_table(pa.Table.from_pylist(docs, schema=table.schema), tmp_path / "counting/test.parquet")
    drawn, _ = draw_docs(tmp_path, 60, 0)
    assert [doc["content_hash"] for doc in drawn] == [
        doc["content_hash"] for number, doc in enumerate(docs) if number != 3
    ]
    assert "mimic_counting doc 3 is left out: image 2 of" in capsys.readouterr().err
    pq.write_table(pa.Table.from_pylist([docs[3]], schema=table.schema), tmp_path / "counting/test.parquet")
    with pytest.raises(UserError, match="none of the 1 sampled docs has pictures that can be decoded"):
        draw_docs(tmp_path, 60, 0)


def test_docs_are_shown_as_the_task_shows_them(tiny: Path) -> None:
    drawn, _ = draw_docs(EMBEDDED, 3, 0)
    family = load_family(LlavaOnevision, str(tiny), dtype=torch.float32, device="cpu", peft=None)[1]
    for doc, shown in zip(drawn, CorpusDocs(drawn, family), strict=True):
        assert len(shown.images) == len(doc["images"]) == shown.prompt.count("<image>")
        assert f"Question: {doc['question']}\nAnswer:" in shown.prompt
        assert shown.content_hash == doc["content_hash"]


@pytest.mark.slow
def test_the_command_finds_the_planted_dimension(command: Command, planted: Path, tmp_path: Path) -> None:
    arguments = ("mimic", "calibrate", "llava_ov_mask", "--pretrained", planted, "--docs", 6, "--seed", 5)
    done = command(*arguments, MIMIC_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "cache" / "calibrations").iterdir()
    found = find_calibration(load(planted), str(path))
    assert path.stem == found.identity
    assert [own.index for own in found.dimensions] == [77]
    assert (found.corpus.docs, found.corpus.seed, found.corpus.source) == (6, 5, "embedded")
    assert "  77: largest magnitude" in done.stdout
    assert f"tau of score=z: {found.tau:.4g}" in done.stdout
    assert f"Wrote {path}: runs of this model find it there" in done.stdout
    again = command(*arguments, "--out", tmp_path / "c.json")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "c.json").read_bytes() == path.read_bytes()
    assert f"add calibration={tmp_path / 'c.json'}" in again.stdout


@pytest.mark.slow
def test_finding_no_sink_dimension_is_a_result(
    command: Command, tiny: Path, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.json"
    done = command("mimic", "calibrate", "llava_ov_mask", "--pretrained", tiny, "--out", out, "--docs", 3)
    assert done.returncode == 0, done.stderr
    assert (
        "No sink dimension: no activation is above 100 and above 1000 times the layer's median" in done.stdout
    )
    assert load_calibration(out).dimensions == ()
    assert load_calibration(out).tau is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("llava_ov_maks",), "Unknown model 'llava_ov_maks'. Did you mean 'llava_ov_mask'?"),
        (("llava_ov_mask", "--docs", 0), "--docs must be an integer within 1-100000, got 0"),
        (("llava_ov_mask", "--min-ratio", -1), "--min-ratio must be a number of at least 0, got -1.0"),
        (
            ("llava_ov_mask", "--min-magnitude", "nan"),
            "--min-magnitude must be a number of at least 0, got nan",
        ),
        (("llava_ov_mask", "--data", "nowhere"), "nowhere: no such folder"),
        (("llava_ov_mask", "--data", "."), ". holds no docs: make some with: mimic build --out FOLDER"),
        (("llava_ov_mask", "--out", "."), "--out . is a folder: name a file"),
        (("llava_ov_mask", "--out", "there.json/c"), "--out there.json/c: "),
        (("llava_ov_mask", "--out", "there.json"), "--out there.json exists: --overwrite replaces it"),
        (("llava_ov_mask", "--pretrained", "./x"), "pretrained=./x: no such folder"),
        (("llava_ov_mask", "--dtype", "float8"), "Unknown dtype 'float8'"),
    ],
)
def test_a_mistake_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIMIC_DATA", raising=False)
    (tmp_path / "there.json").write_text("kept")
    done = CliRunner().invoke(app, ["calibrate", *map(str, arguments)])
    assert isinstance(done.exception, UserError)  # which `main` prints, with exit code 2
    assert str(done.exception).startswith(told)
    assert (tmp_path / "there.json").read_text() == "kept"


@pytest.mark.slow
def test_a_mistake_exits_2(command: Command) -> None:
    done = command("mimic", "calibrate", "llava_ov_mask", "--docs", 0)
    assert done.returncode == 2
    assert done.stderr == "error: --docs must be an integer within 1-100000, got 0\n"
