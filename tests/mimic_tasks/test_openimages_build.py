"""`mimic build` and `mimic sweep` on OpenImages' files, beside COCO's or alone."""

import json
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import Command
from tests.makers.coco import MadeCoco
from tests.makers.openimages import OpenImagesWriter


@pytest.fixture(scope="module")
def openimages(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The command's options for 40 pictures, some of which say Animal where others say Dog."""
    folder, rng = tmp_path_factory.mktemp("openimages"), Random(1)
    source = OpenImagesWriter(folder, [])
    for i in range(40):
        name = f"{i:016x}"
        source.shown(
            name, *rng.choice([("Dog", "Car"), ("Dog", "Cat"), ("Cat", "Bus"), ("Dog", "Dog"), ("Animal",)])
        )
        noise = Image.effect_noise((200, 100), 40 + i).convert("RGB")
        noise.save(source.images / f"{name}.jpg")
    files = source.write()
    return [
        "--annotations", source.boxes, "--images", source.images,
        "--class-descriptions", files["classes"], "--hierarchy", files["hierarchy"],
    ]  # fmt: skip


def test_a_dog_may_be_the_answer_where_others_say_animal(
    openimages: list[object], tmp_path: Path, command: Command
) -> None:
    done = command("mimic", "build", *openimages, "--docs", 12, "--allow-fewer", "--out", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    common = pq.read_table(tmp_path / "b/common/test.parquet").to_pylist()
    assert "Dog" in {doc["gt"] for doc in common}
    listing = pq.read_table(tmp_path / "b/listing/test.parquet").to_pylist()
    assert {doc["category"] for doc in listing} >= {"Animal"}
    assert all(isinstance(image_id, str) for doc in common for image_id in doc["image_ids"])
    for doc in pq.read_table(tmp_path / "b/counting/test.parquet").to_pylist():
        for boxes in doc["boxes"]:
            shown = {box["class"] for box in boxes}
            if doc["targets"] == ["Animal"]:
                assert not shown & {"Dog", "Cat"}  # animals without a box of their own as one
            if doc["targets"] == ["Dog"]:
                assert "Animal" not in shown  # it may be a dog: neither counted nor a distractor
    arguments = json.loads((tmp_path / "b/manifest.json").read_text())["arguments"]
    assert arguments["class_descriptions"].endswith("classes.csv")


def test_a_sweep_is_built_from_openimages(openimages: list[object], tmp_path: Path, command: Command) -> None:
    done = command("mimic", "sweep", "common_n", *openimages, "--docs", 3, "--out", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert "mimic_common_n: 5 cells of 3 docs (n_images)" in done.stdout


def test_openimages_and_coco_are_one_pool(
    openimages: list[object], made_coco: MadeCoco, tmp_path: Path, command: Command
) -> None:
    both = [*openimages, *made_coco.options()]
    done = command("mimic", "build", *both, "--docs", 10, "--task", "counting", "--out", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    docs = pq.read_table(tmp_path / "b/counting/test.parquet").to_pylist()
    assert {name for doc in docs for name in doc["targets"]} & {"Dog", "Cat", "Car"}
    assert {name for doc in docs for name in doc["targets"]} & {"dog", "cat", "car", "person"}


def test_files_that_do_not_go_together_are_refused(
    openimages: list[object], made_coco: MadeCoco, tmp_path: Path, command: Command
) -> None:
    for arguments, message in (
        (openimages[:4], "is OpenImages' (a CSV): give --class-descriptions too"),
        ([*made_coco.options(), *openimages[4:]], "are for OpenImages boxes; no --annotations is a .csv"),
        (openimages[:2], "go in pairs, got 1 and 0"),
        ([], "missing: --annotations, --images (`mimic build --help` explains them)"),
    ):
        done = command("mimic", "build", *arguments, "--out", tmp_path / "x")
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
