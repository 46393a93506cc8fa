"""`mimic reproduce`: cells are ordinary runs of one loaded model; what is finished is not run again."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from leaderboard.runs import read_runs
from mimic_eval.cli import calibrate
from mimic_eval.cli.commands import app
from mimic_eval.cli.reproducing.cost import DecoderSize, cost_of_scores
from mimic_eval.records import UserError
from mimic_eval.studies import load_results
from mimic_tasks.locate import EMBEDDED
from model_adapters import adapter
from model_adapters.adapter import MaskedModel
from model_adapters.journal import Journal
from tests.conftest import once

pytestmark = pytest.mark.slow
STUDY = {
    "id": "my:study",
    "title": "Pooling and block",
    "docs": 2,
    "tasks": ["mimic_common"],
    "entries": {"tuned": "a training, as --entry tuned:peft=FOLDER"},
    "settings": [
        {"name": "none", "model_args": {"mask": "none"}, "vary": {"pool": [1, 4]}},
        {"name": "block", "model_args": {"mask": "block"}, "measure": ["scores", "attention"]},
        {"name": "tuned", "entry": "tuned", "model_args": {"mask": "none"}},
    ],
    "output": {"kind": "table", "reference": "none"},
}
CELLS = ("base--none--pool=1", "base--none--pool=4", "base--block--scores", "base--block--attention")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def output(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return str(done.output)


def refusal(*arguments: object) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, UserError), (done.output, done.exception)
    return str(done.exception)


def write(folder: Path, **changed: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changed}))
    return path


class Counted:
    """How often models were loaded, and prompts answered."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.loaded = 0
        self.answered = 0
        load, answer = adapter.load_family, adapter.Answerer.answer

        def load_family(*arguments: Any, **options: Any) -> Any:
            self.loaded += 1
            return load(*arguments, **options)

        def counted(answerer: Any, ready: Any, generation: Any) -> Any:
            self.answered += len(ready.groups)
            return answer(answerer, ready, generation)

        patch.setattr(adapter, "load_family", load_family)
        patch.setattr(adapter.Answerer, "answer", counted)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture(scope="module")
def ran(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that has run, with its file and its cache; tests change copies."""

    def make(folder: Path) -> None:
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC_CACHE", str(folder / "cache"))
            counted = Counted(patch)
            text = output(write(folder), "--pretrained", tiny, "--out", folder / "out")
        assert (counted.loaded, counted.answered) == (1, 4 * 2)
        assert "4 of 4 cells are finished" in text

    return once(tmp_path_factory, "reproduced", make)


@pytest.fixture
def copied(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `ran`, with its cache in use."""
    shutil.copytree(ran, tmp_path / "ran")
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "ran" / "cache"))
    return tmp_path / "ran"


def test_cells_are_ordinary_runs_of_one_loaded_model(ran: Path) -> None:
    result = load_results(ran / "out")
    assert [cell.name for cell in result.cells] == list(CELLS)
    assert result.missing == ()
    assert result.record["notes"][0].startswith("setting tuned is left out: it needs --entry tuned:")
    for cell in result.cells[:3]:
        (own,) = read_runs(cell.folder)
        assert own.settings["mask"] == cell.setting
        assert own.settings["pool"] == cell.values.get("pool", 1)
        assert len(own.samples["mimic_common"]) == 2
        assert cell.run == own.settings
    assert result.cells[3].run["mask"] == "block"
    assert (result.cells[3].folder / "diagnose.json").is_file()
    assert (ran / "out" / "index.html").is_file()


def test_costs_are_those_of_the_cell(ran: Path) -> None:
    one, pooled, block, attention = (cell.cost for cell in load_results(ran / "out").cells)
    assert (one.docs, one.answered, one.passes) == (2, 2, 2)
    assert one.visual_tokens is not None
    assert pooled.visual_tokens is not None
    assert one.prompt_tokens is not None
    assert pooled.prompt_tokens is not None
    assert one.prompt_tokens - pooled.prompt_tokens == one.visual_tokens - pooled.visual_tokens > 0
    assert (one.masked_layers, block.masked_layers) == (0, 3)
    assert one.attention_flops == one.attention_flops_dense == block.attention_flops_dense
    assert block.layer_flops is not None
    assert block.layer_flops_dense is not None
    saved = 3 * (block.layer_flops_dense - block.layer_flops)
    assert saved > 0
    assert block.attention_flops_dense - block.attention_flops == pytest.approx(saved)  # type: ignore[operator]
    assert block.decoder_flops_dense - block.decoder_flops == pytest.approx(saved)  # type: ignore[operator]
    for cost in (one, pooled, block, attention):
        assert cost.seconds is not None
        assert cost.seconds > 0
        assert cost.peak_memory is not None
        assert cost.peak_memory > 2**20


