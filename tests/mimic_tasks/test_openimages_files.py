"""Open Images' files: what may be in them, and the message for what may not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError
from mimic_tasks.sources import read_openimages
from tests.makers.openimages import HEADER, OpenImagesWriter


@pytest.fixture
def made(tmp_path: Path) -> OpenImagesWriter:
    return OpenImagesWriter(tmp_path, [])


def test_the_classes_file_may_have_its_header_line(made: OpenImagesWriter) -> None:
    made.shown("a", "Dog")
    paths = made.write()
    before = read_openimages(made.boxes, made.images, **paths)
    paths["classes"].write_text("LabelName,DisplayName\n" + paths["classes"].read_text())
    after = read_openimages(made.boxes, made.images, **paths)
    assert before.classes == after.classes == ("Dog",)


def test_further_columns_are_ignored_and_the_name_is_the_files_unless_given(made: OpenImagesWriter) -> None:
    made.shown("a", "Dog")
    paths = made.write()
    made.boxes.write_text(f"{HEADER},XClick1X\n{made.lines[0]},0.5\n\n")
    assert read_openimages(made.boxes, made.images, **paths).name == "train-annotations-bbox"
    assert read_openimages(made.boxes, made.images, **paths, name="oi").name == "oi"


def field(name: str, value: str) -> Callable[[str], str]:
    """Replaces a field of a line."""

    def change(line: str) -> str:
        fields = line.split(",")
        fields[HEADER.split(",").index(name)] = value
        return ",".join(fields)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (field("XMin", "left"), "XMin must be a number within 0-1, got 'left'"),
        (field("YMax", ""), "YMax must be a number within 0-1, got ''"),
        (field("YMax", "nan"), "YMax must be a number within 0-1, got 'nan'"),
        (field("YMax", "1.00001"), "YMax must be a number within 0-1, got '1.00001'"),
        (field("XMin", "-0.1"), "XMin must be a number within 0-1, got '-0.1'"),
        (field("XMax", "0.05"), "XMax 0.05 is below XMin 0.1"),
        (field("YMin", "0.95"), "YMax 0.9 is below YMin 0.95"),
        (field("IsGroupOf", "2"), "IsGroupOf must be -1, 0 or 1, got '2'"),
        (field("IsDepiction", "-128"), "IsDepiction must be -1, 0 or 1, got '-128'"),
        (field("IsOccluded", "yes"), "IsOccluded must be -1, 0 or 1, got 'yes'"),
        (field("IsInside", "300"), "IsInside must be -1, 0 or 1, got '300'"),
        (field("LabelName", "/m/none"), "'/m/none' has no description among the classes"),
        (field("ImageID", "../a"), "ImageID must be the name of a picture, got '../a'"),
        (field("ImageID", ""), "ImageID must be the name of a picture, got ''"),
        (lambda line: line.rsplit(",", 2)[0], "it has 11 columns, the header 13"),
    ],
)
def test_a_wrong_line_is_named(change: Callable[[str], str], message: str, made: OpenImagesWriter) -> None:
    for key in ("a", "b", "c"):
        made.shown(key, "Dog")
    made.lines[1] = "\n" + change(made.lines[1])  # a blank line counts as one
    with pytest.raises(UserError) as error:
        made.read()
    assert str(error.value) == f"{made.boxes}, line 4: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " is empty: it holds no box"),
        ("\n\n", " is empty: it holds no box"),
        (HEADER + "\n", " is empty: it holds no box"),
        (
            HEADER.replace("XMin,", "").replace(",IsGroupOf", "") + "\na\n",
            ", line 1: the header lacks XMin, IsGroupOf",
        ),
        (HEADER + ",XMin\na\n", ", line 1: the header has twice XMin"),
    ],
)
def test_a_boxes_file_without_boxes_or_columns_is_named(
    text: str, message: str, made: OpenImagesWriter
) -> None:
    made.shown("a", "Dog")
    paths = made.write()
    made.boxes.write_text(text)
    with pytest.raises(UserError) as error:
        read_openimages(made.boxes, made.images, **paths)
    assert str(error.value) == f"{made.boxes}{message}"


def test_a_boxes_file_that_is_no_text_is_named(made: OpenImagesWriter) -> None:
    paths = made.write()
    made.boxes.write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    with pytest.raises(UserError, match="is not a CSV file in UTF-8"):
        read_openimages(made.boxes, made.images, **paths)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("classes", "", "is empty: it describes no class"),
        ("classes", "/m/dog,Dog\n/m/cat\n", "line 2: it must be LabelName,DisplayName"),
        ("classes", "/m/dog,Dog\n/m/dog,Cat\n", "line 2: /m/dog is 'Cat' here and 'Dog' before"),
        ("classes", "/m/dog,Dog\n/m/cat,Dog\n", "'Dog' describes both /m/cat and /m/dog"),
        ("classes", "/m/dog,Dog\n/m/cat,Cat\n", "/m/animal, above /m/cat, has no description"),
        ("hierarchy", "{", "is not JSON"),
        ("hierarchy", "[]", "is no hierarchy: []"),
        ("hierarchy", json.dumps({"LabelName": "/m/x", "Subcategory": [{}]}), "is no hierarchy: {}"),
        ("hierarchy", json.dumps({"LabelName": "/m/x", "Part": 1}), "is no hierarchy"),
    ],
)
def test_a_wrong_classes_or_hierarchy_file_is_named(
    key: str, text: str, message: str, made: OpenImagesWriter
) -> None:
    made.shown("a", "Dog", "Cat")
    paths = made.write()
    paths[key].write_text(text)
    with pytest.raises(UserError) as error:
        read_openimages(made.boxes, made.images, **paths)
    assert message in str(error.value)
    assert str(paths["hierarchy"] if "above" in message else paths[key]) in str(error.value)


@pytest.mark.parametrize("missing", ["boxes", "images", "classes", "hierarchy"])
def test_a_missing_file_or_folder_is_named(missing: str, made: OpenImagesWriter) -> None:
    made.shown("a", "Dog")
    arguments: dict[str, Any] = {"boxes": made.boxes, "images": made.images, **made.write()}
    arguments[missing] = made.folder / "nowhere"
    kind = "folder" if missing == "images" else "file"
    with pytest.raises(UserError, match=rf"nowhere: no such {kind}"):
        read_openimages(**arguments)


def test_a_folder_with_none_of_the_pictures_is_refused(made: OpenImagesWriter) -> None:
    made.box("away", "Dog")
    with pytest.raises(
        UserError, match=r"0 of 1 pictures of .* \(not away\.jpg\): give the folder with --images"
    ):
        made.read()
