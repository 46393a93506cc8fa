"""OpenImages boxes as a source: what a box may and may not become, and each refusal by its message."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from openimages_maker import HEADER, MIDS, TREE, OpenImagesWriter, node

from mimic_eval.records import TASK_KINDS, UserError
from mimic_tasks.image_store import ImageStore
from mimic_tasks.planning import Controls, plan_task
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import Source, read_openimages


@pytest.fixture
def made(tmp_path: Path) -> OpenImagesWriter:
    return OpenImagesWriter(tmp_path, [])


def rows(source: Source) -> Counter[tuple[int | str, str, bool]]:
    """(image id, class, crowd) of each annotation."""
    return Counter(
        (source.images[i].image_id, source.classes[c], bool(crowd))
        for i, c, crowd in zip(source.image_index, source.class_index, source.crowd, strict=True)
    )


def cell(pool: Pool, image_id: str, name: str) -> tuple[int, bool]:
    """How many instances of the class can be counted in the image, and whether it is annotated at all."""
    ids = [image.image_id for image in pool.source.images]
    at = ids.index(image_id), pool.source.classes.index(name)
    return int(pool.countable[at]), bool(pool.present[at])


def test_boxes_become_pixels_of_their_picture_clipped_to_it(made: OpenImagesWriter) -> None:
    made.picture("a", size=(200, 100))
    made.box("a", "Toy", corners=(0.25, 0.75, 0.5, 1.0))
    made.box("a", "Toy", corners=(-5e-7, 1.0000005, 0, 0.5))
    source = made.read()
    np.testing.assert_array_equal(source.boxes, [[50, 50, 100, 50], [0, 0, 200, 50]])
    assert dict(source.notes) == {"boxes clipped to the picture": 1}
    (record,) = source.images
    assert (record.image_id, record.path.name, record.width, record.height) == ("a", "a.jpg", 200, 100)


def test_only_pictures_with_boxes_are_images_in_the_order_of_their_ids(made: OpenImagesWriter) -> None:
    for key in ("c", "a", "b"):
        made.picture(key)
    made.box("c", "Toy")
    made.box("a", "Coin")
    source = made.read()
    assert [image.image_id for image in source.images] == ["a", "c"]
    assert rows(source) == {("c", "Toy", False): 1, ("a", "Coin", False): 1}


def test_missing_and_unreadable_pictures_leave_with_their_boxes_and_are_counted(
    made: OpenImagesWriter,
) -> None:
    made.shown("good", "Toy")
    made.images.joinpath("text.jpg").write_text("no picture")
    made.images.joinpath("cut.jpg").write_bytes(made.images.joinpath("good.jpg").read_bytes()[:20])
    for key in ("text", "cut", "away"):
        made.box(key, "Coin")
        made.box(key, "Toy")
    source = made.read()
    assert rows(source) == {("good", "Toy", False): 1}
    assert dict(source.notes) == {
        "pictures missing or unreadable": 3,
        "boxes of pictures missing or unreadable": 6,
    }


def test_only_the_header_of_a_picture_is_read(made: OpenImagesWriter) -> None:
    made.shown("a", "Toy")
    file = made.images / "a.jpg"
    file.write_bytes(file.read_bytes()[:-40])  # decoding would fail; the build drops it with its reason
    assert (made.read().images[0].width, made.read().images[0].height) == (200, 100)


def test_a_given_size_needs_no_picture(made: OpenImagesWriter) -> None:
    made.box("away", "Toy", corners=(0, 0.5, 0, 0.5))
    source = made.read(image_sizes={"away": (640, 480)})
    np.testing.assert_array_equal(source.boxes, [[0, 0, 320, 240]])


@pytest.mark.parametrize("flag", [1, -1])
@pytest.mark.parametrize("kind", ["group", "depiction"])
def test_a_group_of_or_depiction_box_hides_its_class_known_or_unknown(
    kind: str, flag: int, made: OpenImagesWriter
) -> None:
    made.shown("a", "Toy", "Coin")
    made.box("a", "Toy", **{kind: flag})  # type: ignore[arg-type]
    made.shown("b", "Toy")
    source = made.read()
    pool = make_pool(source)
    assert cell(pool, "a", "Toy") == (0, True)
    assert cell(pool, "a", "Coin") == (1, True)
    assert cell(pool, "b", "Toy") == (1, True)
    name = "group-of" if kind == "group" else "depiction"
    assert dict(source.notes) == {f"{name} boxes taken as crowds": 1}


def test_the_confidence_changes_nothing(made: OpenImagesWriter) -> None:
    made.picture("a")
    for confidence in ("1", "0.4", "0"):
        made.box("a", "Toy", confidence=confidence)
    assert cell(make_pool(made.read()), "a", "Toy") == (3, True)


def test_an_ancestors_box_hides_every_descendant_in_its_image(made: OpenImagesWriter) -> None:
    made.shown("parent", "Animal", "Car")
    made.shown("dog", "Dog")
    made.shown("horse", "Horse")
    pool = make_pool(made.read())
    for name in ("Dog", "Horse"):
        assert cell(pool, "parent", name) == (0, True)
    assert cell(pool, "parent", "Animal") == (1, True)
    assert cell(pool, "parent", "Car") == (1, True)
    assert cell(pool, "dog", "Dog") == (1, True)
    assert cell(pool, "dog", "Horse") == (0, False)


def test_a_descendants_box_hides_every_ancestor_in_its_image(made: OpenImagesWriter) -> None:
    made.shown("dog", "Dog")
    made.shown("both", "Animal", "Dog")
    made.shown("kin", "Carnivore")
    pool = make_pool(made.read())
    for name in ("Animal", "Carnivore"):
        assert cell(pool, "dog", name) == (0, True)
    assert cell(pool, "both", "Animal") == (0, True)
    assert cell(pool, "both", "Dog") == (0, True)
    assert cell(pool, "kin", "Carnivore") == (1, True)


def test_each_box_gives_one_crowd_with_its_box_to_each_relative_that_occurs(made: OpenImagesWriter) -> None:
    made.picture("a")
    made.box("a", "Carnivore", corners=(0, 0.5, 0, 0.5))
    made.box("a", "Dog", corners=(0.5, 1, 0.5, 1))
    made.shown("b", "Cat")
    source = made.read()
    assert rows(source) == {
        ("a", "Carnivore", False): 1,
        ("a", "Dog", False): 1,
        ("b", "Cat", False): 1,
        ("a", "Dog", True): 1,
        ("a", "Cat", True): 1,
        ("a", "Carnivore", True): 1,
        ("b", "Carnivore", True): 1,
    }  # Animal occurs nowhere, so it is no class
    added = {
        (source.classes[c], *box.tolist())
        for c, box, i in zip(source.class_index[3:], source.boxes[3:], source.image_index[3:], strict=True)
        if source.images[i].image_id == "a"
    }
    assert added == {
        ("Dog", 0, 0, 100, 50),
        ("Cat", 0, 0, 100, 50),
        ("Carnivore", 100, 50, 100, 50),
    }
    assert dict(source.notes) == {"crowds added for ancestors and descendants of a box's class": 4}


def test_the_added_crowds_are_those_of_the_rule_written_out(made: OpenImagesWriter) -> None:
    rng = Random(3)
    kinds = {
        "Animal": {"Carnivore", "Dog", "Cat", "Horse"},
        "Carnivore": {"Dog", "Cat"},
        "Vehicle": {"Car", "Bus"},
    }
    boxes = [(f"p{rng.randrange(9)}", rng.choice(sorted(MIDS))) for _ in range(80)]
    for key in sorted({key for key, _ in boxes}):
        made.picture(key)
    for key, name in boxes:
        made.box(key, name)
    expected = Counter((key, name, False) for key, name in boxes)
    for key, name in boxes:
        for other in {name for _, name in boxes}:
            if other in kinds.get(name, ()) or name in kinds.get(other, ()):
                expected[key, other, True] += 1
    assert rows(made.read()) == expected


def test_an_ancestor_that_occurs_keeps_its_descendants_out_of_common(made: OpenImagesWriter) -> None:
    for key in "abcd":
        made.shown(key, "Dog")
        made.shown(key * 2, "Toy")
    made.shown("e", "Animal")
    source = made.read()
    plan = plan_task("common", make_pool(source), Controls(narrowed=True), docs=9, seed=0)
    assert {doc.gt for doc in plan.docs} == {"Toy"}


def test_a_class_in_two_places_is_hidden_by_the_ancestors_of_both(made: OpenImagesWriter) -> None:
    tree = node("/m/0bl9f", {"Animal": {"Horse": {}}, "Toy": {"Horse": {}, "Dog": {}}})
    made.shown("animal", "Animal")
    made.shown("toy", "Toy")
    made.shown("horse", "Horse")
    source = made.read(tree=tree)
    pool = make_pool(source)
    assert cell(pool, "animal", "Horse") == cell(pool, "toy", "Horse") == (0, True)
    assert source.categories[source.classes.index("Horse")] == "Animal"  # the first of two equal paths


def test_a_part_hides_no_whole_and_has_its_category(made: OpenImagesWriter) -> None:
    tree = node("/m/0bl9f", TREE["Entity"])
    tree["Subcategory"][1]["Subcategory"][0]["Part"] = [{"LabelName": MIDS["Wheel"]}]
    made.shown("car", "Car", "Wheel")
    source = made.read(tree=tree)
    assert not source.crowd.any()
    assert dict(zip(source.classes, source.categories, strict=True)) == {"Car": "Vehicle", "Wheel": "Vehicle"}


def test_the_category_is_the_ancestor_below_the_root_and_empty_there_and_outside(
    made: OpenImagesWriter,
) -> None:
    made.shown("a", "Dog", "Animal", "Car", "Toy", "Carnivore")
    source = made.read()
    assert dict(zip(source.classes, source.categories, strict=True)) == {
        "Dog": "Animal", "Animal": "", "Car": "Vehicle", "Toy": "", "Carnivore": "Animal",
    }  # fmt: skip


def test_without_a_hierarchy_there_are_no_categories_and_no_added_crowds(made: OpenImagesWriter) -> None:
    made.shown("a", "Dog", "Animal")
    source = made.read(hierarchy=None)
    assert set(source.categories) == {""}
    assert not source.crowd.any()
    assert [name for name, _ in source.files] == ["train-annotations-bbox.csv", "classes.csv"]


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


def drawn(made: OpenImagesWriter) -> Source:
    """90 pictures, every fifth with a group-of or depiction box, every ninth with a parent's box."""
    rng = Random(1)
    themes = [("Dog", "Cat"), ("Car", "Bus", "Toy"), ("Coin", "Toy"), ("Horse", "Coin")]
    for i in range(90):
        key = f"{i:016x}"
        made.picture(key)
        theme = themes[i % len(themes)]
        shown = rng.sample(theme, rng.randint(1, len(theme)))
        for name in shown:
            for _ in range(rng.randint(1, 3)):
                made.box(key, name)
        if i % 5 == 4:
            made.box(key, rng.choice(theme), group=i % 2, depiction=1 - i % 2)
        if i % 9 == 8:
            made.box(key, rng.choice(["Carnivore", "Vehicle"]))
    return made.read()


