"""A run whose mask needs sinks makes a missing calibration first, once, and says so."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from mimic_eval.cli.calibrate import embedded_docs
from mimic_eval.records import UserError
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.stored_docs import read_docs
from model_adapters.assembly import find_sinks
from model_adapters.families.llava_onevision import LlavaOnevision
from model_adapters.loading import load_family
from model_adapters.options import AdapterOptions
from model_adapters.sinks import (
    calibrating_with,
    default_path,
    find_or_make_calibration,
    load_calibration,
    missing,
)
from model_adapters.sinks.planted import make_planted_checkpoint


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("planted") / "llava"
    make_planted_checkpoint("llava_onevision", out, dimensions=(77,), layer=1, layers=2)
    return load_family(LlavaOnevision, str(out), dtype=torch.float32, device="cpu", peft=None)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """How many docs each calibration had: 3 of the 32, to save time."""
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    calls: list[int] = []
    calibrate = missing.calibrate

    def counted(model: Any, family: Any, docs: Any, **options: Any) -> Any:
        calls.append(len(docs))
        return calibrate(model, family, docs[:3], **options)

    monkeypatch.setattr(missing, "calibrate", counted)
    with calibrating_with(embedded_docs):
        yield calls


def test_missing_calibration_is_made_of_32_embedded_docs_and_stored(
    loaded: Any, calls: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    made = find_or_make_calibration(*loaded, pretrained="here")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("no calibration found: making one from 32 docs (embedded, seed 0)")
    assert said[-1] == f"calibrated: 1 sink dimension, stored in {default_path(loaded[0])}"
    assert calls == [32]
    assert load_calibration(default_path(loaded[0])) == made
    assert find_or_make_calibration(*loaded) == made
    assert calls == [32]
    docs = list(read_docs(EMBEDDED / "counting" / "test.parquet", ("content_hash",)))
    docs += list(read_docs(EMBEDDED / "common" / "test.parquet", ("content_hash",)))
    assert not any(made.corpus.has(value) for value in ("", None, "0" * 64))
    assert len(made.corpus.hashes) == 3
    assert sum(made.corpus.has(doc["content_hash"]) for doc in docs) <= 3


def test_of_two_processes_one_calibrates(loaded: Any, calls: list[int]) -> None:
    """Threads stand for processes: each opens the lock for itself."""
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: find_or_make_calibration(*loaded), range(2))
    assert first == second
    assert calls == [32]


def test_interrupted_calibration_leaves_no_file(
    loaded: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(missing, "calibrate", stop)
        with pytest.raises(KeyboardInterrupt):
            find_or_make_calibration(*loaded)
    assert [*default_path(loaded[0]).parent.glob("[!.]*")] == []
    find_or_make_calibration(*loaded)
    assert calls == [32]


def test_folder_that_cannot_be_written_does_not_end_the_run(
    loaded: Any, calls: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "calibrations").write_text("a file")
    assert len(find_or_make_calibration(*loaded).dimensions) == 1
    assert "the calibration serves this run only: " in capsys.readouterr().err


def test_calibrate_false_refuses_a_missing_calibration(loaded: Any, calls: list[int]) -> None:
    options = AdapterOptions.parse({"mask": "mask_only", "calibrate": False})
    with pytest.raises(UserError, match="no calibration of its sinks yet: make it with: mimic calibrate"):
        find_sinks(options, loaded[0], options.intervention(), loaded[1])
    assert calls == []
    options = AdapterOptions.parse({"mask": "mask_only", "tau": 8})
    assert find_sinks(options, loaded[0], options.intervention(), loaded[1]) is not None
    assert calls == [32]


def test_without_docs_it_is_refused_with_the_command(loaded: Any, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_CACHE", str(tmp_path))
        with pytest.raises(UserError, match="no calibration of its sinks yet: make it with: mimic calibrate"):
            find_or_make_calibration(*loaded)


def test_calibration_of_an_earlier_version_is_read(loaded: Any, calls: list[int]) -> None:
    """Its corpus has no hashes, so no doc is known to be one of them."""
    from mimic_eval.records.stamped import write_stamped
    from model_adapters.sinks.files import FORMAT, VERSION

    find_or_make_calibration(*loaded)
    file = default_path(loaded[0])
    record = json.loads(file.read_text())
    kept = {key: value for key, value in record.items() if key not in ("format", "version", "digest")}
    del kept["corpus"]["hashes"]
    write_stamped(file, kept, form=FORMAT, version=VERSION)
    assert load_calibration(file).corpus.hashes == frozenset()
