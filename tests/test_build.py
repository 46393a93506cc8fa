"""`mimic build` on sources made for the purpose: the rules, the seed, and each refusal by its message."""

import hashlib
import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import yaml
from coco_maker import LARGE, SMALL, CocoWriter, MadeCoco, make_coco
from conftest import BIN, Command
from PIL import Image

from mimic_eval.records import DOC_COLUMNS, TASK_KINDS, UserError
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.planning import Controls, Range
from mimic_tasks.verify import WrongDoc, verify_doc


def options(source: MadeCoco, out: Path, **changes: object) -> BuildOptions:
    return BuildOptions(annotations=(source.annotations,), images=(source.images,), out=out, **changes)  # type: ignore[arg-type]


def docs_of(out: Path, kind: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out / kind / "test.parquet").to_pylist()
    return rows


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
    assert reasons[1001] == "not a picture that PIL can read"
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


def test_fewer_docs_than_asked_is_refused_unless_allowed(tmp_path: Path, command: Command) -> None:
    source = CocoWriter(tmp_path)
    for _ in range(4):
        source.image([("dog", LARGE, 0)])
        source.image([("cat", LARGE, 0), ("cup", LARGE, 0)])
    made = source.write()
    arguments = ["mimic", "build", *made.options(), "--docs", "50"]
    refused = command(*arguments, "--out", tmp_path / "a")
    assert refused.returncode == 2
    assert refused.stderr.count("error:") == 1
    assert "common: the data can give 11 of the 50 docs asked" in refused.stderr
    assert "the best-served class, 'dog', has 4 images" in refused.stderr
    assert "short too: oddone" in refused.stderr
    assert not (tmp_path / "a").exists()
    tasks = ["--task", "common", "--task", "listing", "--n-images", "5-8", "--allow-fewer"]
    allowed = command(*arguments, "--out", tmp_path / "b", *tasks)
    assert allowed.returncode == 0, allowed.stderr
    assert "mimic_common has no doc and is not written (common: the data can give 0 of" in allowed.stderr
    assert not (tmp_path / "b/mimic_common.yaml").exists()
    assert (tmp_path / "b/mimic_listing.yaml").exists()
    nothing = command(
        *arguments, "--out", tmp_path / "c", "--task", "common", "--n-images", "8", "--allow-fewer"
    )
    assert nothing.returncode == 2
    assert "no task has a doc" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-images", "3", "--spread", "2", "--distractors", "2"], "n-images = spread + distractors"),
        (["--n-images", "2", "--spread", "5"], "n-images = spread + distractors"),
        (["--n-images", "2", "--task", "oddone"], "--n-images 2: oddone needs at least 3 images"),
        (["--n-images", "6-2"], "--n-images must be within 1-64 and not fall, got '6-2'"),
        (["--n-images", "few"], "--n-images must be a number or a range like 2-6, got 'few'"),
        (["--classes", "dog,unicorn"], "Unknown class 'unicorn'"),
        (["--task", "countng"], "Unknown task 'countng'. Did you mean 'counting'?"),
        (["--split", "half"], "--split must be one of balanced, unbalanced, both, got 'half'"),
        (["--k", "9"], "--k must be within 1-5, got 9"),
        (["--k", "4", "--total", "2-3"], "--total 2-3 cannot hold one instance of each of 4 classes"),
        (["--docs", "0"], "--docs must be at least 1, got 0"),
        (["--max-reuse", "0"], "--max-reuse must be at least 1, got 0"),
        (["--docs", "many"], "Invalid value for '--docs'"),
        (["--n-images", "9" * 5000], "--n-images must be within 1-64, got a number of 5000 digits"),
        (["--n-images", "1-65"], "--n-images must be within 1-64 and not fall, got '1-65'"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--task", "common", "--minority", "2"], "--minority 2 is for oddone, which --task leaves out"),
        (["--task", "common", "--spread", "3"], "--spread 3 is for counting, which --task leaves out"),
        (["--split", "unbalanced", "--total", "3"], "--total 3 is for balanced docs"),
    ],
)
def test_each_wrong_option_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    made_coco: MadeCoco,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mimic_eval import cli

    monkeypatch.setattr(
        "sys.argv", ["mimic", "build", *made_coco.options(), "--out", str(tmp_path / "x"), *arguments]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a COCO instances file"),
        ('{"images": []}', "it has no list 'annotations'"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            "image 1 lacks file_name, height, width",
        ),
    ],
)
def test_a_file_that_is_no_coco_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        build(options(MadeCoco(file, tmp_path), tmp_path / "out"), progress=False)
    assert str(file) in str(error.value)


def test_a_record_that_refers_to_nothing_is_named(tmp_path: Path) -> None:
    source = CocoWriter(tmp_path)
    source.image([("dog", LARGE, 0)])
    made = source.write()
    data = json.loads(made.annotations.read_text())
    for key, value in (("image_id", 7), ("category_id", 99), ("bbox", [1, 2, "x", 4])):
        changed = {**data, "annotations": [{**data["annotations"][0], key: value}]}
        made.annotations.write_text(json.dumps(changed))
        with pytest.raises(UserError, match=rf"annotation 1: {key}"):
            build(options(made, tmp_path / "out"), progress=False)


def test_an_existing_folder_is_never_overwritten(made_coco: MadeCoco, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="exists and is not empty"):
        build(options(made_coco, tmp_path / "out"), progress=False)


