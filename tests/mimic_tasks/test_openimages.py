"""OpenImages boxes as a source: what a box may and may not become, and each refusal by its message."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from mimic_eval.records import TASK_KINDS
from mimic_tasks.image_store import ImageStore
from mimic_tasks.planning import Controls, Range, plan_task
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import Source, merge, read_openimages
from mimic_tasks.verify import verify_doc
from tests.makers.openimages import MIDS, TREE, OpenImagesWriter, node


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


def test_the_annotations_are_the_files_boxes_and_no_more(made: OpenImagesWriter) -> None:
    made.shown("a", "Carnivore", "Dog")
    made.shown("b", "Cat")
    source = made.read()
    assert rows(source) == {
        ("a", "Carnivore", False): 1,
        ("a", "Dog", False): 1,
        ("b", "Cat", False): 1,
    }
    assert not source.notes
    pool = make_pool(source)
    carnivore = source.classes.index("Carnivore")
    assert [box["class"] for box in pool.boxes(1, frozenset([carnivore]))] == ["Cat"]
    assert source.ancestors == {
        "Dog": {"Carnivore", "Animal"},
        "Cat": {"Carnivore", "Animal"},
        "Carnivore": {"Animal"},
    }  # Animal has no box here, but may in another source


def test_what_is_sure_and_what_may_be_are_those_of_the_rule_written_out(made: OpenImagesWriter) -> None:
    rng = Random(3)
    kinds = {
        "Animal": {"Carnivore", "Dog", "Cat", "Horse"},
        "Carnivore": {"Dog", "Cat"},
        "Vehicle": {"Car", "Bus"},
    }
    shown = {f"p{i}": set(rng.sample(sorted(MIDS), rng.randint(1, 4))) for i in range(20)}
    for key, names in shown.items():
        made.shown(key, *sorted(names))
    source = made.read()
    pool = make_pool(source)
    for i, image in enumerate(source.images):
        names = shown[str(image.image_id)]
        implied = {name for name, below in kinds.items() if below & names}
        possible = {child for name in names for child in kinds.get(name, ())}

        def those(row: np.ndarray) -> set[str]:
            return {source.classes[c] for c in np.flatnonzero(row)}

        assert those(pool.boxed[i]) == names
        assert those(pool.sure[i]) == names | implied
        assert those(pool.present[i]) == (names | implied | possible) & set(source.classes)
        assert those(pool.countable[i]) == names - implied - possible


def targets(pool: Pool, kind: str) -> set[str]:
    """Each right answer of 30 docs, which must be right by their stored boxes too."""
    plan = plan_task(kind, pool, Controls(narrowed=True), docs=30, seed=0)
    for doc in plan.docs:
        names = [pool.source.classes[c] for c in doc.targets]
        n = len(doc.images)
        columns = {
            "id": "made", "gt": doc.gt, "targets": names, "n_images": n, "k": len(names),
            "image_ids": [pool.source.images[i].image_id for i in doc.images], "spread": doc.spread,
            "distractors": n - doc.spread, "boxes": [pool.boxes(i, frozenset()) for i in doc.images],
        }  # fmt: skip
        verify_doc(kind, columns)
    return {doc.gt for doc in plan.docs}


def test_dog_is_an_answer_in_common_though_animal_has_boxes_elsewhere(made: OpenImagesWriter) -> None:
    for key in "abcd":
        made.shown(key, "Dog")
        made.shown(key * 2, "Toy")
    made.shown("e", "Animal", "Dog")
    pool = make_pool(made.read())
    assert targets(pool, "common") == {"Dog", "Toy"}
    assert cell(pool, "e", "Dog") == cell(pool, "e", "Animal") == (0, True)


def test_a_class_that_may_be_in_every_image_makes_common_ambiguous(made: OpenImagesWriter) -> None:
    for key in "abcd":
        made.shown(key, "Carnivore", "Toy")  # perhaps a dog in each
    made.shown("e", "Dog")
    assert targets(make_pool(made.read()), "common") == set()


def test_a_class_that_is_surely_in_every_image_makes_common_ambiguous(made: OpenImagesWriter) -> None:
    for key in "abcd":
        made.shown(key, "Toy", "Dog" if key in "ab" else "Cat")
    made.shown("e", "Carnivore")
    common = plan_task("common", make_pool(made.read()), Controls(n_images=Range(3, 4)), docs=9, seed=0)
    assert not common.docs  # Toy and Carnivore are in all of them


def test_dog_is_the_odd_one_though_animal_is_in_a_minority_too(made: OpenImagesWriter) -> None:
    for key in "abcdef":
        made.shown(key, "Toy")
    made.shown("dog", "Toy", "Dog")
    made.shown("parent", "Animal")
    assert targets(make_pool(made.read()), "oddone") == {"Dog"}


def test_a_class_that_may_be_in_a_minority_makes_oddone_ambiguous(made: OpenImagesWriter) -> None:
    for key in "abc":
        made.shown(key, "Toy", "Carnivore")  # a cat in one of them, perhaps
    made.shown("odd", "Toy", "Carnivore", "Coin")
    before = targets(make_pool(made.read()), "oddone")
    made.shown("cat", "Cat")
    assert (before, targets(make_pool(made.read()), "oddone")) == ({"Coin"}, set())


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_is_unique_among_all_that_may_be_there_but_what_it_is_a_kind_of(
    seed: int, made: OpenImagesWriter
) -> None:
    rng = Random(seed)
    above = {"Dog": {"Animal", "Carnivore"}, "Cat": {"Animal", "Carnivore"}, "Carnivore": {"Animal"}}
    shares = {"Animal": 0.1, "Carnivore": 0.1, "Dog": 0.4, "Cat": 0.4, "Toy": 0.5, "Coin": 0.3}
    shown = {f"p{i}": [name for name in shares if rng.random() < shares[name]] for i in range(40)}
    for key, names in shown.items():
        for name in names:
            made.box(key, name)
    pool = make_pool(made.read(image_sizes=dict.fromkeys(shown, (200, 100))))
    for kind in ("common", "oddone"):
        assert len(targets(pool, kind)) >= 3
        for doc in plan_task(kind, pool, Controls(narrowed=True), docs=30, seed=0).docs:
            images = [shown[str(pool.source.images[i].image_id)] for i in doc.images]
            for name in set(shares) - {doc.gt} - above.get(doc.gt, set()):
                sure = sum(name in names or any(name in above.get(n, ()) for n in names) for names in images)
                may = sum(name in names or bool(above.get(name, set()) & set(names)) for names in images)
                if kind == "common":
                    assert max(sure, may) < len(images)
                else:
                    assert sure + may == 0 or 2 * sure > len(images)


def test_the_category_of_a_class_with_boxes_is_listed_without_that_class(made: OpenImagesWriter) -> None:
    made.shown("a", "Dog")
    made.shown("b", "Horse", "Toy")
    made.shown("c", "Cat", "Dog")
    made.shown("parent", "Animal", "Dog")
    made.shown("kin", "Carnivore")
    made.shown("toy", "Toy")
    source = made.read()
    pool = make_pool(source)
    assert {name: {source.classes[c] for c in cs} for name, cs in pool.category_members.items()} == {
        "Animal": {"Dog", "Cat", "Horse", "Carnivore"}
    }
    controls = Controls(n_images=Range(1, 3), narrowed=True)
    plan = plan_task("listing", pool, controls, docs=200, seed=0)
    used = {source.images[i].image_id for doc in plan.docs for i in doc.images}
    assert used == {"a", "b", "c", "toy"}
    assert {doc.gt for doc in plan.docs} == {
        "Dog", "Horse", "Cat, Dog", "Dog, Horse", "Cat, Dog, Horse",
    }  # fmt: skip


def test_a_member_that_a_class_of_another_category_implies_is_not_passed_over(
    made: OpenImagesWriter,
) -> None:
    tree = node(
        "/m/0bl9f", {"Vehicle": {"Bus": {}}, "Animal": {"Dog": {}, "Carnivore": {"Cat": {}, "Bus": {}}}}
    )
    made.shown("a", "Dog")
    made.shown("b", "Dog", "Bus")  # a Carnivore too, but no listed class says so
    made.shown("c", "Cat")  # a Carnivore too, and a listed class says so
    made.shown("d", "Carnivore")
    source = made.read(tree=tree)
    plan = plan_task("listing", make_pool(source), Controls(narrowed=True), docs=20, seed=0)
    assert {source.images[i].image_id for doc in plan.docs for i in doc.images} == {"a", "c"}


def test_merged_sources_know_each_others_classes_kinds(made: OpenImagesWriter) -> None:
    made.shown("dog", "Dog")
    first = made.read()
    made.lines.clear()
    made.shown("animal", "Animal")
    second = made.read()
    assert cell(make_pool(second), "animal", "Animal") == (1, True)
    pool = make_pool(merge([first, second]))
    assert cell(pool, "dog", "Animal") == (0, True)
    assert cell(pool, "animal", "Dog") == (0, True)
    assert cell(pool, "dog", "Dog") == cell(pool, "animal", "Animal") == (1, True)


def test_a_rotated_picture_is_dropped_when_it_is_opened(made: OpenImagesWriter) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    made.shown("upright", "Dog")
    made.shown("turned", "Dog")
    Image.new("RGB", (200, 100)).save(made.images / "turned.jpg", exif=exif)
    for sizes, reason in (
        (None, "has an EXIF rotation"),
        ({"turned": (100, 200)}, "is 200 x 100 pixels, annotated as 100 x 200"),
    ):
        source = made.read(image_sizes=sizes)
        store = ImageStore(make_pool(source), progress=False)
        store.check({0, 1})
        assert {source.images[i].image_id: why for i, why in store.dropped.items()} == {"turned": reason}


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
    pool = make_pool(source)
    assert cell(pool, "car", "Car") == cell(pool, "car", "Wheel") == (1, True)
    assert "Wheel" not in source.ancestors
    assert dict(zip(source.classes, source.categories, strict=True)) == {"Car": "Vehicle", "Wheel": "Vehicle"}


def test_the_category_is_the_ancestor_below_the_root_and_empty_there_and_outside(
    made: OpenImagesWriter,
) -> None:
    made.shown("a", "Dog", "Animal", "Car", "Toy", "Carnivore")
    source = made.read()
    assert dict(zip(source.classes, source.categories, strict=True)) == {
        "Dog": "Animal", "Animal": "", "Car": "Vehicle", "Toy": "", "Carnivore": "Animal",
    }  # fmt: skip


def test_without_a_hierarchy_there_are_no_categories_and_no_class_hides_another(
    made: OpenImagesWriter,
) -> None:
    made.shown("a", "Dog", "Animal")
    source = made.read(hierarchy=None)
    assert set(source.categories) == {""}
    pool = make_pool(source)
    assert cell(pool, "a", "Dog") == cell(pool, "a", "Animal") == (1, True)
    assert [name for name, _ in source.files] == ["train-annotations-bbox.csv", "classes.csv"]


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
