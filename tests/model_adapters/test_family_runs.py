"""Families and masks through the real command, on the embedded data, with sinks in the weights."""

import json
import subprocess
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
    "var": "mask=var,heads=all,variant=released",
    "dab": "mask=dab",
}
OF_A_FAMILY = ("ar", "ar_attention", "unmask_only", "var", "dab")
"""Where a family's token places, pooled tokens and text rows matter, and masks under which test_parity.py and
test_parity_named.py compare some families only. The others see only a layout, so one family runs them."""


@pytest.mark.parametrize("family", PLANTABLE)
def test_masks_run_and_the_results_say_what_they_did(
    family: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_names(family)[0]
    checkpoint, cache = tmp_path / "checkpoint", str(tmp_path / "cache")
    masks = MASKS if family == "llava_onevision" else {name: MASKS[name] for name in OF_A_FAMILY}
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
        for name, arguments in masks.items()
    ]
    config.write_text(yaml.safe_dump(runs))
    done = command("lmms_eval", "--config", config, MIMIC_CACHE=cache)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: _results(tmp_path / name) for name in masks}
    effects = {name: mimic["effects"] for name, mimic in found.items()}
    for name, mimic in found.items():
        assert mimic["run"]["mask"] == name.removesuffix("_attention")
        (row,) = (row for row in mimic["rows"] if row["metric"] == "exact_match")
        assert (row["n"], row["unscored"]) == (DOCS, 0)
    for name in effects.keys() & {"ar", "ar_attention", "unmask_only"}:
        edits = effects[name]["edits"]
        assert edits["docs"] == effects[name]["relevance"]["docs"] == DOCS
        assert edits["links_opened"]["row_key_pairs"] > 0
        assert edits["visual_rows"]["edited"] > 0
        assert 0 < edits["eta"]["mean"] < 1
    for name in effects.keys() & {"ar", "ar_attention", "mask_only", "unmask_only"}:
        touched = name in ("ar_attention", "mask_only")
        assert (effects[name]["edits"]["text_rows"]["edited"] > 0) is touched, name
    for name in effects.keys() & {"var", "dab"}:
        counts = effects[name]["edits"]["counts"]
        assert found[name]["run"]["layers"] == ("2-3" if name == "var" else "0-3")
        assert 0 < counts["edited_rows"] <= counts["rows"]
        assert 0 < counts["edited_generated_rows"] <= counts["generated_rows"] < counts["rows"]
        assert 0 < counts["mean_moved_mass"] < 1
        assert f"mask={name} edited {counts['edited_rows']:,} of {counts['rows']:,} rows" in done.stderr
    assert effects["var"]["edits"]["layer_docs"] == 2 * DOCS
    if masks == MASKS:
        assert effects["none"] == {}
        assert set(effects["block"]["edits"]["counts"]) == {"edited_rows", "blocked_pairs"}
        assert effects["unmask_only"]["relevance"]["boxes_moved"] > 0
        assert "relevance" not in effects["mask_only"]
        assert "negative_weights" in effects["dab"]["edits"]["counts"]


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


def test_masks_beside_attention_say_what_they_did_in_results_reports_and_on_stderr(
    command: Command, tmp_path: Path
) -> None:
    """On the embedded data and checkpoint, in one process; and `mimic compare` reads them."""
    masks = {
        "none": "mask=none",
        "focus": "mask=focus,noise=shared,cut=0.1,lambda=0.3",
        "orders": "mask=orders,order=reversed",
        "delimiters": "mask=delimiters,scale=4",
    }
    runs = [
        {
            "model": "llava_ov_mask",
            "model_args": arguments,
            "tasks": "mimic_common",
            "limit": 3,
            "batch_size": "6",
            "log_samples": True,
            "output_path": str(tmp_path / name),
            "verbosity": "WARNING",
        }
        for name, arguments in masks.items()
    ]
    (tmp_path / "runs.yaml").write_text(yaml.safe_dump(runs))
    done = command("lmms_eval", "--config", tmp_path / "runs.yaml", MIMIC_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: _results(tmp_path / name) for name in masks}
    focus, orders = (found[name]["effects"]["passes"] for name in ("focus", "orders"))
    images = orders["passes"]  # M passes each
    assert focus["passes"] == images + 3
    assert focus["pictures"] == 2 * images
    assert orders == {
        "docs": 3,
        "docs_in_one_pass": 0,
        "most": orders["most"],
        "passes": images,
        "pictures": images,
    }
    scaled = 4 * images  # each newline, after four layers
    edits = {"docs": 3, "docs_unchanged": 0, "counts": {"edited_rows": scaled}}
    assert found["delimiters"]["effects"] == {"edits": edits}
    for line in (
        f"mask=focus answered 3 docs in {images + 3} passes, {focus['most']} at most for one doc, which show "
        f"{2 * images} different pictures; the cut decided {focus['cut_steps']} of {focus['steps']} tokens",
        f"mask=orders answered 3 docs in {images} passes, {orders['most']} at most for one doc, which show "
        f"{images} different pictures",
        f"mask=delimiters multiplied {scaled} hidden states of delimiters (of a token and layer) by 4",
    ):
        assert line in done.stderr.splitlines()
    report = command("mimic", "report", tmp_path)
    assert report.returncode == 0, report.stderr
    for label in ("focus, lambda 0.3, shared_noise true, cut 0.1", "orders", "delimiters 0-3, scale 4.0"):
        assert label in " ".join(report.stdout.split())
    compared = command(
        "mimic", "compare", *(tmp_path / name for name in masks), "--out", tmp_path / "compare"
    )
    assert compared.returncode == 0, compared.stderr


