"""Situations from public reports and an attack that once gave a wrong number or an error without reason.

The others are held, with the same inputs, by

- B03 and a silent adapter: `test_lora`; B11, B20: `test_generation`; B12, B13 and old weights:
  `test_lmms_arguments` (refused before a model loads); B16: `test_labels`;
- a cut generation_config and remote code: `test_checkpoint_files`; another model's journal: `test_journal`;
- a full disk: `test_lmms_outputs`; EPS, damaged AVIF and TIFF: `test_images_fuzz`;
- direction: `test_stats_means` and `test_compare`; rank tricks: `test_site_ranks` and `test_site_attacks`.
"""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Command, Commands
from tests.makers.builds import docs_of

pytestmark = pytest.mark.slow
CASES = Path(__file__).parents[1] / "cases"
OPENIMAGES = "00000000000000"
"""What the ids of its pictures have in common here."""
COUNTED = ("--task", "counting", "--classes", "dog", "--split", "unbalanced", "--docs", 2)


def samples_of(out: Path) -> list[dict[str, Any]]:
    """The `mimic` entries of all samples below a folder."""
    files = sorted(out.rglob("*_samples_*.jsonl"))
    return [json.loads(line)["mimic"] for file in files for line in file.read_text().splitlines()]


# B02: two spellings of a class


def test_another_sources_spelling_is_the_same_class(tmp_path: Path, command: Command) -> None:
    """The truth was 1 where two other pictures showed two `Dog` each."""
    here = CASES / "B02"
    sources = (
        "--annotations", here / "coco.json", "--images", here / "coco", "--annotations", here / "oi.csv",
        "--images", here / "oi", "--class-descriptions", here / "classes.csv",
    )  # fmt: skip
    build = ("mimic", "build", *sources, *COUNTED, "--n-images", 3)
    done = command(*build, "--spread", 1, "--out", tmp_path / "1")
    assert done.returncode == 2, done.stdout
    assert "'dog', has 8 target images (1-2 instances each) and 0 distractors" in done.stderr
    done = command(*build, "--spread", 3, "--out", tmp_path / "3")
    assert done.returncode == 0, done.stderr
    docs: Any = docs_of(tmp_path / "3", "counting")
    for doc in docs:
        shown = [box["class"] for boxes in doc["boxes"] for box in boxes]
        assert set(shown) == {"dog"}
        assert int(doc["gt"]) == len(shown) == sum(2 if OPENIMAGES in own else 1 for own in doc["image_ids"])