def hidden(made: OpenImagesWriter) -> set[tuple[str, str]]:
    """(image id, class) that a group-of, depiction or parent's box hides, from the lines themselves."""
    names = {mid: name for name, mid in MIDS.items()}
    below = {"Carnivore": ("Dog", "Cat"), "Vehicle": ("Car", "Bus")}
    found = set()
    for line in made.lines:
        fields = line.split(",")
        name = names[fields[2]]
        found |= {(fields[0], child) for child in below.get(name, ())}
        found |= {(fields[0], parent) for parent, children in below.items() if name in children}
        if "1" in fields[10:12]:
            found.add((fields[0], name))
    return found


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_a_hidden_class_is_neither_target_nor_distractor_in_any_doc(
    kind: str, made: OpenImagesWriter
) -> None:
    source = drawn(made)
    pool = make_pool(source)
    never = hidden(made)
    assert len(never) > 25
    plan = plan_task(kind, pool, Controls(narrowed=True), docs=60, seed=0)
    assert plan.docs
    for doc in plan.docs:
        asked = {source.classes[c] for c in doc.targets}
        shown = {(source.images[i].image_id, name) for i in doc.images for name in asked}
        assert not shown & never
    store = ImageStore(pool, progress=False)
    store.check({image for doc in plan.docs for image in doc.images})
    assert not {r for r in store.dropped.values() if "same bytes" not in r}  # sizes and files are right


def test_the_same_files_give_the_same_source(made: OpenImagesWriter) -> None:
    first = drawn(made)
    second = read_openimages(made.boxes, made.images, **made.write())
    assert first.images == second.images
    assert first.files == second.files
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.class_index, second.class_index)


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
    with pytest.raises(UserError, match=r"holds no readable picture <ImageID>\.jpg of"):
        made.read()
