"""What is measured of a doc: recurrence of sinks, shares, entropies, and the record on the disk."""

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mimic_eval.records import UserError
from model_adapters.diagnostics.groups import key_groups, row_groups
from model_adapters.diagnostics.maps import drawn, heat, rows_of
from model_adapters.diagnostics.measures import DocRecord, measured
from model_adapters.diagnostics.recurrence import DRAWS, centres, chamfer, recurrence
from model_adapters.diagnostics.store import doc_path, read_doc, write_doc, write_tables
from model_adapters.relevance.places import grid, joined, nowhere


def chamfer_by_loops(first: list[list[float]], second: list[list[float]]) -> float:
    """Eq. 5 of papers/001."""

    def one_way(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(min(math.dist(u, v) for v in b) for u in a) / len(a)

    return one_way(first, second) + one_way(second, first)


def test_chamfer_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (3, 5))
    wanted = chamfer_by_loops(first.tolist(), second.tolist())
    assert float(chamfer(first, second)) == pytest.approx(wanted, abs=1e-12)


def test_recurrence_is_the_mean_over_pairs_that_both_have_sinks() -> None:
    points = [centres(joined([grid(3, 4), nowhere(1)]))] * 4
    marks = torch.zeros(4, 13, dtype=torch.bool)
    marks[0, [0, 5]] = marks[1, [0, 6]] = marks[3, [11]] = True
    marks[2, 12] = True  # a newline token, of no place: the image has no sink with a place
    found = recurrence(list(marks), points, seed=(1,))
    chosen = [points[m][marks[m]].tolist() for m in range(4)]
    pairs = [(m, n) for m, n in combinations(range(4), 2) if 2 not in (m, n)]
    wanted = sum(chamfer_by_loops(chosen[m], chosen[n]) for m, n in pairs) / 3
    assert found.distance == pytest.approx(wanted, abs=1e-12)
    assert (found.pairs, found.without) == (3, 3)


def test_sinks_at_the_same_places_are_nearer_than_random_ones_and_the_seed_decides_these() -> None:
    points = [centres(grid(9, 9))] * 3
    marks = torch.zeros(81, dtype=torch.bool)
    marks[[3, 40, 77]] = True
    found = recurrence([marks] * 3, points, seed=(7, 2))
    assert found.distance == 0
    assert found.random > 0.2
    assert recurrence([marks] * 3, points, seed=(7, 2)).random == found.random
    assert recurrence([marks] * 3, points, seed=(7, 3)).random != found.random
    rng = np.random.default_rng([7, 2])
    sets = [[rng.choice(81, 3, replace=False) for _ in range(DRAWS)] for _ in range(3)]
    at = points[0].numpy()
    distances = [
        chamfer_by_loops(at[sets[m][d]].tolist(), at[sets[n][d]].tolist())
        for m, n in combinations(range(3), 2)
        for d in range(DRAWS)
    ]
    assert found.random == pytest.approx(np.mean(distances), abs=1e-12)


def test_without_sinks_there_is_no_distance() -> None:
    none = torch.zeros(4, dtype=torch.bool)
    found = recurrence([none, none], [centres(grid(2, 2))] * 2, seed=(0,))
    assert math.isnan(found.distance)
    assert (found.pairs, found.without) == (0, 1)


def record_of(**changes: object) -> DocRecord:
    """A doc of two images, 2 layers and 2 heads; its second layer was not watched."""
    rows, keys = row_groups(2), key_groups(2)
    mass = np.zeros((2, 2, len(rows), len(keys)))
    q = {tuple(row): i for i, row in enumerate(rows)}
    g = {tuple(key): i for i, key in enumerate(keys)}

    def put(row: tuple, key: tuple, *heads: float) -> None:
        mass[0, :, q[row], g[key]] = heads

    put(("image", 1), ("image", 1, True, False), 1.0, 3.0)
    put(("image", 1), ("image", 1, False, False), 2.0, 2.0)
    put(("image", 2), ("image", 1, False, False), 1.0, 0.0)
    put(("image", 2), ("image", 2, False, True), 2.0, 2.0)
    put(("image", 2), ("image", 2, True, True), 0.5, 1.5)
    put(("last", None), ("image", 1, False, False), 0.25, 0.25)
    put(("answer", None), ("image", 2, False, True), 1.5, 0.5)
    put(("question", None), ("image", 1, False, True), 0.5, 0.5)
    counts = {("image", 1): 5, ("image", 2): 4, ("last", None): 1, ("answer", None): 3, ("question", None): 2}
    base = DocRecord(
        task="mimic_counting",
        doc=7,
        content_hash="ab" * 32,
        key="cd" * 32,
        answer="3",
        layers=(0,),
        mass=mass,
        rows=np.array([counts.get(tuple(row), 0) for row in rows]),
        entropy=np.array([[0.0, 0, 1.0, 0.25, 0, 0, 1.75], [0.0] * 7]),
        entropy_rows=np.array([[0, 0, 2, 1, 5, 4, 3], [0] * 7]),
        tokens_of=np.array([0, 0, 2, 1, 5, 0, 0, 0, 3, 0, 1, 0, 0]),
        targets=np.array([False, True]),
        boxes=True,
        sinks=np.array([[0, 1, 2, 0.5, 0.25]]),
        recurrence=np.array([[0.5, 0.75, 1, 0], [np.nan] * 4]),
    )
    return replace(base, **changes)