def test_two_spellings_in_one_file_are_one_class(tmp_path: Path, command: Command) -> None:
    """The truth was 2 for two pictures with a `dog` and a `Dog` each."""
    here = CASES / "B02"
    build = ("mimic", "build", "--annotations", here / "case.json", "--images", here / "case", *COUNTED)
    done = command(*build, "--n-images", 2, "--spread", 2, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [doc["gt"] for doc in docs_of(tmp_path / "out", "counting")] == ["4", "4"]


# B04: OpenImages' own class names


def test_a_class_name_with_signs_is_listed_and_read(tmp_path: Path, command: Command) -> None:
    """`Kitchen & dining room table` could not be built, and its own name scored 0.4."""
    here = CASES / "B04"
    done = command(
        "mimic", "build", "--annotations", here / "boxes.csv", "--images", here / "img",
        "--class-descriptions", here / "classes.csv", "--hierarchy", here / "hierarchy.json",
        "--task", "listing", "--docs", 4, "--n-images", 2, "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    docs: Any = docs_of(tmp_path / "out", "listing")
    assert len(docs) == 4
    assert any("Kitchen & dining room table" in doc["targets"] for doc in docs)
    done = command("mimic", "score", "listing", here / "answer.jsonl")
    assert json.loads(done.stdout)["score"] == 1.0


# B06: a box annotated twice


def test_a_box_under_two_ids_is_one_object(tmp_path: Path, command: Command) -> None:
    """The truth was 4 for two pictures with one dog each."""
    here = CASES / "B06"
    build = ("mimic", "build", "--annotations", here / "twice.json", "--images", here / "img", *COUNTED)
    done = command(*build, "--n-images", 2, "--spread", 2, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [doc["gt"] for doc in docs_of(tmp_path / "out", "counting")] == ["2", "2"]
    changed = json.loads((tmp_path / "out" / "manifest.json").read_text())["source"]["changed"]
    assert changed == {"boxes left out, as another of their class covers the same place": 4}


# B15: a root category without annotations


def test_a_root_category_without_annotations_changes_nothing(tmp_path: Path, command: Command) -> None:
    """Roboflow's root was taken for a class: "no category of two or more classes to list"."""
    here = CASES / "B15"
    made = []
    for name in ("roboflow", "flat"):
        done = command(
            "mimic", "build", "--annotations", here / f"{name}.json", "--images", here / "img", "--task",
            "listing", "--docs", 2, "--n-images", 2, "--allow-fewer", "--out", tmp_path / name,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made.append(
            [(doc["question"], doc["gt"], doc["content_hash"]) for doc in docs_of(tmp_path / name, "listing")]
        )
    assert made[0] == made[1]
    assert len(made[0]) == 2


# Damaged pictures


def test_damaged_pictures_are_left_out_of_a_build(scenes: Path, tmp_path: Path, command: Command) -> None:
    """One damaged AVIF, or TIFF, was a traceback."""
    data = Path(copytree(scenes, tmp_path / "scenes"))
    names = sorted((data / "images").iterdir())
    damaged = [CASES / "attack" / name for name in ("AVIF_RuntimeError.bin", "TIFF_TypeError.bin")]
    for number, file in enumerate(names[:100]):
        copyfile(damaged[number % 2], file)
    [annotations] = (data / "annotations").glob("*.json")
    done = command(
        "mimic", "build", "--annotations", annotations, "--images", data / "images", "--docs", 3,
        "--allow-fewer", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["images_dropped"]
    for name in manifest["tasks"]:
        docs: Any = docs_of(tmp_path / "out", name)
        for doc in docs:
            assert not {str(own["path"]) for own in doc["images"]} & {file.name for file in names[:100]}


# Runs


@pytest.mark.parametrize("name", ["model_args", "gen_kwargs", "seed"])
def test_a_config_file_with_mappings_and_numbers_is_run(name: str, command: Command) -> None:
    """B17: `'dict' object has no attribute 'split'`, `'int' object is not subscriptable`."""
    done = command("lmms_eval", "--config", CASES / "B17" / f"{name}.yaml", "--verbosity", "ERROR")
    assert done.returncode == 0, done.stderr
    assert "mimic_listing" in done.stdout


def test_runs_that_start_together_into_one_folder_are_all_there(tmp_path: Path, command: Command) -> None:
    """B10: one results file for both, and with one task twice one samples file with both runs' answers."""

    def run(answer: int) -> int:
        done = command(
            "lmms_eval", "--tasks", "mimic_counting", "--model", "dummy", "--limit", 4, "--log_samples",
            "--model_args", f"response={answer}", "--verbosity", "ERROR", "--output_path", tmp_path / "out",
        )  # fmt: skip
        return done.returncode

    with ThreadPoolExecutor() as pool:
        first = run(1)  # starts the server of commands
        assert [first, *pool.map(run, (2, 3))] == [0, 0, 0]
    files = sorted(tmp_path.glob("out/**/*_samples_mimic_counting.jsonl"))
    answers = [
        {json.loads(line)["filtered_resps"] for line in file.read_text().splitlines()} for file in files
    ]
    assert sorted(answers, key=min) == [{"1"}, {"2"}, {"3"}]
    assert len(list(tmp_path.glob("out/**/*_results.json"))) == 3
    report = command("mimic", "report", tmp_path / "out")
    assert report.returncode == 0, report.stderr
    assert [f"response={answer}" in report.stdout for answer in (1, 2, 3)] == [True] * 3


def test_a_picture_exchanged_under_its_name_is_unscored_in_a_run(
    scenes: Path, tiny: Path, tmp_path: Path, command: Command
) -> None:
    """It was scored as the picture of that name."""
    sweep, data = tmp_path / "sweep.yaml", tmp_path / "data"
    sweep.write_text("name: pair\ntask: counting\ndocs: 2\nvary: {n_images: [2]}\n")
    [annotations] = (scenes / "annotations").glob("*.json")
    done = command(
        "mimic", "sweep", sweep, "--annotations", annotations, "--images", scenes / "images", "--out", data
    )
    assert done.returncode == 0, done.stderr
    docs: Any = docs_of(data, "counting_pair")
    [first, second] = docs
    name = next(name for name in first["image_files"] if name not in second["image_files"])
    Image.new("RGB", (320, 240), (255, 0, 0)).save(data / name)
    done = command(
        "lmms_eval", "--tasks", "mimic_counting_pair", "--model", "llava_ov_mask", "--model_args",
        f"pretrained={tiny},mask=none,journal=off", "--log_samples", "--verbosity", "ERROR",
        "--gen_kwargs", "max_new_tokens=2", "--output_path", tmp_path / "out", MIMIC_DATA=str(data),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [changed, whole] = samples_of(tmp_path / "out")
    assert changed["status"] == "unscored"
    assert "is not the picture that its name says" in changed["reason"]
    assert whole["status"] != "unscored"


def test_a_run_killed_while_it_writes_its_files_leaves_none_that_mislead(
    tmp_path: Path, command: Command, commands: Commands
) -> None:
    """The samples of a killed run made `mimic report` refuse the folder for good."""
    out = tmp_path / "out"
    run = (
        "lmms_eval", "--tasks", "mimic", "--model", "dummy", "--model_args", "response=3", "--limit", "20",
        "--log_samples", "--verbosity", "ERROR", "--output_path", str(out),
    )  # fmt: skip
    with commands.started(*run) as process:
        while not process.ended() and not (
            out.exists() and any("samples" in name for name in names_below(out))
        ):
            time.sleep(0.001)
        assert process.end().returncode == -signal.SIGKILL
    done = command(*run)
    assert done.returncode == 0, done.stderr
    report = command("mimic", "report", out)
    assert report.returncode == 0, report.stderr
    assert report.stdout.count("mimic_listing") == 1  # ours, with the official score beside it, of one run


def names_below(folder: Path) -> list[str]:
    """The names of all files below a folder that changes meanwhile."""
    return [name for _, _, names in os.walk(folder) for name in names]
