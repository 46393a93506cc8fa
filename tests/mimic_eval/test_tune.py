"""`mimic tune` chooses a number on docs; a run takes its file, and no doc with a picture of theirs."""

import io
import json
import shutil
from math import inf, isinf
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mimic_eval.cli.tuning.docs import draw_docs
from mimic_eval.cli.tuning.plan import make_plan
from mimic_eval.records import UserError, rgb_digest
from mimic_tasks.lmms_hooks import doc_to_visual
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.originals import read_originals
from mimic_tasks.source_files import SourceFiles
from mimic_tasks.stored_docs import read_docs
from mimic_tasks.sweeps import parse_sweep
from mimic_tasks.sweeps.building import SweepOptions, build_sweeps
from model_adapters.models import LlavaOvMask
from model_adapters.tuning import read_tuning
from tests.conftest import Command
from tests.makers.dial import DIAL
from tests.makers.tunings import call, content, refusal, run

VALUES = (0.0, 0.5, 1.0)


def test_the_file_says_what_was_chosen_how_and_on_what(tuned: Path, tuning_build: Path) -> None:
    record = content(tuned)
    assert (record["method"], record["argument"], record["default"]) == (DIAL, "amount", 1.0)
    scores = {entry["value"]: entry["score"] for entry in record["grid"]}
    assert tuple(scores) == VALUES
    assert scores[record["value"]] == max(scores.values())
    assert record["untuned"]["score"] == scores[1.0]
    assert record["interval"]["low"] <= record["value"] <= record["interval"]["high"]
    assert [(test["value"], test["task"]) for test in record["tests"]] == [
        (value, task) for task in ("mimic_common", "mimic_counting") for value in (0.0, 0.5)
    ]
    assert {test["family"] for test in record["tests"]} == {4}
    assert record["data"]["docs"] == {"mimic_counting": 6, "mimic_common": 6}
    assert record["data"]["source"] == str(tuning_build)
    shown = {
        image_id
        for task, hashes in record["data"]["content_hashes"].items()
        for doc in read_docs(tuning_build / task[6:] / "test.parquet", ("image_ids", "content_hash"))
        if doc["content_hash"] in hashes
        for image_id in doc["image_ids"]
    }
    assert len(record["data"]["pictures"]) == len(shown)
    assert record["model"]["name"] == "llava_ov_mask"
    assert record["model"]["checkpoint"] == "embedded:llava_onevision"
    assert set(record["versions"]) == {"mimic-eval", "lmms-eval", "torch", "transformers"}
    assert record["command"].startswith("mimic")


def test_no_attention_in_the_decoder_is_worse_than_the_packaged_models_own(tuned: Path) -> None:
    """So the number moves the scores, and the value without effect is chosen."""
    scores = {entry["value"]: entry["score"] for entry in content(tuned)["grid"]}
    assert scores[0.0] > scores[1.0]
    assert content(tuned)["value"] == 0.0


def test_the_same_command_again_answers_nothing_again_and_writes_the_same(
    tuned: Path, tuning_build: Path, tmp_path: Path
) -> None:
    result = run(*call(tuning_build, tmp_path / "again.json"))
    assert result.exit_code == 0, result.output
    assert result.stderr.count("reused 12 of 12 answers") == 3  # the default is one of the values
    first, second = content(tuned), content(tmp_path / "again.json")
    for record in (first, second):
        del record["digest"]
    assert first == second