def test_the_flops_of_ten_images_are_those_of_the_papers_shape() -> None:
    """METHODS 2.2: -89 % of a masked layer, -45 % of all attention, about -14 % of the decoder."""
    tokens, images, length = 730, 10, 14 + 10 * 730 + 40
    causal = length * (length + 1) // 2
    blocked = sum(tokens * (14 + m * tokens) for m in range(images))
    linear = 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    mimic = {
        "run": {"layers": "12-23", "depth": 24, "device": "cpu"},
        "effects": {"edits": {"counts": {"blocked_pairs": 12 * 14 * blocked}}},
        "work": {
            "docs": 1, "passes": 1, "prompt_tokens": length, "visual_tokens": 7300, "causal_pairs": causal,
            "output_tokens": 1,
        },
    }  # fmt: skip
    cost = cost_of_scores(mimic, DecoderSize(24, 14, 64, linear), docs=1, spent=(1.0, 1), peak_memory=None)
    parts = [
        (cost.layer_flops, cost.layer_flops_dense),
        (cost.attention_flops, cost.attention_flops_dense),
        (cost.decoder_flops, cost.decoder_flops_dense),
    ]
    saved = [1 - own / dense for own, dense in parts if own is not None and dense]
    assert saved == pytest.approx([0.89, 0.445, 0.136], abs=0.001)


def test_what_is_finished_is_not_run_again(copied: Path, tiny: Path, counted: Counted) -> None:
    before = (copied / "out" / "cells" / f"{CELLS[0]}.json").read_bytes()
    output(copied / "study.yaml", "--pretrained", tiny, "--out", copied / "out")
    assert (counted.loaded, counted.answered) == (0, 0)
    assert (copied / "out" / "cells" / f"{CELLS[0]}.json").read_bytes() == before


class Ended(BaseException):
    """The end of a process: nothing catches it."""


