"""Every family with every mask through the real command, on the embedded data, with sinks in the weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mimic_eval.cli.calibrate import calibrate
from mimic_eval.cli.checkpoint import tiny_checkpoint
from model_adapters.families import FAMILIES, model_names
from model_adapters.loading import EMBEDDED
from tests.conftest import Command

pytestmark = pytest.mark.slow
PACKAGED = [family for family in FAMILIES.ours if (EMBEDDED / family).is_dir()]
PLANTABLE = ("internvl", "llava", "llava_onevision", "qwen2_5_vl", "qwen2_vl")  # Qwen2 has biases
DOCS = 12  # in few docs of the smallest checkpoints a later image has grounded tokens behind a sink
MASKS = {
    "none": "mask=none",
    "block": "mask=block",
    "ar": "mask=ar,relevance=oracle",
    "ar_attention": "mask=ar,relevance=attention,empty_rows=mask,pool=2",
    "mask_only": "mask=mask_only,layers=second_half",
    "unmask_only": "mask=unmask_only,relevance=degraded:0.5,order=reversed",
}


@pytest.mark.parametrize("family", PLANTABLE)
def test_all_masks_run_and_the_results_say_what_they_did(
    family: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_names(family)[0]
    checkpoint, cache = tmp_path / "checkpoint", str(tmp_path / "cache")
    monkeypatch.setenv("MIMIC_CACHE", cache)
    tiny_checkpoint(checkpoint, family, sinks=True)
    calibrate(model, pretrained=str(checkpoint), docs=6)
    config = tmp_path / "runs.yaml"
    runs = [
        {
            "model": model,
            "model_args": f"pretrained={checkpoint},{arguments}",
            "tasks": "mimic_common",
            "limit": DOCS,
            "gen_kwargs": "max_new_tokens=4",  # the checkpoint's answers never end
            "batch_size": "3",
            "log_samples": True,
            "output_path": str(tmp_path / name),
            "verbosity": "WARNING",
        }
        for name, arguments in MASKS.items()
    ]
    config.write_text(yaml.safe_dump(runs))
    done = command("lmms_eval", "--config", config, MIMIC_CACHE=cache)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: _results(tmp_path / name) for name in MASKS}
    for name, mimic in found.items():
        assert mimic["run"]["mask"] == name.removesuffix("_attention")
        (row,) = (row for row in mimic["rows"] if row["metric"] == "exact_match")
        assert (row["n"], row["unscored"]) == (DOCS, 0)
    assert found["none"]["effects"] == found["block"]["effects"] == {}
    for name in ("ar", "ar_attention", "unmask_only"):
        effects = found[name]["effects"]
        assert effects["edits"]["docs"] == effects["relevance"]["docs"] == DOCS
        assert effects["edits"]["links_opened"]["row_key_pairs"] > 0
        assert effects["edits"]["visual_rows"]["edited"] > 0
        assert 0 < effects["edits"]["eta"]["mean"] < 1
    for name, touched in (("ar", False), ("ar_attention", True), ("mask_only", True), ("unmask_only", False)):
        assert (found[name]["effects"]["edits"]["text_rows"]["edited"] > 0) is touched, name
    assert found["unmask_only"]["effects"]["relevance"]["boxes_moved"] > 0
    assert "relevance" not in found["mask_only"]["effects"]


def test_every_family_answers_a_doc_with_blocks(command: Command, tmp_path: Path) -> None:
    runs = []
    for family in FAMILIES.ours:
        FAMILIES.get(family).make_tiny(tmp_path / family, layers=2)
        runs.append(
            {
                "model": model_names(family)[0],
                "model_args": f"pretrained={tmp_path / family},mask=block,layers=all",
                "tasks": "mimic_common",
                "limit": 1,
                "gen_kwargs": "max_new_tokens=2",
                "output_path": str(tmp_path / "out" / family),
                "verbosity": "WARNING",
            }
        )
    (tmp_path / "runs.yaml").write_text(yaml.safe_dump(runs))
    done = command("lmms_eval", "--config", tmp_path / "runs.yaml", MIMIC_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    for family in FAMILIES.ours:
        mimic = _results(tmp_path / "out" / family)
        assert (mimic["run"]["family"], mimic["run"]["mask"]) == (FAMILIES.get(family).model_type, "block")
        assert [(row["n"], row["unscored"]) for row in mimic["rows"]] == [(1, 0)] * 2, family


@pytest.mark.parametrize("family", PACKAGED)
def test_the_packaged_checkpoint_answers_every_doc_of_the_embedded_data(
    family: str, command: Command, tmp_path: Path
) -> None:
    """Without `pretrained=`: two tasks, batched, with blocks and with pooled tokens."""
    model = model_names(family)[0]
    config = tmp_path / "runs.yaml"
    runs = [
        {
            "model": model,
            "model_args": arguments,
            "tasks": task,
            "limit": 4,
            "batch_size": "2",
            "log_samples": True,
            "output_path": str(tmp_path / task),
            "verbosity": "WARNING",
        }
        for task, arguments in (("mimic_common", "mask=block"), ("mimic_counting", "mask=none,pool=4"))
    ]
    config.write_text(yaml.safe_dump(runs))
    done = command("lmms_eval", "--config", config)
    assert done.returncode == 0, done.stderr
    for run in runs:
        folder = Path(run["output_path"])
        mimic = _results(folder)
        assert (mimic["run"]["family"], mimic["run"]["mask"]) == (
            family,
            run["model_args"].split(",")[0][5:],
        )
        assert mimic["run"]["checkpoint"].startswith("embedded:")
        assert [(row["n"], row["unscored"]) for row in mimic["rows"]] == [(4, 0)] * 2
        (samples,) = folder.rglob(f"*_samples_{run['tasks']}.jsonl")
        assert len(samples.read_text().splitlines()) == 4


def test_a_sink_mask_without_a_calibration_names_the_command_that_makes_one(
    command: Command, tmp_path: Path
) -> None:
    checkpoint, cache = tmp_path / "checkpoint", str(tmp_path / "cache")
    made = command("mimic", "tiny-checkpoint", checkpoint, "--family", "qwen2_vl", "--sinks")
    assert made.returncode == 0, made.stderr
    call = (
        "lmms_eval", "--tasks", "mimic_common", "--limit", 2, "--model", "qwen2_vl_mask",
        "--model_args", f"pretrained={checkpoint},mask=ar,relevance=oracle",
    )  # fmt: skip
    refused = command(*call, MIMIC_CACHE=cache)
    assert refused.returncode == 2
    named = f"mimic calibrate qwen2_vl_mask --pretrained {checkpoint}"
    assert refused.stderr.splitlines()[-1] == (
        f"error: this model has no calibration of its sinks yet: make it with: {named}"
    )
    calibrated = command(*named.split(), "--docs", 6, MIMIC_CACHE=cache)
    assert calibrated.returncode == 0, calibrated.stderr
    assert "\n  7: largest magnitude " in calibrated.stdout
    done = command(*call, MIMIC_CACHE=cache)
    assert done.returncode == 0, done.stderr


def _results(folder: Path) -> Mapping[str, Any]:
    (path,) = folder.rglob("*_results.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data["mimic"]
