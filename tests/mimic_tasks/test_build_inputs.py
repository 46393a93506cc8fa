"""What `mimic build` refuses, each by its message, and what it takes although it looks odd."""

import json
import signal
import time
from pathlib import Path

import pytest
import yaml

from mimic_eval.records import UserError
from mimic_tasks.build import BuildOptions, build
from tests.conftest import Command, Commands
from tests.makers.builds import options, refusal
from tests.makers.coco import LARGE, CocoWriter, MadeCoco, make_coco


def test_fewer_docs_than_asked_is_refused_unless_allowed(tmp_path: Path, command: Command) -> None:
    source = CocoWriter(tmp_path)
    for _ in range(4):
        source.image([("dog", LARGE, 0)])
        source.image([("cat", LARGE, 0), ("cup", LARGE, 0)])
    made = source.write()
    arguments = ["mimic", "build", *made.options(), "--docs", "50", "--profile", "all"]
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
        (["--n-images", "6-2"], "--n-images must be an ascending range within 1-64, got '6-2'"),
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
        (["--n-images", "1-65"], "--n-images must be an ascending range within 1-64, got '1-65'"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--task", "common", "--minority", "2"], "--minority 2 is for oddone, which --tasks leaves out"),
        (
            ["--task", "common", "--spread", "3"],
            "is for counting or pqa, which --tasks leaves out",
        ),
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
    call = ["mimic", "build", *made_coco.options(), "--out", str(tmp_path / "x"), *arguments]
    monkeypatch.setattr("sys.argv", call)
    assert message in refusal(capsys)


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


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("images", {"width": "100"}, "image 1000: width must be an integer, in pixels, got '100'"),
        ("images", {"width": None}, "image 1000: width must be an integer, in pixels, got None"),
        ("images", {"height": 100.7}, "image 1000: height must be an integer, in pixels, got 100.7"),
        ("images", {"file_name": 7}, "image 1000: file_name must be a name, got 7"),
        ("images", {"id": 1.5}, "image 1.5: its id must be an integer below 2^63 or a text, got 1.5"),
        ("images", {"id": 2**63}, "its id must be an integer below 2^63"),
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
        ({"dog": "unknown"}, "common"),
        ({"dog": "!!!"}, "common"),
    ],
)
def test_class_names_whose_answers_could_not_be_read_are_refused(
    names: dict[str, str], kind: str, tmp_path: Path
) -> None:
    made = make_coco(tmp_path)
    renamed(made, names)
    with pytest.raises(UserError, match="would not be parsed as it is: rename the class"):
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
        ("a[1]", "in a path as patterns"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_first(
    out: str, message: str, made_coco: MadeCoco, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=message):
        build(options(made_coco, tmp_path / out, docs=5), progress=False)


def test_a_build_that_is_terminated_leaves_nothing(
    made_coco: MadeCoco, tmp_path: Path, commands: Commands
) -> None:
    arguments = ["mimic", "build", *made_coco.options(), "--docs", "20000", "--out", tmp_path / "out"]
    with commands.started(*arguments) as process:
        while not (tmp_path / "out/.partial").exists():
            time.sleep(0.02)
            assert not process.ended()
        assert process.end(signal.SIGTERM).returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_a_class_name_of_absurd_length_is_one_line(made_coco: MadeCoco, tmp_path: Path) -> None:
    data = json.loads(made_coco.annotations.read_text())
    data["categories"][0]["name"] = "x" * 10_000_000
    (tmp_path / "long.json").write_text(json.dumps(data))
    given = BuildOptions((tmp_path / "long.json",), (made_coco.images,), tmp_path / "out", docs=2)
    with pytest.raises(UserError, match=r"has 10000000 characters \('x{40}\.\.\.'\): at most 200 are read"):
        build(given, progress=False)
