"""What a user should know of the sources at once, before anything is planned or a picture opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError
from mimic_tasks import source_files
from mimic_tasks.build import BuildOptions, build, plan_only
from mimic_tasks.source_files import SourceFiles, read_pool
from tests.makers.builds import options
from tests.makers.coco import LARGE, CocoWriter, MadeCoco
from tests.makers.openimages import OpenImagesWriter


def made(folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> MadeCoco:
    source = CocoWriter(folder)
    for i in range(20):
        source.image([("dog" if i % 2 else "cat", LARGE, 0)] * (1 + i % 3))
    if change:
        change(source.data)
    return source.write()


def warnings(source: MadeCoco, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    read_pool(SourceFiles((source.annotations,), (source.images,)))
    return capsys.readouterr().err.splitlines()


def test_a_sound_source_has_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert warnings(made(tmp_path), capsys) == []


def test_a_wrong_folder_is_refused_before_planning(tmp_path: Path) -> None:
    source = made(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    wrong = MadeCoco(source.annotations, tmp_path / "elsewhere")
    message = (
        rf"^0 of 20 pictures of {source.annotations} are in {wrong.images} \(not 000000001000\.png, "
        r"000000001001\.png, 000000001002\.png, \.\.\.\): give the folder with --images$"
    )
    with pytest.raises(UserError, match=message):
        build(options(wrong, tmp_path / "out", docs=10**6), progress=False)
    assert not (tmp_path / "out").exists()
    assert plan_only(options(wrong, tmp_path / "out", docs=3, tasks=("counting",)))["tasks"]["counting"][
        "docs"
    ]


def test_wrong_folder_is_refused_before_the_file_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing the 118,000 pictures of COCO's train2017 took 14 CPU seconds, the look at names one."""

    def parsed(*_: Any) -> None:
        raise AssertionError("parsed")

    source = made(tmp_path / "a folder with é")
    monkeypatch.setattr(source_files, "read_coco", parsed)
    above = SourceFiles((source.annotations,), (source.images.parent,))
    with pytest.raises(UserError, match=rf"^0 of 20 pictures .* they are in {source.images}: give it with"):
        read_pool(above)
    with pytest.raises(AssertionError):
        read_pool(SourceFiles((source.annotations,), (source.images,)))


def test_names_with_a_folder_in_front_say_which_folder_to_give(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        for image in data["images"]:
            image["file_name"] = f"images/{image['file_name']}"

    source = made(tmp_path, change)
    with pytest.raises(UserError, match="have a folder in front: give the folder above it"):
        build(options(source, tmp_path / "out"), progress=False)
    above = MadeCoco(source.annotations, tmp_path)
    build(options(above, tmp_path / "out", docs=3, tasks=("counting",)), progress=False)


def test_names_with_backslashes_are_said(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        for image in data["images"]:
            image["file_name"] = f"train\\{image['file_name']}"

    source = made(tmp_path, change)
    with pytest.raises(UserError, match="have backslashes, as on Windows: write / instead"):
        build(options(source, tmp_path / "out", docs=3), progress=False)


def test_missing_pictures_are_counted_and_the_first_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(tmp_path)
    for image_id in (1003, 1007, 1011, 1012):
        (source.images / f"{image_id:012d}.png").unlink()
    assert warnings(source, capsys) == [
        f"warning: 4 of 20 pictures of {source.annotations} are not in {source.images}, and docs are drawn "
        "from the others: 000000001003.png, 000000001007.png, 000000001011.png, ..."
    ]
    build(options(source, tmp_path / "out", docs=5, tasks=("counting",)), progress=False)
    dropped = json.loads((tmp_path / "out/manifest.json").read_text())["images_dropped"]
    assert {record["reason"] for record in dropped} <= {"missing"}


def test_missing_pictures_of_openimages_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = OpenImagesWriter(tmp_path, [])
    writer.shown("a", "Dog")
    writer.box("away", "Cat")
    paths = writer.write()
    files = SourceFiles((writer.boxes,), (writer.images,), paths["classes"], paths["hierarchy"])
    read_pool(files)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: 1 of 2 pictures of {writer.boxes} are not in")
    assert line.endswith(": away.jpg")


def corners(data: dict[str, Any]) -> None:
    for i, row in enumerate(data["annotations"]):
        x, y = (5 + 9 * i) % 60, (7 * i) % 60
        row["bbox"] = [x, y, x + 30, y + 30]


def normalised(data: dict[str, Any]) -> None:
    for row in data["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.3, 0.4]


def too_far(data: dict[str, Any]) -> None:
    for row in data["annotations"]:
        row["bbox"] = [80.0, 5.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            corners,
            "boxes leave their picture and all fit as x1, y1, x2, y2: bbox must be x, y, width, height",
        ),
        (
            normalised,
            "all 39 boxes lie within 0-1, as parts of the picture: bbox must be x, y, width, height",
        ),
        (too_far, "39 of 39 boxes leave their picture: bbox must be x, y, width, height in pixels"),
    ],
)
def test_boxes_in_another_form_are_said_in_one_line(
    change: Callable[[dict[str, Any]], None],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = made(tmp_path, change)
    (line,) = warnings(source, capsys)
    assert line.startswith(f"warning: {source.annotations}: ")
    assert said in line


def test_a_few_boxes_that_leave_their_picture_are_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(data: dict[str, Any]) -> None:
        for row in data["annotations"][:5]:
            row["bbox"] = [80.0, 5.0, 30.0, 30.0]

    assert warnings(made(tmp_path, change), capsys) == []


def test_two_sources_each_have_their_own_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = made(tmp_path / "1", corners), made(tmp_path / "2", normalised)
    both = BuildOptions(
        annotations=(one.annotations, two.annotations), images=(one.images, two.images), out=tmp_path / "o"
    )
    read_pool(both.sources)
    assert [line.split(":")[1].strip() for line in capsys.readouterr().err.splitlines()] == [
        str(one.annotations),
        str(two.annotations),
    ]