def test_a_study_that_ends_within_a_cell_goes_on_with_the_next_doc(
    tiny: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after three of four answers: the fourth alone is made, and the first cell stays as it is."""
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    settings = [{"name": "none", "model_args": {"mask": "none"}}, {"name": "block"}]
    call = (write(tmp_path, settings=settings), "--pretrained", tiny, "--out", tmp_path / "out")
    add, added = Journal.add, []

    def add_and_end(journal: Journal, answers: Any) -> None:
        add(journal, answers)
        added.append(answers)
        if len(added) == 3:
            raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add_and_end)
        with pytest.raises(Ended):
            run(*call)
    assert [cell.name for cell in load_results(tmp_path / "out").cells] == ["base--none"]
    before = counted.answered
    output(*call)
    assert (before, counted.answered) == (3, 4)
    result = load_results(tmp_path / "out")
    assert [(cell.cost.docs, cell.cost.answered) for cell in result.cells] == [(2, 2), (2, 1)]
    assert result.cells[1].cost.prompt_tokens == result.cells[0].cost.prompt_tokens


def test_results_that_a_killed_process_wrote_are_taken_as_they_are(
    copied: Path, tiny: Path, counted: Counted
) -> None:
    """A second results file would be a second run of the same settings."""
    name = CELLS[2]
    (copied / "out" / "cells" / f"{name}.json").unlink()
    (copied / "out" / "cells" / name / ".run_x.unfinished").mkdir()
    output(copied / "study.yaml", "--pretrained", tiny, "--out", copied / "out")
    assert counted.answered == 0
    assert len(list((copied / "out" / "cells" / name).rglob("*_results.json"))) == 1
    cost = load_results(copied / "out").cells[2].cost
    assert (cost.docs, cost.seconds, cost.masked_layers) == (2, None, 3)


def test_shards_fill_one_folder_and_each_cell_is_run_once(
    tiny: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    settings = [{"name": "none", "model_args": {"mask": "none"}, "vary": {"pool": [1, 2, 4]}}]
    call = (write(tmp_path, settings=settings), "--pretrained", tiny, "--out", tmp_path / "out")
    assert "2 of 2 cells" in output(*call, "--shard", "1/2")
    assert load_results(tmp_path / "out").missing == ("base--none--pool=2",)
    assert "1 of 1 cells" in output(*call, "--shard", "2/2")
    assert counted.answered == 6
    assert load_results(tmp_path / "out").missing == ()
    assert "none for this part" in output(*call, "--shard", "4/4")


def test_another_processs_cell_is_left_to_it(copied: Path, tiny: Path, counted: Counted) -> None:
    from mimic_eval.records.locking import locked

    (copied / "out" / "cells" / f"{CELLS[0]}.json").unlink()
    with locked(copied / "out" / "cells" / f".{CELLS[0]}.lock"):
        text = output(copied / "study.yaml", "--pretrained", tiny, "--out", copied / "out")
    assert f"run by another process: {CELLS[0]}" in text
    assert counted.answered == 0


def test_missing_calibration_is_made_first_and_said(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibrate, "DOCS", 2)
    settings = [
        {"name": "none", "model_args": {"mask": "none"}},
        {"name": "mask_only", "model_args": {"mask": "mask_only"}},
    ]
    call = (write(tmp_path, settings=settings), "--pretrained", planted, "--out", tmp_path / "out")
    assert "no calibration found: making one from 2 docs (embedded, seed 0)" in output(
        *call, "--model-args", "tau=8"
    )
    result = load_results(tmp_path / "out")
    assert any("no calibration found" in note for note in result.record["notes"])
    assert [cell.run.get("tau") for cell in result.cells] == [None, 8.0]  # of the mask that uses it


def test_a_dry_run_prints_cells_docs_passes_and_an_estimate_that_is_kept(
    tiny: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    settings = [{"name": "orders", "model_args": {"mask": "orders"}}]
    study = write(tmp_path, settings=settings, output={"kind": "table"})
    call = (study, "--pretrained", tiny, "--dry-run")
    lines = [line.split() for line in output(*call).splitlines()]
    (cell,) = (line for line in lines if line[:2] == ["base--orders", "scores"])
    images = sum(pq.read_table(EMBEDDED / "common", columns=["n_images"])["n_images"].to_pylist()[:2])
    assert cell[2:] == ["2", str(images)]  # a pass for each cyclic shift
    assert any(line[:1] == ["base--orders"] and line[-1] == "GiB" for line in lines)
    assert counted.loaded == 1
    assert not (tmp_path / "cache" / "answers").exists()
    again = output(*call)
    assert counted.loaded == 1
    assert [line.split() for line in again.splitlines() if "GiB" in line] == [
        line for line in lines if "GiB" in line
    ]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"setings": []}, "Unknown key of the study 'setings'. Did you mean 'settings'?"),
    ({"id": "Fig 1"}, "id must read paper:figure"),
    ({"tasks": []}, "setting none has no tasks"),
    ({"docs": 0}, "docs must be an integer within 1-"),
    ({"settings": [{"name": "a", "model_args": {"mask": "blok"}}]}, "cell base--a: Unknown mask 'blok'"),
    ({"settings": [{"name": "a", "model_args": {"mask": "none", "sigma": 1}}]}, "sigma=1 is not used by"),
    ({"settings": [{"name": "a", "model_args": {"pretrained": "x"}}]}, "pretrained belongs to the command"),
    ({"settings": [{"name": "a"}, {"name": "a"}]}, "two settings are called a"),
    ({"settings": [{"name": "a", "entry": "tunde"}]}, "Unknown entry 'tunde'. Did you mean 'tuned'?"),
    ({"settings": [{"name": "a", "vary": {"pool": [1, 1]}}]}, "pool lists a value twice"),
    ({"settings": [{"name": "a", "orders": ["backwards"]}]}, "backwards"),
    ({"settings": [{"name": "a", "measure": ["time"]}]}, "Unknown value of setting a: measure 'time'"),
    ({"tasks": ["mimic_comon"]}, "has no task 'mimic_comon'"),
    ({"tasks": ["mimic_muirbench"]}, "(MUIRBENCH/MUIRBENCH) is not in MIMIC_DATASETS="),
    ({"tasks": ["mimic_common_permuted"], "measure": ["attention"]}, "attention takes no permuted task"),
    ({"data": {"sweeps": ["comon_n"]}}, "no ready-made sweep of that name"),
    ({"data": {"sweeps": ["common_n"]}}, "builds mimic_common_n: Unknown task 'mimic_common'"),
    ({"data": {"build": {"task": "common", "spred": 2}}}, "No such option: --spred"),
    ({"output": {"kind": "tabel"}}, "Did you mean 'table'?"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "line"), WRONG, ids=[line[:40] for _, line in WRONG])
def test_a_mistake_in_a_study_is_one_line_before_a_model_is_loaded(
    changed: dict[str, Any],
    line: str,
    tmp_path: Path,
    scenes: Path,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("MIMIC_DATASETS", str(tmp_path / "sets"))
    source = (scenes / "annotations" / "instances_scenes.json", "--images", scenes / "images")
    more = ("--annotations", *source) if "data" in changed else ()
    settings = [{"name": "none", "model_args": {"mask": "none"}}]
    study = {"settings": settings, "output": {"kind": "table"}, **changed}
    text = refusal(write(tmp_path, **study), "--out", tmp_path / "out", *more)
    assert line in text
    assert "\n" not in text
    assert counted.loaded == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("my:studdy",), "Unknown study 'my:studdy'"),
        (("STUDY", "--model", "llava_ov_msk"), "Did you mean 'llava_ov_mask'?"),
        (("STUDY", "--shard", "3/2"), "--shard must read i/n"),
        (("STUDY", "--entry", "tuned"), "--entry must read NAME:key=value"),
        (("STUDY", "--entry", "base:peft=x"), "use another name"),
        (("STUDY", "--model-args", "mask=none"), "mask is set by setting none"),
        (("STUDY", "--pretrained", "./nowhere"), "no such folder"),
        (("STUDY", "--data", "./nowhere"), "no such folder"),
        (("STUDY", "--docs", "0"), "--docs must be an integer"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: Sequence[str], line: str, tmp_path: Path
) -> None:
    study = write(tmp_path)
    given = [study if argument == "STUDY" else argument for argument in arguments]
    assert line in refusal(*given, "--out", tmp_path / "out")
    assert "--out FOLDER is needed" in refusal(study)


def test_a_cell_that_the_model_cannot_run_ends_the_study_before_any_or_is_left_out(
    tiny: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that a decoder of six does not have is known once it is loaded."""
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    settings = [
        {"name": "none", "model_args": {"mask": "none"}},
        {"name": "block", "model_args": {"layers": "12-23"}},
    ]
    call = (write(tmp_path, settings=settings), "--pretrained", tiny, "--out", tmp_path / "out")
    assert "cell base--block: " in refusal(*call)
    assert counted.answered == 0
    assert "left out, as this model cannot run them: base--block" in output(*call, "--leave-out")
    assert load_results(tmp_path / "out").missing == ("base--block",)


def test_another_study_in_the_folder_is_refused(copied: Path, tiny: Path) -> None:
    call = (copied / "study.yaml", "--pretrained", tiny, "--out", copied / "out")
    assert "holds another run of my:study (study: docs 2, now 3)" in refusal(*call, "--docs", 3)
    (copied / "other").mkdir()
    (copied / "other" / "thesis.tex").touch()
    assert "is not empty and holds no study" in refusal(*call[:-1], copied / "other")


def test_a_failed_cell_is_named_and_the_others_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    settings = [{"name": "first", "model_args": {"mask": "none"}}, {"name": "second"}]
    out = {"kind": "table"}
    generate = MaskedModel.generate_until

    def fail(model: MaskedModel, requests: Any) -> Any:
        if model.settings["mask"] == "none":
            raise UserError("out of memory")
        return generate(model, requests)

    monkeypatch.setattr(MaskedModel, "generate_until", fail)
    done = run(
        write(tmp_path, settings=settings, output=out), "--pretrained", tiny, "--out", tmp_path / "out"
    )
    assert done.exit_code == 1
    assert "error: 1 of 2 cells failed (base--first: out of memory)" in done.output
    assert [cell.name for cell in load_results(tmp_path / "out").cells] == ["base--second"]


def test_a_cell_says_the_command_that_repeats_it(ran: Path) -> None:
    record = json.loads((ran / "out" / "study.json").read_text())
    command = record["cells"][1]["command"].split()
    assert command[:3] == ["lmms_eval", "--model", "llava_ov_mask"]
    assert "mask=none,pool=4" in command[command.index("--model_args") + 1]
    assert command[command.index("--limit") + 1] == "2"
