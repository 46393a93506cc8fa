"""What a build asks about by default, and which docs it leaves out on request."""

import json
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import TASK_KINDS, UserError
from mimic_tasks.build import build
from mimic_tasks.coco_classes import COCO_CLASSES
from mimic_tasks.planning import Controls, Range, plan_task
from mimic_tasks.pool import make_pool
from mimic_tasks.profiles import make_profile
from mimic_tasks.sources import merge, read_coco
from mimic_tasks.sweeps import parse_sweep
from mimic_tasks.sweeps.matching import plan_sweep
from tests.makers.builds import docs_of, options
from tests.makers.coco import LARGE, CocoWriter, MadeCoco

CLASSES = {
    "dog": "animal", "cat": "animal", "apple": "food", "pizza": "food", "cup": "kitchen", "fork": "kitchen"
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> MadeCoco:
    writer = CocoWriter(tmp_path_factory.mktemp("profiles"))
    for _ in range(8):
        for group in ("animal", "food", "kitchen"):
            names = [name for name, own in CLASSES.items() if own == group]
            for shown in (names, names[:1], names[1:]):
                writer.image([("dog", LARGE, 0)] * len(shown))
                for row, name in zip(writer.data["annotations"][-len(shown) :], shown, strict=True):
                    row["category_id"] = 1 + list(CLASSES).index(name)
    writer.data["categories"] = [
        {"id": 1 + i, "name": name, "supercategory": group} for i, (name, group) in enumerate(CLASSES.items())
    ]
    return writer.write()


def asked(source: MadeCoco, out: Path, **changes: Any) -> tuple[set[str], set[str]]:
    """The classes that Counting and the categories that Listing asks about in 60 docs each."""
    tasks = ("counting", "listing")
    build(options(source, out, docs=60, tasks=tasks, allow_fewer=True, **changes), progress=False)
    counted = {name for doc in docs_of(out, "counting") for name in doc["targets"]}  # type: ignore[attr-defined]
    return counted, {str(doc["category"]) for doc in docs_of(out, "listing")}


def test_by_default_counting_leaves_out_what_cannot_be_counted_and_listing_what_nobody_says(
    source: MadeCoco, tmp_path: Path
) -> None:
    counted, listed = asked(source, tmp_path / "b")
    assert counted == set(CLASSES) - {"apple"}
    assert listed == {"animal", "food"}
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert manifest["arguments"]["profile"] == "countable"
    assert manifest["profile"] == {
        "name": "countable",
        "classes_not_counted": ["apple"],
        "categories_not_listed": ["kitchen"],
    }


def test_profile_all_takes_every_class_and_category(source: MadeCoco, tmp_path: Path) -> None:
    assert asked(source, tmp_path / "b", profile="all") == (set(CLASSES), {"animal", "food", "kitchen"})


def test_what_is_asked_for_by_name_is_taken(source: MadeCoco, tmp_path: Path) -> None:
    controls = Controls(category="kitchen", narrowed=True)
    assert asked(source, tmp_path / "b", classes=("apple", "cup"), controls=controls) == (
        {"apple", "cup"},
        {"kitchen"},
    )


def test_no_answer_makes_up_more_than_two_fifths(source: MadeCoco, tmp_path: Path) -> None:
    build(options(source, tmp_path / "b", docs=60, allow_fewer=True), progress=False)
    tasks = json.loads((tmp_path / "b/manifest.json").read_text())["tasks"]
    assert all(task["largest_answer_share"] <= 0.4 for task in tasks.values())


def test_the_profile_of_coco() -> None:
    profile = make_profile(
        "countable",
        classes=[row.name for row in COCO_CLASSES],
        categories=[row.supercategory for row in COCO_CLASSES],
    )
    assert set(profile.uncounted) == {
        "banana", "broccoli", "carrot", "orange", "apple", "book", "dining table", "bench"
    }  # fmt: skip
    listed = {row.supercategory for row in COCO_CLASSES} - set(profile.unlisted)
    assert listed == {"animal", "vehicle", "furniture", "food", "sports", "electronic"}


def test_other_spellings_are_left_out_and_unknown_names_are_taken() -> None:
    profile = make_profile(
        "countable",
        classes=["Bananas", "Dining_Table", "Kitchen & dining room table", "gearbox", "Sheep", "tree"],
        categories=["Kitchen", "Home appliance", "farm-animals", "", "machine parts"],
    )
    assert profile.uncounted == ("Bananas", "Dining_Table", "Kitchen & dining room table", "tree")
    assert profile.unlisted == ("Kitchen", "Home appliance")
    with pytest.raises(UserError, match=r"Unknown profile 'countables'\. Did you mean 'countable'"):
        make_profile("countables", classes=[], categories=[])


def test_a_category_left_out_is_the_reason_given(source: MadeCoco) -> None:
    read = merge([read_coco(source.annotations, source.images)])
    pool = make_pool(read, classes=["cup", "fork"], profile="countable")
    kept = [a for a, c in enumerate(read.class_index) if read.categories[c] == "kitchen"]
    assert kept
    plan = plan_task("listing", pool, Controls(n_images=Range(2, 2)), docs=3, seed=0)
    assert plan.shortage is not None
    assert not plan.docs


def test_a_sweep_has_the_profile_too(source: MadeCoco) -> None:
    read = merge([read_coco(source.annotations, source.images)])
    sweep = parse_sweep(
        {"name": "x", "task": "counting", "docs": 40, "fixed": {"total": "1-3", "spread": 1},
         "vary": {"n_images": [2, 3]}}
    )  # fmt: skip
    apple = read.classes.index("apple")
    for profile, seen in (("countable", False), ("all", True)):
        plan = plan_sweep(sweep, make_pool(read, profile=profile))
        assert any(apple in doc.targets for docs in plan.sets for doc in docs) is seen


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {str(doc["content_hash"]): doc for kind in TASK_KINDS[:2] for doc in docs_of(out, kind)}


@pytest.mark.parametrize("form", ["review", "list", "lines", "ids"])
def test_listed_docs_are_left_out_and_all_others_stay(form: str, source: MadeCoco, tmp_path: Path) -> None:
    tasks = ("counting", "listing")
    build(options(source, tmp_path / "all", docs=12, tasks=tasks, allow_fewer=True), progress=False)
    before = rows(tmp_path / "all")
    gone = [doc for doc in before.values() if doc["id"] in ("counting-000003", "listing-000000")]
    hashes = [doc["content_hash"] for doc in gone]
    content = {
        "review": json.dumps(
            {
                "format": 1,
                "exclude": [{"task": "mimic_x", "content_hash": h, "reason": "3 people: 2"} for h in hashes],
            }
        ),
        "list": json.dumps(hashes),
        "lines": "# doubtful\n" + "\n".join(f"{h}  # two dogs in one box" for h in hashes) + "\n\n",
        "ids": "counting-000003\nlisting-000000\n",
    }[form]
    file = tmp_path / "doubtful_docs.json"
    file.write_text(content)
    less = options(source, tmp_path / "less", docs=12, tasks=tasks, exclude_docs=file, allow_fewer=True)
    result = build(less, progress=False)
    assert result.notes == ()
    after = rows(tmp_path / "less")
    assert set(after) == set(before) - set(hashes)
    for content_hash, doc in after.items():
        assert {**doc, "idx": 0} == {**before[content_hash], "idx": 0}
    assert [doc["idx"] for doc in docs_of(tmp_path / "less", "counting")] == list(range(11))
    task = json.loads((tmp_path / "less/manifest.json").read_text())["tasks"]["counting"]
    assert [record["id"] for record in task["docs_excluded"]] == ["counting-000003"]
    assert task["docs"] == 11
    if form == "review":
        assert task["docs_excluded"][0]["reason"] == "3 people: 2"


def test_docs_that_the_command_does_not_make_are_said(source: MadeCoco, tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("ab" * 32 + "\ncounting-000001\n")
    result = build(
        options(source, tmp_path / "b", docs=5, tasks=("counting",), exclude_docs=file), progress=False
    )
    (note,) = result.notes
    assert note.startswith("1 of the docs of --exclude-docs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no doc"),
        ("dog\n", "entry 1 must be a content hash (64 hex digits) or an id like counting-000007, got 'dog'"),
        ('{"exclude": []}', 'a mapping must be {"format": 1, "exclude": [...]}'),
        ('{"format": 1, "exclude": [{"reason": "x"}]}', "entry 1 must be a content hash"),
        ("[1, 2]", "entry 1 must be a content hash"),
        ("[", "is not JSON"),
    ],
)
def test_a_list_that_names_no_docs_is_refused_before_any_work(
    content: str, message: str, source: MadeCoco, tmp_path: Path
) -> None:
    file = tmp_path / "list"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        build(options(source, tmp_path / "b", exclude_docs=file), progress=False)
    assert message in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        build(options(source, tmp_path / "b", exclude_docs=tmp_path / "none"), progress=False)


@pytest.mark.parametrize("reuse", [1, 2, 3])
def test_max_reuse_bounds_the_docs_of_each_image_and_the_manifest_says_how_docs_hang_together(
    reuse: int, source: MadeCoco, tmp_path: Path
) -> None:
    controls = Controls(n_images=Range(2, 3), narrowed=True)
    made = options(source, tmp_path / "b", docs=40, controls=controls, max_reuse=reuse, allow_fewer=True)
    build(made, progress=False)
    tasks = json.loads((tmp_path / "b/manifest.json").read_text())["tasks"]
    for kind, task in tasks.items():
        uses: dict[Any, int] = {}
        for doc in docs_of(tmp_path / "b", kind):
            for image in doc["image_ids"]:  # type: ignore[attr-defined]
                uses[image] = uses.get(image, 0) + 1
        assert max(uses.values()) == task["largest_reuse"] <= reuse
        if reuse == 1:
            assert task["clusters"]["count"] == task["docs"]
            assert task["clusters"]["largest_share"] == round(1 / task["docs"], 4)
    assert max(task["largest_reuse"] for task in tasks.values()) == reuse
