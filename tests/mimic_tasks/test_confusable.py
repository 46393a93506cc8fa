"""Common and Odd-One with `--confusable`: how many other classes are in all images but one."""

import tempfile
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic_eval.records import TASK_KINDS, UserError
from mimic_tasks.planning import Controls, PlannedDoc, Range, plan_task
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import ImageRecord, Source, read_coco
from mimic_tasks.verify import WrongDoc, confusable_classes, verify_controls, verify_doc
from tests.makers.coco import make_coco


def pool_of(shown: Any) -> Pool:
    """A pool from a table of images x classes: one large box for each cell that is set."""
    image, label = np.nonzero(shown)
    images, classes = np.shape(shown)
    return make_pool(
        Source(
            name="made",
            images=tuple(ImageRecord(i, Path(f"{i}.png"), 100, 100) for i in range(images)),
            classes=tuple("abcdefgh"[:classes]),
            categories=("",) * classes,
            image_index=image,
            class_index=label,
            boxes=np.tile([0.0, 0.0, 50.0, 50.0], (len(image), 1)),
            crowd=np.zeros(len(image), dtype=bool),
            files=(),
        )
    )


def columns(pool: Pool, doc: PlannedDoc) -> dict[str, Any]:
    """What of a doc's columns the checks look at."""
    n = len(doc.images)
    return {
        "id": "made",
        "gt": doc.gt,
        "targets": [pool.source.classes[c] for c in doc.targets],
        "image_ids": [pool.source.images[i].image_id for i in doc.images],
        "boxes": [pool.boxes(i, frozenset(doc.targets)) for i in doc.images],
        "n_images": n,
        "k": len(doc.targets),
        "spread": doc.spread,
        "distractors": n - doc.spread,
        "split": doc.split,
    }