def test_verify_finds_a_wrong_doc(built: Path) -> None:
    doc = docs_of(built, "counting")[0]
    verify_doc("counting", doc)
    with pytest.raises(WrongDoc, match="gt is the count"):
        verify_doc("counting", {**doc, "gt": "99"})
    with pytest.raises(WrongDoc, match="spread is the number"):
        verify_doc("counting", {**doc, "spread": 64})


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("images", {"width": "100"}, "image 1000: width must be a whole number of pixels, got '100'"),
        ("images", {"width": None}, "image 1000: width must be a whole number of pixels, got None"),
        ("images", {"height": 100.7}, "image 1000: height must be a whole number of pixels, got 100.7"),
        ("images", {"file_name": 7}, "image 1000: file_name must be a name, got 7"),
        ("images", {"id": 1.5}, "image 1.5: its id must be a whole number below 2^63, got 1.5"),
        ("images", {"id": 2**63}, "its id must be a whole number below 2^63"),
        ("images", {"id": 1001}, "image id 1001 occurs twice"),
        ("images", {"file_name": "000000001001.png"}, "000000001001.png occurs twice"),
        ("annotations", {"bbox": [0, 0, 10**400, 1]}, "annotation 1: bbox must be four finite numbers"),
        ("annotations", {"bbox": [0, 0, True, 1]}, "annotation 1: bbox must be four finite numbers"),
        ("annotations", {"iscrowd": "0"}, "annotation 1: iscrowd must be 0 or 1, got '0'"),
        (
            "annotations",
            {"bbox": None, "iscrowd": 1, "segmentation": [[1, 2, 3]]},
            "its segmentation is no mask",
        ),
        ("categories", {"name": None}, "category 10: its name must be a text, got None"),
        ("categories", {"name": "a\nb"}, "category 10: its name must be a text"),
        ("categories", {"name": "cat"}, "category name cat occurs twice"),
        ("categories", {"supercategory": ["x"]}, "category 10: its supercategory must be a text"),
    ],
)
def test_a_record_of_the_wrong_form_is_named(
    section: str, change: dict[str, object], message: str, tmp_path: Path
) -> None:
    source = CocoWriter(tmp_path)
    for _ in range(3):
        source.image([("dog", LARGE, 0), ("cat", LARGE, 0)])
    made = source.write()
    data = json.loads(made.annotations.read_text())
    data[section][0].update(change)
    made.annotations.write_text(json.dumps(data))
    with pytest.raises(UserError) as error:
        build(options(made, tmp_path / "out"), progress=False)
    assert str(made.annotations) in str(error.value)
    assert message in str(error.value)


def renamed(made: MadeCoco, names: dict[str, str]) -> None:
    data = json.loads(made.annotations.read_text())
    for record in data["categories"]:
        record["name"] = names.get(record["name"], record["name"])
    made.annotations.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({"dog": "rock; roll"}, "listing"),
        ({"dog": "unknown"}, "common"),
        ({"dog": "!!!"}, "common"),
        ({"dog": "Cats"}, "listing"),  # the same class as `cat` to any reader of answers
    ],
)
def test_class_names_whose_answers_could_not_be_read_are_refused(
    names: dict[str, str], kind: str, tmp_path: Path
) -> None:
    made = make_coco(tmp_path)
    renamed(made, names)
    with pytest.raises(UserError, match="would not be read as it is: rename the class"):
        build(options(made, tmp_path / "out", docs=40, tasks=(kind,)), progress=False)
    assert not (tmp_path / "out").exists()


def test_a_category_named_like_a_class_is_not_listed_whatever_its_case(tmp_path: Path) -> None:
    made = make_coco(tmp_path)
    data = json.loads(made.annotations.read_text())
    for record in data["categories"]:
        record["supercategory"] = {"animal": "Dog", "vehicle": None, "kitchen": " "}.get(
            record["supercategory"]
        )
    made.annotations.write_text(json.dumps(data))
    with pytest.raises(UserError, match="no category of two or more classes to list"):
        build(options(made, tmp_path / "out", tasks=("listing",)), progress=False)


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
    assert all("but other annotations" in record["reason"] for record in dropped)


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


def test_a_label_is_a_text_and_never_a_function(made_coco: MadeCoco, tmp_path: Path) -> None:
    label = "'!function os.getcwd'"
    build(options(made_coco, tmp_path / "b", docs=5, tasks=("common",), label=label), progress=False)
    text = (tmp_path / "b/mimic_common.yaml").read_text()
    assert "!function mimic_tasks.lmms_hooks.process_common\n" in text
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda self, node: ("function", node.value))  # type: ignore[attr-defined]
    assert yaml.load(text, loader)["metadata"]["label"] == label  # type: ignore[arg-type]


@pytest.mark.parametrize("out", [".", "link", "empty/", "new/../other"])
def test_unusual_but_good_places_are_written(
    out: str, made_coco: MadeCoco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "here")
    if out == ".":
        (tmp_path / "here/link").unlink()
    build(options(made_coco, Path(out), docs=5, tasks=("common",)), progress=False)
    assert (Path(out if out != "new/../other" else "other") / "mimic_common.yaml").is_file()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "is a file: choose a folder"),
        ("file/x", "cannot be written"),
        ("broken", "is a link to nothing"),
        ("x" * 300, "cannot be written"),
        ("a[1]", "in a path for patterns"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_first(
    out: str, message: str, made_coco: MadeCoco, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=message):
        build(options(made_coco, tmp_path / out, docs=5), progress=False)


def test_a_build_that_is_terminated_leaves_nothing(made_coco: MadeCoco, tmp_path: Path) -> None:
    arguments = [BIN / "mimic", "build", *made_coco.options(), "--docs", "20000", "--out", tmp_path / "out"]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out.*.partial")):
        time.sleep(0.02)
        assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


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