def values_of(record: DocRecord) -> dict[tuple[str, int | None, int | None], float]:
    return {(one.measure, one.layer, one.image): one.value for one in measured(record)}


def test_measures_by_hand() -> None:
    found = values_of(record_of())
    assert {layer for _, layer, _ in found} == {0, None}  # the other layer was not watched
    assert found["intra", 0, None] == pytest.approx((2 + 2 + 2 + 1) / 9)
    assert found["inter", 0, None] == pytest.approx(0.5 / 9)
    assert found["recurrence", 0, None] == 0.5
    assert found["recurrence_random", 0, None] == 0.75
    assert found["sink_share", 0, 1] == pytest.approx(2 / 4)
    assert found["sink_share", 0, 2] == pytest.approx(1 / 3)
    assert found["entropy_question", 0, None] == pytest.approx(0.5)
    assert found["entropy_answer", 0, None] == pytest.approx(2 / 4)  # the last token and three generated
    assert found["answer_to_image", 0, 1] == pytest.approx(0.25 / 4)
    assert found["answer_to_image", 0, 2] == pytest.approx(1 / 4)
    assert found["answer_in_boxes", 0, None] == pytest.approx(1 / 1.25)
    assert found["question_in_boxes", 0, None] == 1.0
    assert found["tokens_in_boxes", None, None] == pytest.approx(1 / 9)
    roles = {one.image: one.role for one in measured(record_of()) if one.measure == "answer_to_image"}
    assert roles == {1: "distractor", 2: "target"}


def test_without_boxes_and_sinks_their_measures_are_left_out() -> None:
    record = record_of(targets=None, boxes=False, sinks=None, recurrence=None)
    names = {one.measure for one in measured(record)}
    assert names == {
        *("intra", "inter", "entropy_question", "entropy_answer", "question_to_image", "answer_to_image")
    }
    assert all(one.role is None for one in measured(record))


def test_a_record_is_read_as_it_was_written_and_the_tables_hold_it(tmp_path: Path) -> None:
    record = record_of()
    other = record_of(doc=8, targets=None, boxes=False, sinks=None, recurrence=None)
    for one in (record, other):
        write_doc(tmp_path, one)
    found = read_doc(doc_path(tmp_path, "mimic_counting", 7))
    for name, value in vars(record).items():
        np.testing.assert_equal(getattr(found, name), value)
    write_tables(tmp_path, [("mimic_counting", 7), ("mimic_counting", 8)])
    rows = pq.read_table(tmp_path / "diagnose.parquet").to_pylist()
    assert sum(row["mass"] for row in rows if row["doc"] == 7) == pytest.approx(record.mass.sum())
    assert {
        "task": "mimic_counting", "doc": 7, "layer": 0, "head": 1, "query": "image", "query_image": 2,
        "key": "image", "key_image": 2, "key_sink": True, "key_in_box": True, "rows": 4, "mass": 1.5,
    } in rows  # fmt: skip
    assert {(row["key_sink"], row["key_in_box"]) for row in rows if row["doc"] == 8} == {(None, None)}
    sinks = pq.read_table(tmp_path / "sinks.parquet").to_pylist()
    assert sinks == [
        {"task": "mimic_counting", "doc": 7, "layer": 0, "image": 1, "token": 2, "x": 0.5, "y": 0.25}
    ]
    entropy = pq.read_table(tmp_path / "entropy.parquet").to_pylist()
    assert sum(row["entropy_sum"] for row in entropy) == pytest.approx(2 * 3.0)
    assert not list(tmp_path.glob(".*partial"))


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    write_doc(tmp_path, record_of())
    path = doc_path(tmp_path, "mimic_counting", 7)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"is damaged .* delete it, and run the same command again"):
        read_doc(path)


def test_heat_paints_each_token_at_its_place_and_shares_it_among_its_parts() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 9.0])
    field = heat(values, joined([grid(2, 2), nowhere(1)]), (4, 6))
    assert field.shape == (6, 4)
    assert field[0, 0] == 0.1
    assert field[5, 3] == 0.4
    assert field[0, 3] == 0.2
    two = heat(np.array([1.0]), joined([grid(1, 2)])._replace(length=1, token=torch.tensor([0, 0])), (4, 2))
    assert (two == 0.5).all()


def test_a_map_has_a_row_for_each_run_and_one_scale() -> None:
    from PIL import Image

    images = [Image.new("RGB", (40, 20), "white"), Image.new("RGB", (20, 40), "white")]
    even = [np.full(4, 0.1), np.full(4, 0.05)]
    sheet = drawn(images, {"none": even, "ar": [2 * one for one in even]}, [grid(2, 2)] * 2)
    assert sheet.size == (240 + 120 + 3 * 8, 2 * (240 + 18 + 8) + 8)
    row = 240 + 18 + 8
    first, second = (sheet.getpixel((20, 8 + 18 + 20 + n * row)) for n in (0, 1))
    assert sum(second) > sum(first)  # twice the attention is brighter on the same scale


@pytest.mark.parametrize(
    ("text", "rows"), [("answer", [3, 6]), ("question", [2]), ("last", [3]), ("image:2", [5])]
)
def test_rows_of_a_map(text: str, rows: list[int]) -> None:
    assert rows_of(text, 2) == rows


@pytest.mark.parametrize("text", ["image", "image:0", "image:3", "images", "prefix", ""])
def test_other_rows_of_a_map_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be answer, question, last or image:1 to image:2, got"):
        rows_of(text, 2)
