"""One thing is there once: spellings and words of a class, kinds of classes, boxes annotated twice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic_eval.records import UserError
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.planning import Controls, Range, plan_task
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import Source, merge, read_coco
from mimic_tasks.sources.merging import REPEATED
from mimic_tasks.sources.names import same_spelling, synonyms
from tests.makers.coco import LARGE, CocoWriter, MadeCoco
from tests.makers.openimages import OpenImagesWriter

DOG, CAT = 10, 11  # CocoWriter's category ids


def read(made: MadeCoco) -> Source:
    return read_coco(made.annotations, made.images)


def with_names(folder: Path, *shown: tuple[str, ...], categories: tuple[str, ...] = ()) -> Source:
    """A picture for each tuple of class names, each with one large object of each."""
    names = list(dict.fromkeys(name for picture in shown for name in picture))
    groups = categories or ("",) * len(names)
    source = CocoWriter(folder)
    for picture in shown:
        source.image([("dog", LARGE, 0)] * len(picture), write=False)
    wanted = iter(name for picture in shown for name in picture)
    for row in source.data["annotations"]:
        row["category_id"] = 1 + names.index(next(wanted))
    source.data["categories"] = [
        {"id": 1 + i, "name": name, "supercategory": group}
        for i, (name, group) in enumerate(zip(names, groups, strict=True))
    ]
    return read(source.write())


def counts(pool: Pool, name: str) -> list[int]:
    column: list[int] = pool.countable[:, pool.source.classes.index(name)].tolist()
    return column


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dog", "Dog"),
        ("dogs", "dog"),
        ("DOG", "dogs"),
        ("traffic_light", "traffic light"),
        ("hot-dog", "Hot Dog"),
        ("knife", "Knives"),
        ("person", "people"),
        ("person", "Persons"),
        ("bus", "Buses"),
        ("teddybear", "teddy bear"),
        ("café", "cafe\u0301"),
    ],
)
def test_spellings_of_a_name_are_one_class_called_as_the_first(one: str, other: str, tmp_path: Path) -> None:
    """They were two classes: pictures of both were distractors for either, and counted half."""
    pool = make_pool(merge([with_names(tmp_path, (one,), (other,), (one, other))]))
    assert pool.source.classes == (one,)
    assert counts(pool, one) == [1, 1, 2]
    assert pool.source.aliases == {other: one}
    asked = make_pool(merge([with_names(tmp_path, (one,), (other,))]), classes=[other])
    assert asked.askable.tolist() == [True]


@pytest.mark.parametrize(
    "names",
    [
        ("glass", "glasses"),
        ("A+", "A-"),
        ("X", "XS"),
        ("cat", "cattle"),
        ("car", "carrot"),
        ("dog", "hot dog"),
    ],
)
def test_other_names_stay_apart(names: tuple[str, str]) -> None:
    assert same_spelling(names) == [0, 1]
    assert synonyms(names) == {}


def test_a_narrower_word_is_no_other_word_for_the_class() -> None:
    assert synonyms(["dog", "puppy", "person", "Man", "couch", "Sofa", "sofa bed"]) == {
        "couch": ["couch", "Sofa"]
    }


def test_words_for_one_class_in_two_files_are_one_class(tmp_path: Path) -> None:
    first = with_names(tmp_path / "1", ("couch",), ("cat",))
    second = with_names(tmp_path / "2", ("sofa", "sofa"), ("cat",))
    pool = make_pool(merge([first, second]))
    assert pool.source.classes == ("couch", "cat")
    assert counts(pool, "couch") == [1, 0, 2, 0]


def test_words_for_one_class_that_one_file_tells_apart_hide_each_other(tmp_path: Path) -> None:
    """A picture with a sofa was a distractor for `couch`: a person counts it."""
    pool = make_pool(merge([with_names(tmp_path, ("sofa",), ("couch",), ("sofa", "couch"), ("cat",))]))
    assert set(pool.source.classes) == {"sofa", "couch", "cat"}
    assert counts(pool, "sofa") == [1, 0, 0, 0]
    assert counts(pool, "couch") == [0, 1, 0, 0]
    present = pool.present[:, pool.source.classes.index("couch")].tolist()
    assert present == [True, True, True, False]
    controls = Controls(n_images=Range(3, 3), narrowed=True)
    for kind in ("counting", "common", "oddone"):
        for doc in plan_task(kind, pool, controls, docs=20, seed=0).docs:
            assert len({pool.source.classes[c] for c in doc.targets} & {"sofa", "couch"}) < 2
            if doc.targets[0] != pool.source.classes.index("cat"):
                assert {0, 1} & set(doc.images) != {0, 1}


def test_a_coco_and_an_openimages_file_share_their_classes_and_categories(tmp_path: Path) -> None:
    made = OpenImagesWriter(tmp_path / "oi", [])
    made.shown("a", "Dog")
    made.box("a", "Dog", corners=(0.55, 0.9, 0.1, 0.9))
    made.shown("b", "Horse")
    coco = CocoWriter(tmp_path / "coco")
    coco.image([("dog", LARGE, 0)], write=False)
    pool = make_pool(merge([read(coco.write()), made.read()]))
    assert counts(pool, "dog") == [1, 2, 0]
    assert "Dog" not in pool.source.classes
    assert {pool.source.classes[c] for c in pool.category_members["animal"]} == {"dog", "cat", "horse"}
    assert "Animal" not in pool.category_members


def test_spellings_with_different_super_categories_are_refused_in_one_line(tmp_path: Path) -> None:
    source = with_names(tmp_path, ("dog",), ("Dog",), categories=("animal", "food"))
    with pytest.raises(
        UserError, match="'dog' and 'Dog' are one class, but one is a 'animal' and the other a"
    ):
        merge([source])


def boxes_of(folder: Path, *boxes: tuple[str, tuple[float, ...], int]) -> Source:
    """One picture, 100 x 100, with these (class, box, iscrowd)."""
    source = CocoWriter(folder)
    source.image([(name, LARGE, crowd) for name, _, crowd in boxes], write=False)
    for row, (_, box, _) in zip(source.data["annotations"], boxes, strict=True):
        row["bbox"] = list(box)
    return merge([read(source.write())])


@pytest.mark.parametrize(
    ("second", "objects"),
    [
        ((10, 10, 50, 50), 1),
        ((11, 10, 50, 50), 1),  # IoU 0.961
        ((10, 10, 50, 45), 1),  # exactly 0.9
        ((10, 10, 50, 44), 2),
        ((13, 10, 50, 50), 2),  # 0.887
        ((60, 10, 30, 50), 2),
    ],
)
def test_a_box_annotated_twice_is_one_object(second: tuple[float, ...], objects: int, tmp_path: Path) -> None:
    """The same box under two ids counted twice."""
    source = boxes_of(tmp_path, ("dog", (10, 10, 50, 50), 0), ("dog", second, 0))
    assert counts(make_pool(source), "dog") == [objects]
    assert dict(source.notes).get(REPEATED, 0) == 2 - objects


def test_boxes_of_two_classes_or_pictures_are_two_objects(tmp_path: Path) -> None:
    source = boxes_of(tmp_path, ("dog", (10, 10, 50, 50), 0), ("cat", (10, 10, 50, 50), 0))
    assert not source.notes
    writer = CocoWriter(tmp_path / "two")
    writer.image([("dog", LARGE, 0)], write=False)
    writer.image([("dog", LARGE, 0)], write=False)
    assert counts(make_pool(merge([read(writer.write())])), "dog") == [1, 1]


def test_a_crowd_over_the_same_place_hides_the_object(tmp_path: Path) -> None:
    source = boxes_of(tmp_path, ("dog", (10, 10, 50, 50), 0), ("dog", (10, 10, 50, 50), 1))
    assert source.crowd.tolist() == [True]
    assert counts(make_pool(source), "dog") == [0]


def test_repeats_are_those_of_a_plain_search(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = [
        (str(rng.choice(["dog", "cat"])), (5.0 + rng.integers(4), 5.0 + rng.integers(4), 60.0, 60.0), 0)
        for _ in range(40)
    ]
    kept: list[tuple[str, tuple[float, ...]]] = []
    for name, (x, y, w, h), _ in boxes:
        shared = [(w - abs(x - b[0])) * (h - abs(y - b[1])) for other, b in kept if other == name]
        if not any(area / (2 * w * h - area) >= 0.9 for area in shared):
            kept.append((name, (x, y, w, h)))
    source = boxes_of(tmp_path, *boxes)
    found = [source.classes[c] for c in source.class_index]
    assert list(zip(found, map(tuple, source.boxes.tolist()), strict=True)) == kept


def roboflow(folder: Path, change: Any = None) -> Source:
    """A root category without annotations, super-category of all others, as Roboflow exports it."""
    source = CocoWriter(folder)
    for i in range(12):
        source.image([("dog" if i % 2 else "cat", LARGE, 0)] * (1 + i % 3), write=False)
    source.data["categories"] = [
        {"id": 0, "name": "farm-animals", "supercategory": "none"},
        {"id": DOG, "name": "dog", "supercategory": "farm-animals"},
        {"id": CAT, "name": "cat", "supercategory": "farm-animals"},
    ]
    if change:
        change(source.data)
    return merge([read(source.write())])


def docs(source: Source, kind: str, k: int = 1) -> list[Any]:
    controls = Controls(n_images=Range(2, 4), k=k, total=Range(2, 8), narrowed=True)
    planned = plan_task(kind, make_pool(source), controls, docs=10, seed=0).docs
    names = source.classes
    return [(d.images, [names[c] for c in d.targets], d.gt, d.category) for d in planned]


@pytest.mark.parametrize(("kind", "k"), [("listing", 1), ("counting", 1), ("counting", 2), ("common", 1)])
def test_a_root_without_annotations_changes_no_doc(kind: str, k: int, tmp_path: Path) -> None:
    """Listing had no category: it was called like a class."""
    with_root = docs(roboflow(tmp_path / "1"), kind, k)
    without = docs(roboflow(tmp_path / "2", lambda data: data["categories"].pop(0)), kind, k)
    assert with_root == without
    assert with_root


def test_a_root_with_the_name_of_its_only_class_is_that_class(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["categories"] = [
            {"id": 0, "name": "dog", "supercategory": "none"},
            {"id": DOG, "name": "dog", "supercategory": "dog"},
            {"id": CAT, "name": "cat", "supercategory": None},
        ]

    source = roboflow(tmp_path, change)
    assert (source.classes, source.categories) == (("dog", "cat"), ("dog", ""))


def test_a_root_with_boxes_is_what_the_others_are_kinds_of(tmp_path: Path) -> None:
    """`How many farm-animals?` was the number of boxes called so, dogs in the same picture left out."""

    def change(data: dict[str, Any]) -> None:
        data["annotations"][0]["category_id"] = 0

    pool = make_pool(roboflow(tmp_path, change))
    assert counts(pool, "farm-animals") == [1] + [0] * 11
    assert counts(pool, "cat")[0] == 0
    assert pool.present[:, pool.source.classes.index("farm-animals")].all()
    assert {pool.source.classes[c] for c in pool.category_members["farm-animals"]} == {"dog", "cat"}


def test_a_class_above_others_may_be_missing_from_the_pictures(tmp_path: Path) -> None:
    """person, without a box, is a kind of Dog, and dog of person: the build ended with KeyError 'person'."""
    source = with_names(tmp_path, ("dog",), ("cat",), categories=("person", "person"))
    odd = replace(source, ancestors={**source.ancestors, "person": frozenset({"dog"})})
    assert not make_pool(odd).ancestors.any()


@pytest.mark.parametrize("nothing", ["", None, "none", "None", "missing"])
def test_a_class_without_a_super_category_has_none(nothing: str | None, tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        for row in data["categories"]:
            row["supercategory"] = nothing
            if nothing == "missing":
                del row["supercategory"]

    source = roboflow(tmp_path, change)
    assert set(source.categories) == {""}
    plan = plan_task("listing", make_pool(source), Controls(), docs=5, seed=0)
    assert "no class of the data has a super-category, which Listing needs" in str(plan.shortage)


@pytest.mark.parametrize(
    ("ids", "read_as"),
    [
        ([7, 9000, 2**40], [7, 9000, 2**40]),
        (["7", "9000", "11"], [7, 9000, 11]),
        ([7.0, 8.0, 9.0], [7, 8, 9]),
        (["a", "7", "0007"], ["a", "7", "0007"]),
    ],
)
def test_ids_have_gaps_and_may_be_texts(ids: list[Any], read_as: list[Any], tmp_path: Path) -> None:
    source = CocoWriter(tmp_path)
    for _ in ids:
        source.image([("dog", LARGE, 0)], write=False)
    for image, row, new in zip(source.data["images"], source.data["annotations"], ids, strict=True):
        image["id"], row["image_id"], row["category_id"] = new, new, str(row["category_id"])
    found = read(source.write())
    assert [image.image_id for image in found.images] == read_as
    assert found.image_index.tolist() == [0, 1, 2]


def test_names_of_other_data_sets_build_and_are_read_back(tmp_path: Path) -> None:
    """Exit 2 for `Kitchen & dining room table` and other classes of OpenImages, Objects365 and LVIS."""
    names = [
        "Kitchen & dining room table", "Cabinet/shelf", "Bat (Animal)", "Hot/cold drink",
        "monitor_(computer_equipment) computer_monitor", "Chair", "flag", "Human hand",
    ]  # fmt: skip
    source = CocoWriter(tmp_path)
    for i in range(48):
        source.image([("dog", LARGE, 0)] * (1 + i % 3))
    for row in source.data["annotations"]:
        row["category_id"] = 1 + row["image_id"] % len(names)
    source.data["categories"] = [
        {"id": 1 + i, "name": name, "supercategory": "things at home"} for i, name in enumerate(names)
    ]
    made = source.write()
    options = BuildOptions(
        annotations=(made.annotations,), images=(made.images,), out=tmp_path / "out", docs=30,
        tasks=("counting", "listing", "common"), profile="all",
        controls=Controls(n_images=Range(1, 3), narrowed=True),
    )  # fmt: skip
    build(options, progress=False)  # refuses a doc whose right answer would not score 1
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert set(manifest["tasks"]["common"]["answers"]) == set(names)


def test_a_picture_does_not_lack_a_class_that_its_file_does_not_have(tmp_path: Path) -> None:
    """Before, the second file's pictures were distractors for zebra: its annotators never looked for one."""
    one = with_names(tmp_path / "1", ("dog",), ("zebra",), ("dog", "zebra"))
    other = with_names(tmp_path / "2", ("dog",), ("cat", "dog"))
    source = merge([one, other])
    pool = make_pool(source)
    zebra, dog, cat = (source.classes.index(name) for name in ("zebra", "dog", "cat"))
    assert pool.present[:, zebra].tolist() == [False, True, True, True, True]
    assert pool.sure[:, zebra].tolist() == [False, True, True, False, False]
    assert pool.present[:, cat].tolist() == [True, True, True, False, True]
    assert pool.present[:, dog].tolist() == pool.sure[:, dog].tolist() == [True, False, True, True, True]
    assert pool.countable[:, zebra].tolist() == [0, 1, 1, 0, 0]
    for part in range(3):
        assert pool.thresholds.present[3:, part * len(source.classes) + zebra].all()
    (line,) = [line for line in source.warnings if "not in every annotation file" in line]
    assert line.startswith("2 of 3 classes are not in every annotation file ('cat', 'zebra'...)")


def test_files_with_the_same_classes_are_as_one(tmp_path: Path) -> None:
    one = with_names(tmp_path / "1", ("dog",), ("cat",))
    other = with_names(tmp_path / "2", ("Dogs", "cat"))
    source = merge([one, other])
    pool = make_pool(source)
    assert np.array_equal(pool.present, pool.boxed)
    assert not any("every annotation file" in line for line in source.warnings)