def test_a_tuning_that_is_stopped_keeps_its_answers(
    tuning_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    more = ("--grid", "0,0.3", "--docs", 3)

    def stop(*arguments: Any, **more: Any) -> None:
        raise SystemExit(130)

    with monkeypatch.context() as patch:
        patch.setattr(LlavaOvMask, "change", stop)
        assert run(*call(tuning_build, tmp_path / "a.json", *more)).exit_code == 130
    assert not (tmp_path / "a.json").exists()
    result = run(*call(tuning_build, tmp_path / "a.json", *more))
    assert result.stderr.count("reused 6 of 6 answers") == 1
    assert (tmp_path / "a.json").exists()


# the docs that were tuned on


@pytest.mark.slow
def test_the_command_runs_on_other_pictures_and_refuses_those_of_the_tuning(
    tuned: Path, tuning_build: Path, tmp_path: Path, command: Command
) -> None:
    lmms = ("lmms_eval", "--tasks", "mimic_counting", "--model", "llava_ov_mask", "--limit", 2)
    args = ("--model_args", f"tuned={tuned}", "--output_path", tmp_path / "runs", "--verbosity", "WARNING")
    root = str(Path(__file__).parents[2])  # of the throw-away mask
    done = command(*lmms, *args, PYTHONPATH=root)
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "runs").rglob("*_results.json")
    announced = json.loads(results.read_text())["mimic"]["run"]
    assert announced["tuned"] == f"amount=0 of {read_tuning(tuned).sha256}"
    table = done.stdout[done.stdout.rindex("data embedded; ") :].partition("results and samples")[0]
    assert "mask dial" in " ".join(table.split())
    assert "tuned" not in table  # it follows from the value: no label names it
    refused = command(*lmms[:-2], *args, MIMIC_DATA=str(tuning_build), PYTHONPATH=root)
    assert refused.returncode == 2
    lines = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "of the run's" in lines[0]
    assert "pictures are among those that amount was chosen on (mimic_counting doc" in lines[0]
    assert "Answering" not in refused.stderr
    assert len([*(tmp_path / "runs").rglob("*_results.json")]) == 1
    plain = ("--model_args", f"mask={DIAL},amount=0.5", "--verbosity", "WARNING")
    # without the file it is an ordinary run
    same = command(*lmms[:-2], *plain, MIMIC_DATA=str(tuning_build), PYTHONPATH=root)
    assert same.returncode == 0, same.stderr
    assert "reused 6 of 8 answers" in same.stderr  # those of the tuning


def re_encoded(folder: Path, out: Path) -> Path:
    """A build with every picture stored in another format, its pixels as they were."""
    shutil.copytree(folder, out)
    file = out / "counting" / "test.parquet"
    table = pq.read_table(file)
    docs = table.to_pylist()
    for doc in docs:
        for image in doc["images"]:
            made = io.BytesIO()
            Image.open(io.BytesIO(image["bytes"])).convert("RGB").save(made, "BMP")
            image["bytes"] = made.getvalue()
        doc["content_hash"] = "0" * 64
    pq.write_table(pa.Table.from_pylist(docs, schema=table.schema), file)
    return out


def test_pictures_in_another_encoding_are_the_same_pictures(
    tuned: Path, tuning_build: Path, tmp_path: Path
) -> None:
    other = re_encoded(tuning_build, tmp_path / "bmp")
    said = refusal(*call(tuning_build, tmp_path / "a.json", "--evaluation", other))
    pictures = len(content(tuned)["data"]["pictures"])
    assert said.startswith(
        f"--evaluation {other} shares {pictures} of the {pictures} pictures of the tuning ("
    )
    assert "; and " in said


def test_an_evaluation_on_other_pictures_is_accepted_and_on_shared_ones_refused(
    tuning_build: Path, tmp_path: Path
) -> None:
    said = refusal(*call(tuning_build, tmp_path / "a.json", "--evaluation", tuning_build))
    assert "take docs of other pictures (mimic check-overlap lists them)" in said
    assert not (tmp_path / "a.json").exists()
    result = run(*call(tuning_build, tmp_path / "a.json", "--evaluation", EMBEDDED))
    assert result.exit_code == 0, result.output


