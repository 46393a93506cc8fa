"""What a COCO file may hold that looks odd: each case by the rule that the docs state."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic_eval.records import UserError
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import Source, read_coco
from tests.makers.coco import LARGE, CocoWriter


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Source:
    """Three pictures of a dog (annotations 1 to 3), the JSON changed, read."""
    source = CocoWriter(folder)
    for _ in range(3):
        source.image([("dog", LARGE, 0)], write=False)
    change(source.data)
    made = source.write()
    return read_coco(made.annotations, made.images)


def dogs(pool: Pool) -> list[int]:
    """The dogs that can be counted in each picture."""
    counted: list[int] = pool.countable[:, pool.source.classes.index("dog")].tolist()
    return counted


@pytest.mark.parametrize("area", [float("nan"), -1, None, "large"])
def test_the_area_of_an_annotation_is_not_looked_at(area: object, tmp_path: Path) -> None:
    source = changed(tmp_path, lambda data: data["annotations"][1].update(area=area))
    assert dogs(make_pool(source)) == [1, 1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", range(4))
def test_a_box_that_is_not_finite_is_refused_by_its_annotation(
    place: int, value: float, tmp_path: Path
) -> None:
    def change(data: dict[str, Any]) -> None:
        data["annotations"][1]["bbox"][place] = value

    with pytest.raises(UserError, match="annotation 2: bbox must be four finite numbers"):
        changed(tmp_path, change)
    assert json.dumps(value) in (tmp_path / "instances_made.json").read_text()


def test_annotations_that_share_an_id_are_refused_by_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"instances_made\.json: annotation id 1 occurs twice"):
        changed(tmp_path, lambda data: data["annotations"][2].update(id=1))


def test_an_annotation_without_an_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a COCO instances file: a record lacks or misuses 'id'"):
        changed(tmp_path, lambda data: data["annotations"][2].pop("id"))


def test_categories_that_share_an_id_are_refused_by_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="category id 10 occurs twice"):
        changed(tmp_path, lambda data: data["categories"][1].update(id=10))


def test_a_file_without_categories_cannot_have_annotations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="annotation 1: category_id 10 is not among the categories"):
        changed(tmp_path, lambda data: data.update(categories=[]))
    bare = changed(tmp_path, lambda data: data.update(categories=[], annotations=[]))
    with pytest.raises(UserError, match="instances_made holds no annotated image"):
        make_pool(bare)


def test_a_category_without_annotations_is_a_class_of_no_picture(tmp_path: Path) -> None:
    pool = make_pool(changed(tmp_path, lambda data: None))
    assert not pool.present[:, pool.source.classes.index("cat")].any()


def test_a_picture_without_annotations_shows_nothing(tmp_path: Path) -> None:
    pool = make_pool(changed(tmp_path, lambda data: data["annotations"].pop()))
    assert dogs(pool) == [1, 1, 0]
    assert not pool.present[2].any()


@pytest.mark.parametrize(
    ("box", "kept", "counted"),
    [
        ([-10, -10, 50, 60], [0, 0, 40, 50], 1),  # a part is outside: the part inside counts
        ([95, 5, 50, 60], [95, 5, 5, 60], 0),  # what is inside is small
        ([200, 5, 30, 30], [100, 5, 0, 30], 0),  # wholly outside: nothing is left, and the class is hidden
        ([50, 5, -30, 30], [50, 5, 0, 30], 0),  # a negative width
    ],
)
def test_a_box_that_leaves_the_picture_is_clipped_counted_and_hides_what_is_too_small(
    box: list[int], kept: list[int], counted: int, tmp_path: Path
) -> None:
    source = changed(tmp_path, lambda data: data["annotations"][1].update(bbox=box))
    np.testing.assert_array_equal(source.boxes[1], kept)
    assert dict(source.notes) == {"boxes clipped to the picture": 1}
    pool = make_pool(source)
    assert dogs(pool) == [1, counted, 1]
    assert pool.present[1, source.classes.index("dog")]


def test_a_box_to_be_ignored_is_like_a_crowd_region(tmp_path: Path) -> None:
    """VisDrone and CrowdHuman mark such boxes; they were counted."""
    source = changed(tmp_path, lambda data: data["annotations"][1].update(ignore=1))
    assert source.crowd.tolist() == [False, True, False]
    pool = make_pool(source)
    assert dogs(pool) == [1, 0, 1]
    assert pool.present[1, source.classes.index("dog")]


@pytest.mark.parametrize("value", [0, False, None])
def test_a_box_not_to_be_ignored_counts(value: object, tmp_path: Path) -> None:
    source = changed(tmp_path, lambda data: data["annotations"][1].update(ignore=value))
    assert dogs(make_pool(source)) == [1, 1, 1]


def test_ignore_is_0_or_1(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="annotation 2: ignore must be 0 or 1, got 'yes'"):
        changed(tmp_path, lambda data: data["annotations"][1].update(ignore="yes"))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """As Windows programs write it."""
    source = changed(tmp_path, lambda data: None)
    file = tmp_path / "instances_made.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_coco(file, tmp_path).classes == source.classes
