"""`mimic export-training --format`: ms-swift's files hold the samples of LLaVA's, in its own form."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.mixture import read_mixture
from mimic_eval.cli import main
from mimic_eval.records import TASK_KINDS, UserError
from mimic_tasks.overlap import find_overlap
from mimic_tasks.source_files import SourceFiles
from mimic_tasks.training.export import ExportOptions, export
from tests.makers.builds import refusal
from tests.makers.coco import MadeCoco, make_coco


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> MadeCoco:
    return make_coco(tmp_path_factory.mktemp("source"))


def written(source: MadeCoco, out: Path, **changes: Any) -> Path:
    options = {"docs": 20, "max_images": 4, **changes}
    result = export(
        ExportOptions(SourceFiles((source.annotations,), (source.images,)), out, **options), progress=False
    )
    return result.mixture


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_ms_swift_gets_the_samples_of_llava_with_absolute_pictures(source: MadeCoco, tmp_path: Path) -> None:
    """The form of ms-swift's "Custom dataset", Multimodal, Supervised Fine-tuning."""
    index = written(source, tmp_path / "swift", form="ms-swift")
    written(source, tmp_path / "llava")
    assert yaml.safe_load(index.read_text()) == {
        "dataset": [str(tmp_path / f"swift/{kind}.jsonl") for kind in TASK_KINDS]
    }
    for kind in TASK_KINDS:
        rows = lines_of(tmp_path / f"swift/{kind}.jsonl")
        records = json.loads((tmp_path / f"llava/{kind}.json").read_text())
        assert len(rows) == len(records) == 20
        for row, record in zip(rows, records, strict=True):
            human, gpt = (turn["value"] for turn in record["conversations"])
            # ms-swift's templates end each picture with a line break: none in the text
            question = "<image>" * len(record["image"]) + human.replace("<image>\n", "")
            assert row == {
                "id": record["id"],
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": gpt},
                ],
                "images": [str(source.images / name) for name in record["image"]],
            }


def test_our_own_reader_takes_both(source: MadeCoco, tmp_path: Path) -> None:
    mixture = read_mixture([written(source, tmp_path / "llava", sampling={"listing": "first:30%"})])
    assert len(mixture) == 20 * 3 + 6
    written(source, tmp_path / "swift", form="ms-swift", sampling={"listing": "first:30%"})
    swift = read_mixture([tmp_path / f"swift/{kind}.jsonl" for kind in TASK_KINDS])
    for a, b in zip(mixture, swift, strict=True):
        assert (a.id, a.images, a.turns[1]) == (b.id, b.images, b.turns[1])
        assert a.turns[0].text.replace("<image>\n", "<image>") == b.turns[0].text


@pytest.mark.parametrize(("how", "taken"), [("first:24%", range(5)), ("end:10%", range(18, 20))])
def test_ms_swift_has_no_strategies_so_the_file_holds_the_part(
    source: MadeCoco, tmp_path: Path, how: str, taken: range
) -> None:
    every = written(source, tmp_path / "all", form="ms-swift", tasks=("common",)).parent
    part = written(
        source, tmp_path / "part", form="ms-swift", tasks=("common",), sampling={"common": how}
    ).parent
    rows = lines_of(every / "common.jsonl")
    assert lines_of(part / "common.jsonl") == [rows[i] for i in taken]
    assert json.loads((part / "manifest.json").read_text())["tasks"]["common"]["docs"] == len(taken)


def test_a_folder_holds_one_format_and_a_finished_one_stays(source: MadeCoco, tmp_path: Path) -> None:
    out = written(source, tmp_path / "out", form="ms-swift").parent
    with pytest.raises(UserError, match=r"differs in --format \(ms-swift, now none\)"):
        written(source, out)
    before = {file: file.read_bytes() for file in out.iterdir()}
    written(source, out, form="ms-swift")
    assert {file: file.read_bytes() for file in out.iterdir()} == before
    overlap = find_overlap(out, source.images)
    assert len(overlap.shared) == overlap.pictures_a > 0


def test_the_command_says_how_to_train(
    source: MadeCoco, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o ut"
    form = ("--docs", "5", "--max-images", "4", "--format", "ms-swift")
    monkeypatch.setattr("sys.argv", ["mimic", "export-training", *source.options(), "--out", str(out), *form])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Wrote {out}. Train with: swift sft '{out}/dataset.yaml'"


def test_an_unknown_format_is_refused(
    source: MadeCoco, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["mimic", "export-training", *source.options(), "--out", str(tmp_path / "o"), "--format", "swift"]
    monkeypatch.setattr("sys.argv", call)
    assert "Unknown format 'swift'. Did you mean 'ms-swift'? Valid: llava, ms-swift." in refusal(capsys)