def test_segment_masks_run_on_the_embedded_data_and_their_identities_hold(
    command: Command, tmp_path: Path
) -> None:
    """By the real command: edges pass its parser, roles come from the docs, heads from a file."""
    heads = tmp_path / "heads.json"
    heads.write_text('{"heads": [[3, 1], [4, 0], [5, 1]]}')
    block = "edges=image>other+image>prefix+image>between"
    masks = {
        "none": "mask=none",
        "sofa": "mask=sofa,sigma=0.8",
        "sofa_off": "mask=sofa,sigma=0",
        "block": "mask=block,layers=all",
        "edges_of_block": f"mask=knockout,{block}",
        "released": "mask=block,variant=released",
        "roles": "mask=knockout,edges=question>image[target]+answer>image[target],batch_size=3",
        "heads": f"mask=knockout,edges=question>image[1]+answer>image[9],heads=@{heads}",
    }
    runs = [
        {
            "model": "llava_ov_mask",
            "model_args": arguments,
            "tasks": "mimic_counting",
            "limit": 6,
            "log_samples": True,
            "output_path": str(tmp_path / name),
            "verbosity": "WARNING",
        }
        for name, arguments in masks.items()
    ]
    (tmp_path / "runs.yaml").write_text(yaml.safe_dump(runs))
    done = command("lmms_eval", "--config", tmp_path / "runs.yaml", MIMIC_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: _results(tmp_path / name) for name in masks}
    answers = {name: _answers(tmp_path / name) for name in masks}
    assert answers["sofa_off"] == answers["released"] == answers["none"]
    assert answers["edges_of_block"] == answers["block"] != answers["none"]
    assert answers["roles"] != answers["none"]
    settings = {name: mimic["run"] for name, mimic in found.items()}
    assert (settings["sofa"]["layers"], settings["sofa"]["sigma"], settings["sofa"]["own_image"]) == (
        "0+2+4",
        0.8,
        False,
    )
    assert (settings["released"]["layers"], settings["released"]["variant"]) == ("none", "released")
    assert settings["heads"]["heads"] == "L3H1+L4H0+L5H1"
    edits = {name: mimic["effects"].get("edits", {}) for name, mimic in found.items()}
    assert edits["sofa_off"] == {"docs": 6, "docs_unchanged": 6, "counts": {"edited_rows": 0}}
    for name in ("sofa", "edges_of_block", "roles", "heads"):
        counts, mask, deed, mass = edits[name]["counts"], "knockout", "blocked", "removed_mass"
        if name == "sofa":
            mask, deed, mass = "sofa", "opened", "moved_mass"
        rows, pairs = counts["edited_rows"], counts[f"{deed}_pairs"]
        assert 0 < counts[mass] < rows <= pairs
        line = f"mask={mask} {deed} {pairs:,} keys in {rows:,} rows (of a token, head and layer), with "
        assert f"{line}{counts[mass] / rows:.1%} of a row's attention on average" in done.stderr
    assert edits["roles"]["counts"]["docs_with answer>image[target]"] == 6
    assert "mask=knockout: no doc has tokens on both sides of answer>image[9]" in done.stderr
    assert "mask=block: of layers 3-5 none is changed, as with mask=none: the released code" in done.stderr
    report = command("mimic", "report", tmp_path)
    assert report.returncode == 0, report.stderr
    for label in (
        "sofa 0+2+4, sigma 0.8",
        f"knockout 0-5, {block.replace('=', ' ')}",
        "block, variant released",
    ):
        assert label in " ".join(report.stdout.split())
    compared = command(
        "mimic", "compare", *(tmp_path / name for name in masks), "--out", tmp_path / "compare"
    )
    assert compared.returncode == 0, compared.stderr


def _answers(folder: Path) -> list[str]:
    """The answers of a run, in the order of the docs."""
    (path,) = folder.rglob("*_samples_*.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    return [sample["mimic"]["response"] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]


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


def test_a_sink_mask_without_a_calibration_makes_one_that_the_next_run_uses(
    command: Command, planted: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")

    def run(out: str) -> subprocess.CompletedProcess[str]:
        arguments = f"pretrained={planted},mask=ar,relevance=oracle,tau=8"
        call = (
            "--tasks",
            "mimic_common",
            "--limit",
            20,
            "--model",
            "llava_ov_mask",
            "--model_args",
            arguments,
            "--gen_kwargs",
            "max_new_tokens=2",  # the checkpoint's answers never end
        )
        return command("lmms_eval", *call, "--output_path", tmp_path / out, MIMIC_CACHE=cache)

    done = run("first")
    assert done.returncode == 0, done.stderr
    assert "no calibration found: making one from 32 docs (embedded, seed 0)" in done.stderr
    record = _results(tmp_path / "first")
    assert record["run"]["calibration"] == "32 docs of embedded, seed 0"
    shared = record["effects"]["calibrated_on"]["docs"]
    assert f"{shared} of the docs are among those that the sinks were calibrated on" in done.stderr
    again = run("second")
    assert again.returncode == 0, again.stderr
    assert "no calibration found" not in again.stderr
    first, second = record["run"], _results(tmp_path / "second")["run"]
    assert first == second


def _results(folder: Path) -> Mapping[str, Any]:
    (path,) = folder.rglob("*_results.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data["mimic"]
