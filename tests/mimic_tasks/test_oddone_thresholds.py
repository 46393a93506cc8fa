"""Odd-One has one right answer for a person: at each size of things no other class is in a minority."""

from itertools import combinations
from pathlib import Path

import pytest

from mimic_tasks.planning import Controls, Range, plan_task
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import merge, read_coco
from mimic_tasks.verify import WrongDoc, verify_doc
from tests.makers.coco import CocoWriter

BIG, MIDDLE, TINY = (30, 30), (15, 15), (8, 8)  # 9 %, 2.25 % and 0.64 % of the picture
Shown = dict[str, tuple[int, int]]


def pool_of(folder: Path, *pictures: Shown) -> Pool:
    source = CocoWriter(folder)
    for picture in pictures:
        source.image([(name, size, 0) for name, size in picture.items()], write=False)
    made = source.write()
    return make_pool(merge([read_coco(made.annotations, made.images)]))


def answers(pool: Pool, n: int) -> set[str]:
    controls = Controls(n_images=Range(n, n), narrowed=True)
    docs = plan_task("oddone", pool, controls, docs=50, seed=0).docs
    for doc in docs:
        verify_doc("oddone", columns(pool, doc.images, doc.gt), areas=[100 * 100] * n)
    return {doc.gt for doc in docs}


def columns(pool: Pool, images: tuple[int, ...], answer: str) -> dict[str, object]:
    boxes = [pool.boxes(i, frozenset()) for i in images]
    spread = sum(any(box["class"] == answer for box in own) for own in boxes)
    n = len(images)
    return {
        "id": "made", "gt": answer, "targets": [answer], "n_images": n, "k": 1, "image_ids": list(images),
        "spread": spread, "distractors": n - spread, "boxes": boxes,
    }  # fmt: skip


@pytest.mark.parametrize("size", [MIDDLE, TINY])
def test_a_class_that_is_visible_in_a_minority_only_makes_a_second_answer(
    size: tuple[int, int], tmp_path: Path
) -> None:
    """The person is annotated in all three, but large in one: was a doc with the answer dog."""
    pool = pool_of(tmp_path, {"cat": BIG, "dog": BIG, "person": BIG}, *[{"cat": BIG, "person": size}] * 2)
    assert answers(pool, 3) == set()
    with pytest.raises(WrongDoc, match=r"from 5 % of the picture"):
        verify_doc("oddone", columns(pool, (0, 1, 2), "dog"), areas=[100 * 100] * 3)


def test_a_class_of_2_percent_in_a_minority_is_a_second_answer_too(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, {"cat": BIG, "dog": BIG, "person": MIDDLE}, *[{"cat": BIG, "person": TINY}] * 2)
    assert answers(pool, 3) == set()
    with pytest.raises(WrongDoc, match=r"from 1 % of the picture"):
        verify_doc("oddone", columns(pool, (0, 1, 2), "dog"), areas=[100 * 100] * 3)


@pytest.mark.parametrize("size", [BIG, MIDDLE, TINY])
def test_a_class_of_one_size_in_more_than_half_is_no_rival(size: tuple[int, int], tmp_path: Path) -> None:
    pool = pool_of(
        tmp_path, {"cat": BIG, "dog": BIG, "person": size}, {"cat": BIG, "person": size}, {"cat": BIG}
    )  # fmt: skip
    assert answers(pool, 3) == {"dog"}


def test_a_box_of_exactly_1_percent_is_seen_at_that_threshold(tmp_path: Path) -> None:
    for side, seen in ((10, True), (9.99, False)):
        pool = pool_of(tmp_path / str(side), {"cat": (side, 10)})  # type: ignore[dict-item]
        width = len(pool.source.classes)
        cat = pool.source.classes.index("cat")
        levels = [bool(pool.thresholds.boxed[0, cat + i * width]) for i in range(3)]
        assert levels == [True, seen, False]


def test_every_doc_of_three_pictures_that_the_rule_allows_is_found(tmp_path: Path) -> None:
    """All pictures of one or two classes in three sizes, against the rule written out."""
    sizes = (BIG, MIDDLE, TINY)
    pictures: list[Shown] = [{"cat": a, "person": b} for a in sizes for b in sizes]
    pictures += [{"cat": a} for a in sizes] + [
        {"cat": a, "person": b, "dog": BIG} for a in sizes for b in sizes
    ]
    pool = pool_of(tmp_path, *pictures)
    share = {BIG: 0.09, MIDDLE: 0.0225, TINY: 0.0064}
    allowed = set()
    for trio in combinations(range(len(pictures)), 3):
        for answer in ("cat", "person", "dog"):
            with_it = [pictures[i][answer] for i in trio if answer in pictures[i]]
            if with_it != [BIG]:
                continue
            counts = [
                sum(name in pictures[i] and share[pictures[i][name]] >= least for i in trio)
                for least in (0, 0.01, 0.05)
                for name in {"cat", "person", "dog"} - {answer}
            ]
            if all(count in (0, 2, 3) for count in counts):
                allowed.add((answer, frozenset(trio)))
    controls = Controls(n_images=Range(3, 3), narrowed=True)
    plan = plan_task("oddone", pool, controls, docs=2000, seed=0)
    assert {(doc.gt, frozenset(doc.images)) for doc in plan.docs} == allowed
    assert len(allowed) > 50