def test_what_a_changed_picture_was_made_from_counts_too(
    tuned: Path, tuning_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that stitches or shrinks pictures shows none of the tuning's as it was."""
    from mimic_eval.cli.lmms.arguments import check_run

    changed = tmp_path / "changed"
    shutil.copytree(EMBEDDED, changed)
    digest = content(tuned)["data"]["pictures"][0]
    (changed / "originals.json").write_text(json.dumps({digest: "image 7"}))
    monkeypatch.setenv("MIMIC_DATA", str(changed))
    given = {"model": "llava_ov_mask", "model_args": f"tuned={tuned}"}
    with pytest.raises(UserError, match=r"1 of the run's 1 pictures are among those .*\(image 7\)"):
        check_run({**given, "tasks": "mimic_counting"})
    check_run({**given, "tasks": "mimic_official_counting"})


# a user's mistakes, each refused before a model is loaded


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sofaa",), "Unknown mask 'sofaa'."),
        (("block",), "mask=block has no free number of its own: name one of its arguments with --argument ("),
        (("none", "--argument", "sigma"), "Unknown number of mask=none 'sigma'."),
        (
            (DIAL, "--argument", "amuont"),
            "Unknown number of mask=tests.makers.dial:DialOptions 'amuont'. Did",
        ),
        ((DIAL, "--argument", "copies"), "--grid is needed with --argument copies"),
        (
            (DIAL, "--argument", "copies", "--grid", "1,0"),
            "--grid 0: copies must be a number of at least 1, got",
        ),
        ((DIAL, "--argument", "copies", "--grid", "1,1.5"), "--grid 1.5: copies"),
        ((DIAL, "--grid", "0.5"), "--grid needs two values at least, got 0.5"),
        ((DIAL, "--grid", ""), "--grid must read 0,0.25,0.5; '' is no number"),
        ((DIAL, "--grid", "0,x"), "--grid must read 0,0.25,0.5; 'x' is no number"),
        ((DIAL, "--grid", "0,nan"), "--grid: nan is not finite"),
        ((DIAL, "--grid", "0,inf"), "--grid: inf is not finite"),
        ((DIAL, "--grid", "0,1,1.0"), "--grid has 1 twice"),
        ((DIAL, "--grid", "0,2"), "--grid 2: amount must be a number of at least 0 and of at most 1, got"),
        ((DIAL, "--grid", ",".join(map(str, range(101)))), "--grid has 101 values, more than 100"),
        ((DIAL, "--docs", 0), "--docs must be an integer within 1-100000, got 0"),
        ((DIAL, "--model", "llava_ov_msk"), "Unknown model 'llava_ov_msk'. Did you mean 'llava_ov_mask'?"),
        (
            (DIAL, "--model-args", "mask=block"),
            "mask=block in --model-args: mimic tune sets it: leave it out",
        ),
        ((DIAL, "--model-args", "amount=0.1"), "amount=0.1 in --model-args: mimic tune sets it"),
        ((DIAL, "--model-args", "tuned=a.json"), "tuned=a.json in --model-args: mimic tune sets it"),
        ((DIAL, "--model-args", "pool"), "--model_args must read key=value,key=value; 'pool' has no '='"),
        ((DIAL, "--model-args", "prefix=true"), "--model-args: prefix=True is not used by mask=tests"),
        ((DIAL, "--tasks", "cuonting"), "Unknown task 'cuonting'. Did you mean 'counting'?"),
        ((DIAL, "--tasks", "counting,"), "--tasks must read name,name without empty names"),
        ((DIAL, "--data", "nowhere"), "nowhere: no such folder"),
        ((DIAL, "--data", "."), "holds no task (*/test.parquet); make one with: mimic build --out FOLDER"),
        ((DIAL, "--evaluation", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[object, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("model_adapters.models.model_class", None)  # no model is loaded
    said = refusal(*arguments, "--out", "a.json")
    assert words in said
    assert "\n" not in said


def test_an_output_that_is_there_is_kept(tuned: Path, tuning_build: Path) -> None:
    before = tuned.read_bytes()
    assert "exists: --overwrite replaces it" in refusal(*call(tuning_build, tuned))
    assert tuned.read_bytes() == before


def test_docs_that_cannot_be_shown_are_left_out_and_reported(tuning_build: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tuning_build, broken)
    file = broken / "counting" / "test.parquet"
    table = pq.read_table(file)
    docs = table.to_pylist()
    for doc in docs[1:]:
        doc["images"][0]["bytes"] = b"GIF89a"
    pq.write_table(pa.Table.from_pylist(docs, schema=table.schema), file)
    result = run(
        DIAL,
        "--data",
        broken,
        "--tasks",
        "counting",
        "--docs",
        20,
        "--grid",
        "0,1",
        "--out",
        tmp_path / "a.json",
    )
    assert result.exit_code == 0, result.output
    assert "mimic_counting has 8 docs: all of them are used" in result.stderr
    assert result.stderr.count("is left out: image 1 of") == 7
    assert content(tmp_path / "a.json")["data"]["docs"] == {"mimic_counting": 1}
    docs[0]["images"][0]["bytes"] = b""
    pq.write_table(pa.Table.from_pylist(docs, schema=table.schema), file)
    said = refusal(
        DIAL, "--data", broken, "--tasks", "counting", "--grid", "0,1", "--out", tmp_path / "b.json"
    )
    assert "none of the 8 sampled docs has pictures that can be decoded" in said


def test_intervene_takes_no_file_of_the_command(tuned: Path) -> None:
    import mimic_eval

    with (
        pytest.raises(UserError, match="tuned= is for the command"),
        mimic_eval.intervene(None, None, tuned=str(tuned)),
    ):
        pass


@pytest.mark.parametrize(
    ("method", "argument", "default", "least_effect"),
    [
        ("sofa", "sigma", 0.5, 0.0),
        ("focus", "lambda", 0.1, 0.0),
        ("dab", "alpha", 0.5, 0.0),
        ("delimiters", "scale", 8.0, 1.0),
        ("var", "p", 0.6, 1.0),
        *((name, "tau", None, inf) for name in ("ar", "mask_only", "unmask_only")),
    ],
)
def test_the_free_number_of_each_method(
    method: str, argument: str, default: float | None, least_effect: float
) -> None:
    plan = make_plan(method, argument=None, grid=None, model="llava_ov_mask", model_args="")
    assert (plan.argument, plan.default(), plan.least_effect) == (argument, default, least_effect)
    assert isinf(least_effect) or least_effect in plan.values
    assert default is None or default in plan.values
    assert plan.arguments(plan.values[-1]) == {"mask": method, argument: plan.values[-1]}


def test_docs_of_a_sweep_are_drawn_with_their_pictures_and_what_those_were_made_from(
    scenes: Path, tmp_path: Path
) -> None:
    """Its docs name their pictures, which it stitches."""
    keys = {"fixed": {"total": "2-4", "n_images": 4, "spread": 2}, "vary": {"stitch": ["none", "grid"]}}
    chosen = parse_sweep({"name": "st", "task": "counting", "docs": 3, **keys})
    sources = SourceFiles((scenes / "annotations" / "instances_scenes.json",), (scenes / "images",))
    build_sweeps(SweepOptions((chosen,), sources, tmp_path / "sweep"), progress=False)
    drawn = draw_docs(tmp_path / "sweep", names=["counting_st"], docs=4, seed=1)
    docs = drawn.docs["counting_st"]
    assert len(docs) == 4
    shown = {rgb_digest(picture) for doc in docs.values() for picture in doc_to_visual(doc)}
    originals = {digest.hex() for digest, _ in read_originals(tmp_path / "sweep")}
    assert originals
    assert set(drawn.pictures) == shown | originals
    assert draw_docs(tmp_path / "sweep", names=None, docs=4, seed=1).docs.keys() == drawn.docs.keys()
    assert docs.keys() != draw_docs(tmp_path / "sweep", names=None, docs=4, seed=2).docs["counting_st"].keys()


def test_a_task_without_docs_is_refused(tuning_build: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(tuning_build, empty)
    file = empty / "counting" / "test.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    said = refusal(DIAL, "--data", empty, "--tasks", "counting", "--out", tmp_path / "a.json")
    assert said == f"{file} holds no docs: make some with: mimic build --out FOLDER"
