"""`mimic build` on sources made for the purpose: the rules, the seed, and each refusal by its message."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mimic_eval.records import DOC_COLUMNS, TASK_KINDS
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.planning import Controls, Range
from mimic_tasks.verify import WrongDoc, verify_doc
from tests.conftest import Command
from tests.makers.builds import docs_of, options
from tests.makers.coco import LARGE, SMALL, CocoWriter, MadeCoco, make_coco


@pytest.fixture(scope="module")
def built(made_coco: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "tasks"
    build(options(made_coco, out, docs=40), progress=False)
    return out


def test_a_build_has_every_column_in_its_order(built: Path) -> None:
    for kind in TASK_KINDS:
        assert tuple(pq.read_schema(built / kind / "test.parquet").names) == DOC_COLUMNS


def test_load_dataset_reads_a_task_by_its_name_with_decoded_images(built: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(built), "counting", cache_dir=str(tmp_path))["test"]
    assert len(loaded) == 40
    assert loaded[0]["images"][0].size == (100, 100)


def test_no_parquet_but_the_tasks_lies_in_the_folder(built: Path) -> None:
    files = sorted(str(path.relative_to(built)) for path in built.rglob("*.parquet"))
    assert files == [f"{kind}/test.parquet" for kind in sorted(TASK_KINDS)]


def test_images_are_the_sources_own_bytes_stored_once(built: Path, made_coco: MadeCoco) -> None:
    docs = docs_of(built, "counting")
    for doc in docs:
        for image in doc["images"]:  # type: ignore[attr-defined]
            assert image["bytes"] == (made_coco.images / image["path"]).read_bytes()
    column = pq.ParquetFile(built / "counting/test.parquet").metadata.row_group(0).column(0)
    distinct = {image["path"] for doc in docs for image in doc["images"]}  # type: ignore[attr-defined]
    size = sum((made_coco.images / name).stat().st_size for name in distinct)
    assert column.total_uncompressed_size < 1.2 * size + 2000


def test_docs_differ_and_no_answer_is_too_frequent(built: Path) -> None:
    for kind in TASK_KINDS:
        docs = docs_of(built, kind)
        keys = {(frozenset(d["targets"]), frozenset(d["image_ids"])) for d in docs}  # type: ignore[arg-type]
        assert len(keys) == len(docs) == 40
        assert max(Counter(d["gt"] for d in docs).values()) <= 0.4 * len(docs)


def test_wordings_vary_and_never_name_the_answer(built: Path) -> None:
    for kind in ("listing", "common", "oddone"):
        docs = docs_of(built, kind)
        assert len({str(d["question"]) for d in docs}) >= 3
        for doc in docs:
            words = str(doc["question"]).lower().replace('"', " ").split()
            assert not set(doc["targets"]) & set(words)  # type: ignore[arg-type]


def test_the_splits_are_half_each(built: Path) -> None:
    assert Counter(d["split"] for d in docs_of(built, "counting")) == {"balanced": 20, "unbalanced": 20}
    assert all(2 <= int(str(d["gt"])) <= 8 for d in docs_of(built, "counting") if d["split"] == "balanced")


def test_the_manifest_says_what_was_built(built: Path, made_coco: MadeCoco) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["arguments"]["seed"] == 0
    digest = hashlib.sha256(made_coco.annotations.read_bytes()).hexdigest()
    assert manifest["files"] == [{"name": "instances_made.json", "sha256": digest}]
    assert manifest["source"]["crowd"]["count"] == 3
    assert manifest["source"]["small"]["count"] == 4
    assert manifest["source"]["categories_not_listed"] == ["person"]  # one class: its name is the answer
    counting = manifest["tasks"]["counting"]
    assert counting["docs"] == 40
    assert counting["clusters"]["count"] >= 1
    assert len(counting["clusters"]["labels"]) == 40


def test_a_second_process_with_the_same_seed_writes_the_same_bytes(
    built: Path, made_coco: MadeCoco, tmp_path: Path, command: Command
) -> None:
    for seed, same in (("0", True), ("1", False)):
        out = tmp_path / seed
        done = command("mimic", "build", *made_coco.options(), "--out", out, "--docs", 40, "--seed", seed)
        assert done.returncode == 0, done.stderr
        for kind in TASK_KINDS:
            file = f"{kind}/test.parquet"
            assert ((out / file).read_bytes() == (built / file).read_bytes()) is same


def test_a_task_alone_is_the_same_as_beside_the_others(
    built: Path, made_coco: MadeCoco, tmp_path: Path
) -> None:
    build(options(made_coco, tmp_path / "one", docs=40, tasks=("common",)), progress=False)
    assert (tmp_path / "one/common/test.parquet").read_bytes() == (built / "common/test.parquet").read_bytes()


def test_max_reuse_1_makes_independent_docs(made_coco: MadeCoco, tmp_path: Path) -> None:
    build(options(made_coco, tmp_path / "b", docs=8, max_reuse=1), progress=False)
    for kind in TASK_KINDS:
        images = [i for d in docs_of(tmp_path / "b", kind) for i in d["image_ids"]]  # type: ignore[attr-defined]
        assert len(images) == len(set(images))
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert manifest["tasks"]["counting"]["clusters"]["count"] == 8


def test_k_classes_are_asked_and_answered_in_the_drawn_order(made_coco: MadeCoco, tmp_path: Path) -> None:
    controls = Controls(k=2, total=Range(3, 6), narrowed=True)
    build(options(made_coco, tmp_path / "b", docs=20, tasks=("counting",), controls=controls), progress=False)
    for doc in docs_of(tmp_path / "b", "counting"):
        first, second = doc["targets"]  # type: ignore[misc]
        counts = Counter(box["class"] for boxes in doc["boxes"] for box in boxes)  # type: ignore[attr-defined]
        assert doc["gt"] == f"{first}: {counts[first]}, {second}: {counts[second]}"
        assert str(doc["question"]).index(first) < str(doc["question"]).rindex(second)
        assert doc["k"] == 2
    assert "max_new_tokens: 28" in (tmp_path / "b/mimic_counting.yaml").read_text()


def test_spread_and_distractors_are_obeyed(made_coco: MadeCoco, tmp_path: Path) -> None:
    controls = Controls(spread=Range(2, 2), distractors=Range(3, 4), narrowed=True)
    build(options(made_coco, tmp_path / "b", docs=20, tasks=("counting",), controls=controls), progress=False)
    docs = docs_of(tmp_path / "b", "counting")
    assert {d["spread"] for d in docs} == {2}
    assert {d["distractors"] for d in docs} == {3, 4}


def test_only_the_asked_classes_are_targets(made_coco: MadeCoco, tmp_path: Path) -> None:
    made = options(
        made_coco, tmp_path / "b", docs=10, classes=("dog", "cat"), controls=Controls(narrowed=True)
    )
    build(made, progress=False)
    for kind in TASK_KINDS:
        for doc in docs_of(tmp_path / "b", kind):
            assert set(doc["targets"]) <= {"dog", "cat"}  # type: ignore[arg-type]


def test_broken_pictures_are_dropped_with_their_reason(tmp_path: Path) -> None:
    source = CocoWriter(tmp_path)
    for i in range(30):
        source.image([("dog" if i % 2 else "cat", LARGE, 0)], write=i != 3)
    made = source.write()
    cut = made.images / "000000001000.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (made.images / "000000001001.png").write_bytes(b"not a picture")
    data = json.loads(made.annotations.read_text())
    data["images"][2]["width"] = 120
    made.annotations.write_text(json.dumps(data))
    build(
        options(made, tmp_path / "b", docs=60, tasks=("counting",), controls=Controls(narrowed=True)),
        progress=False,
    )
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    reasons = {record["image_id"]: record["reason"] for record in manifest["images_dropped"]}
    assert reasons[1000].startswith("cannot be decoded")
    assert reasons[1001] == "not a JPEG, PNG, WebP, BMP, TIFF or GIF picture"
    assert reasons[1002] == "is 100 x 100 pixels, annotated as 120 x 100"
    assert reasons[1003] == "missing"
    used = {i for d in docs_of(tmp_path / "b", "counting") for i in d["image_ids"]}  # type: ignore[attr-defined]
    assert not used & {1000, 1001, 1002, 1003}


def test_small_and_crowd_objects_hide_their_class(tmp_path: Path) -> None:
    source = CocoWriter(tmp_path)
    with_small = source.image([("dog", LARGE, 0), ("dog", SMALL, 0)])
    with_crowd = source.image([("dog", LARGE, 0), ("dog", LARGE, 1)])
    for i in range(12):
        source.image([("dog", LARGE, 0)] * (1 + i % 3))
        source.image([("cup", LARGE, 0)])
    made = source.write()
    controls = Controls(narrowed=True)
    build(
        options(made, tmp_path / "b", docs=40, tasks=("counting",), classes=("dog",), controls=controls),
        progress=False,
    )
    used = {i for d in docs_of(tmp_path / "b", "counting") for i in d["image_ids"]}  # type: ignore[attr-defined]
    assert not used & {with_small, with_crowd}


def test_verify_finds_a_wrong_doc(built: Path) -> None:
    doc = docs_of(built, "counting")[0]
    verify_doc("counting", doc)
    with pytest.raises(WrongDoc, match="gt is the count"):
        verify_doc("counting", {**doc, "gt": "99"})
    with pytest.raises(WrongDoc, match="spread is the number"):
        verify_doc("counting", {**doc, "spread": 64})


def test_the_same_picture_with_other_annotations_is_used_under_neither_id(tmp_path: Path) -> None:
    source = CocoWriter(tmp_path)
    ids = [source.image([("dog" if i % 2 else "cat", LARGE, 0)] * (1 + i % 3)) for i in range(30)]
    made = source.write()
    for target, twin in ((ids[2], ids[0]), (ids[3], ids[0])):  # ids[2]: two cats more; ids[3]: dogs
        data = (made.images / f"{twin:012d}.png").read_bytes()
        (made.images / f"{target:012d}.png").write_bytes(data)
    controls = Controls(narrowed=True)
    build(options(made, tmp_path / "b", docs=80, tasks=("counting",), controls=controls), progress=False)
    used = {i for d in docs_of(tmp_path / "b", "counting") for i in d["image_ids"]}  # type: ignore[attr-defined]
    assert not used & {ids[0], ids[2]}
    dropped = json.loads((tmp_path / "b/manifest.json").read_text())["images_dropped"]
    assert all("but with other annotations" in record["reason"] for record in dropped)


def test_sources_that_number_their_images_alike_are_told_apart(tmp_path: Path) -> None:
    first, second = make_coco(tmp_path / "1"), make_coco(tmp_path / "2", seed=5)
    for file in second.images.iterdir():  # other bytes, else they would be twins
        Image.new("RGB", (100, 100), (int(file.stem) % 251, 7, 99)).save(file)
    both = BuildOptions(
        annotations=(first.annotations, second.annotations), images=(first.images, second.images),
        out=tmp_path / "b", docs=20,
    )  # fmt: skip
    build(both, progress=False)
    ids = {i for d in docs_of(tmp_path / "b", "counting") for i in d["image_ids"]}  # type: ignore[attr-defined]
    assert {str(i).split("/")[0] for i in ids} == {"1", "2"}


def test_max_reuse_serves_both_splits_alike(made_coco: MadeCoco, tmp_path: Path) -> None:
    made = options(made_coco, tmp_path / "b", docs=40, tasks=("counting",), max_reuse=1, allow_fewer=True)
    build(made, progress=False)
    splits = Counter(d["split"] for d in docs_of(tmp_path / "b", "counting"))
    assert abs(splits["balanced"] - splits["unbalanced"]) <= 2


def test_plan_only_prints_the_plan_that_a_build_follows_and_opens_no_picture(
    made_coco: MadeCoco, built: Path, command: Command, tmp_path: Path
) -> None:
    nowhere = ["--annotations", made_coco.annotations, "--images", "/no/such/folder"]
    done = command("mimic", "build", *nowhere, "--docs", 40, "--plan-only", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)["tasks"]
    written = json.loads((built / "manifest.json").read_text())["tasks"]
    for kind in TASK_KINDS:
        del written[kind]["clusters"]["labels"]
        assert planned[kind] == written[kind]
    assert not list(tmp_path.iterdir())


def test_a_size_that_a_task_cannot_have_leaves_it_out_when_fewer_are_allowed(
    made_coco: MadeCoco, tmp_path: Path
) -> None:
    controls = Controls(n_images=Range(2, 2), narrowed=True)
    result = build(
        options(made_coco, tmp_path / "b", docs=5, controls=controls, allow_fewer=True), progress=False
    )
    assert result.shortages == (
        "mimic_oddone has no doc and is not written (--n-images 2: oddone needs at least 3 images)",
    )
    assert not (tmp_path / "b/mimic_oddone.yaml").exists()
    assert (tmp_path / "b/mimic_common.yaml").exists()


def test_hard_distractors_show_a_class_of_the_targets_category(made_coco: MadeCoco, tmp_path: Path) -> None:
    categories = {
        record["name"]: record["supercategory"]
        for record in json.loads(made_coco.annotations.read_text())["categories"]
    }
    assert all(spread < n for n, spread in Controls(hard=True).counting_shapes())
    controls = Controls(hard=True, narrowed=True)
    build(options(made_coco, tmp_path / "b", docs=20, tasks=("counting",), controls=controls), progress=False)
    distractors = 0
    for doc in docs_of(tmp_path / "b", "counting"):
        (target,) = doc["targets"]  # type: ignore[misc]
        for boxes in doc["boxes"]:  # type: ignore[attr-defined]
            shown = {box["class"] for box in boxes}
            if target not in shown:
                assert categories[target] in {categories[name] for name in shown}
                distractors += 1
    assert distractors > 10


def test_the_number_of_listed_classes_and_the_size_of_the_minority_are_obeyed(
    made_coco: MadeCoco, tmp_path: Path
) -> None:
    controls = Controls(listed=Range(2, 2), minority=Range(2, 2), n_images=Range(5, 7), narrowed=True)
    tasks = ("listing", "oddone")
    build(options(made_coco, tmp_path / "b", docs=10, tasks=tasks, controls=controls), progress=False)
    assert {len(d["targets"]) for d in docs_of(tmp_path / "b", "listing")} == {2}  # type: ignore[arg-type]
    assert {d["spread"] for d in docs_of(tmp_path / "b", "oddone")} == {2}
