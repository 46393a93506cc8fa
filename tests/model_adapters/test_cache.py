"""`mimic cache`: what is listed, what is stale, and what `prune` removes and keeps."""

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimic_eval.cli.commands import app
from mimic_eval.records import UserError
from model_adapters.caches import list_cache
from model_adapters.identity import code_hash
from model_adapters.journal import Answer, Journal


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers of this version, of another and of an unknown one, and a calibration."""
    root = tmp_path / "cache"
    monkeypatch.setenv("MIMIC_CACHE", str(root))
    settings = {"family": "qwen2_vl", "mask": "block", "layers": "3-5", "dtype": "float32"}
    for code in (code_hash(), "0" * 64):
        journal = Journal(None, {"settings": settings, "weights": "abcdef0123", "code": code})
        journal.add({"k": Answer("cat", 1, None)})
    (root / "answers/unknown").mkdir()
    (root / "answers/unknown/identity.json").write_text("[")
    (root / "calibrations").mkdir()
    (root / "calibrations/abc.json").write_text("{}")
    return root


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["cache", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def names(cache: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in cache.glob("*/*")}


def test_answers_of_other_code_are_stale_and_those_of_this_are_not(cache: Path) -> None:
    entries = [entry for entry in list_cache() if entry.kind == "answers"]
    assert [entry.stale for entry in entries if entry.about] == [
        entry_code(e.path) for e in entries if e.about
    ]
    assert sum(entry.stale for entry in entries) == 2
    assert {entry.about for entry in entries} == {"qwen2_vl block 3-5 float32 weights abcdef01", ""}


def entry_code(folder: Path) -> bool:
    code: str = json.loads((folder / "identity.json").read_text())["identity"]["code"]
    return code == "0" * 64


def test_prune_removes_what_no_run_can_use_and_nothing_else(cache: Path) -> None:
    before = names(cache)
    assert "Would remove 2 entries" in run("prune", "--dry-run")
    assert names(cache) == before
    assert "Removed 2 entries" in run("prune")
    left = names(cache)
    assert len(left) == 2
    assert "calibrations/abc.json" in left
    assert "Removed 0 entries" in run("prune")
    settings = {"family": "qwen2_vl", "mask": "block", "layers": "3-5", "dtype": "float32"}
    journal = Journal(None, {"settings": settings, "weights": "abcdef0123", "code": code_hash()})
    assert journal.find("k") == Answer("cat", 1, None)


def test_age_and_kind_choose(cache: Path) -> None:
    old = time.time() - 40 * 86400
    os.utime(cache / "calibrations/abc.json", (old, old))
    assert "Removed 0 entries" in run("prune", "--older-than", "8w")
    assert "Removed 0 entries" in run("prune", "--older-than", "30d", "--kind", "answers")
    assert "Removed 1 entries" in run("prune", "--older-than", "30d")
    assert "calibrations/abc.json" not in names(cache)
    assert "Removed 3 entries" in run("prune", "--all")
    assert "0 entries, 0 B" in run("size")


def test_list_names_each_entry_and_the_total(cache: Path) -> None:
    text = run("list")
    assert "calibrations/abc.json" in text
    assert text.count("(of another version of mimic-eval)") == 2
    assert f"{cache}: 4 entries" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--older-than", "x"), "must read 12h, 30d or 8w, got 'x'"),
        (("--kind", "nothing"), "holds no 'nothing'"),
    ],
)
def test_a_wrong_choice_is_refused(cache: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run("prune", *arguments)


def test_without_a_cache_folder_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "none"))
    assert "0 entries, 0 B" in run("list")
    assert not (tmp_path / "none").exists()