@cache
def made_pool() -> Pool:
    """Pictures of overlapping themes with small and crowd annotations among them."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_coco(Path(folder), images=120)
        return make_pool(read_coco(made.annotations, made.images))


def asked(n: int, low: int, high: int | None = None) -> Controls:
    return Controls(n_images=Range(n, n), confusable=Range(low, low if high is None else high), narrowed=True)


@pytest.mark.parametrize("kind", ["common", "oddone"])
@pytest.mark.parametrize(("n", "count"), [(3, 0), (3, 1), (4, 0), (4, 1), (5, 1)])
def test_just_as_many_classes_as_asked_are_in_all_images_but_one(kind: str, n: int, count: int) -> None:
    pool = made_pool()
    plan = plan_task(kind, pool, asked(n, count), docs=12, seed=0)
    assert len(plan.docs) == 12
    for doc in plan.docs:
        shown = [{box["class"] for box in boxes} for boxes in columns(pool, doc)["boxes"]]
        often = [name for name in set().union(*shown) if sum(name in names for names in shown) == n - 1]
        assert len(often) == count
        verify_doc(kind, columns(pool, doc))
        verify_controls(kind, columns(pool, doc), asked(n, count))


def test_a_range_of_confusable_classes_is_used_in_all_its_numbers() -> None:
    pool = made_pool()
    plan = plan_task("common", pool, asked(3, 0, 2), docs=40, seed=0)
    numbers = [len(confusable_classes(columns(pool, doc))) for doc in plan.docs]
    assert set(numbers) == {0, 1, 2}
    assert min(numbers.count(number) for number in (0, 1)) >= 8


@pytest.mark.parametrize("seed", range(4))
def test_a_common_doc_is_found_wherever_trying_all_sets_of_images_finds_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shown = rng.random((10, 5)) < (0.4, 0.6, 0.8)[seed % 3]
    pool = pool_of(shown)
    sums = [shown[list(images)].sum(axis=0) for images in combinations(range(10), 3)]
    there = {int((sum_ == 2).sum()) for sum_ in sums if (sum_ == 3).sum() == 1}
    for count in range(5):
        plan = plan_task("common", pool, asked(3, count), docs=1, seed=0)
        assert bool(plan.docs) == (count in there), count


def test_one_image_may_miss_several_confusable_classes() -> None:
    pool = pool_of([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 0]])
    (doc,) = plan_task("common", pool, asked(4, 2), docs=1, seed=0).docs
    assert confusable_classes(columns(pool, doc)) == ["b", "c"]


def test_confusable_classes_are_found_where_no_image_shows_them_all() -> None:
    pool = pool_of([[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1]])
    (doc,) = plan_task("common", pool, asked(3, 3), docs=1, seed=0).docs
    assert confusable_classes(columns(pool, doc)) == ["b", "c", "d"]


def test_a_small_object_makes_its_class_confusable() -> None:
    boxes = [
        [{"class": "a", "small": False}],
        [{"class": "b", "small": True}],
        [{"class": "b", "small": False}],
    ]
    doc = {"boxes": boxes, "targets": ["a"], "n_images": 3}
    assert confusable_classes(doc) == ["b"]
    assert confusable_classes({**doc, "targets": ["b"]}) == []


@pytest.mark.parametrize("kind", ["common", "oddone"])
def test_a_shortage_names_the_option(kind: str) -> None:
    pool = pool_of([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    plan = plan_task(kind, pool, Controls(confusable=Range(7, 7), narrowed=True), docs=2, seed=0)
    assert not plan.docs
    assert plan.shortage
    assert "--confusable 7" in plan.shortage


def test_confusable_needs_three_images() -> None:
    assert list(asked(3, 1).sizes("common")) == [3]
    assert list(Controls(confusable=Range(1, 1)).sizes("common")) == [3, 4, 5, 6]
    assert list(Controls(confusable=Range(1, 1), n_images=Range(1, 3)).sizes("counting")) == [1, 2, 3]
    with pytest.raises(UserError) as error:
        plan_task("common", made_pool(), asked(2, 1), docs=1, seed=0)
    assert str(error.value) == "--n-images 2: common with --confusable 1 needs at least 3 images"


@pytest.mark.parametrize("wrong", [Range(0, 21), Range(3, 2), Range(-1, 2)])
def test_confusable_is_within_0_and_20(wrong: Range) -> None:
    with pytest.raises(UserError, match="--confusable must be an ascending range within 0-20"):
        Controls(confusable=wrong)


OBEYED = {
    "n_images": (Range(3, 4), TASK_KINDS),
    "spread": (Range(2, 2), ("counting",)),
    "distractors": (Range(1, 2), ("counting",)),
    "total": (Range(3, 4), ("counting",)),
    "listed": (Range(2, 2), ("listing",)),
    "minority": (Range(1, 1), ("oddone",)),
    "confusable": (Range(1, 1), ("common", "oddone")),
}
BROKEN = {
    "n_images": Range(9, 9),
    "spread": Range(1, 1),
    "distractors": Range(0, 0),
    "total": Range(9, 9),
    "listed": Range(1, 1),
    "minority": Range(2, 2),
    "confusable": Range(0, 0),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, (_, kinds) in OBEYED.items() for kind in kinds]
)
def test_a_doc_obeys_its_controls_and_no_others(name: str, kind: str) -> None:
    controls = Controls(split="balanced", narrowed=True, **{name: OBEYED[name][0]})  # type: ignore[arg-type]
    pool = made_pool()
    (doc,) = plan_task(kind, pool, controls, docs=1, seed=0).docs
    verify_controls(kind, columns(pool, doc), controls)
    with pytest.raises(
        WrongDoc, match=f"--{name.replace('_', '-')} {BROKEN[name]} was requested, the doc has"
    ):
        verify_controls(kind, columns(pool, doc), Controls(narrowed=True, **{name: BROKEN[name]}))  # type: ignore[arg-type]


def test_a_docs_k_split_and_smallest_size_are_checked() -> None:
    pool = made_pool()
    two = Controls(k=2, split="balanced", total=Range(5, 5), narrowed=True)
    doc = columns(pool, plan_task("counting", pool, two, docs=1, seed=0).docs[0])
    verify_controls("counting", doc, two)  # the total is that of both classes
    for wrong, message in (
        (Controls(k=1, total=Range(5, 5)), "--k 1 was requested, the doc has 2"),
        (Controls(k=2, total=Range(4, 4)), "--total 4 was requested, the doc has 5"),
        (Controls(k=2, split="unbalanced"), "--split unbalanced was requested, the doc is balanced"),
    ):
        with pytest.raises(WrongDoc, match=message):
            verify_controls("counting", doc, wrong)
    with pytest.raises(WrongDoc, match="oddone needs at least 3 images"):
        verify_controls("oddone", {**doc, "n_images": 2}, Controls())
    with pytest.raises(WrongDoc, match="--confusable needs at least 3 images"):
        verify_controls("common", {**doc, "n_images": 2}, Controls(confusable=Range(0, 20)))
