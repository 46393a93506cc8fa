"""The permuted tasks: rows and scores against their definitions."""

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import ImageChops

from leaderboard.summary import score_samples
from mimic_eval.records import (
    ORDER_COLUMNS,
    TASK_KINDS,
    Unscorable,
    UserError,
    content_hash,
    doc_means,
    read_samples,
    unscored_response,
)
from mimic_tasks import lmms_hooks
from mimic_tasks.locate import task_folder
from mimic_tasks.permuted import hooks
from mimic_tasks.permuted.expand import expand
from mimic_tasks.permuted.orders import Orders
from mimic_tasks.permuted.tasks import check_orders
from mimic_tasks.stored_docs import read_docs
from stats import mean_interval
from tests.makers.permuted import by_hand, embedded_docs, load
from tests.mimic_tasks.test_sweeps import built  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_variables")

RULES = ("cyclic", "random:4", "random:1")


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return embedded_docs()


# Rows


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_a_row_is_the_plain_doc_with_its_images_reordered_by_hand(
    kind: str, rule: str, plain: dict[str, Any]
) -> None:
    orders = Orders(rule, 5)
    rows = expand(plain[kind], orders)
    want = [
        (number, index, found, by_hand(doc, order), doc)
        for number, doc in enumerate(plain[kind])
        for found in [orders.of(base_hash=doc["content_hash"], n=len(doc["images"]))]
        for index, order in enumerate(found)
    ]
    assert len(rows) == len(want)
    for row, (number, index, found, doc, stored) in zip(rows, want, strict=True):
        assert (row["base_doc_id"], row["order_index"], row["n_orders"]) == (number, index, len(found))
        assert (tuple(row["order"]), row["orders"], row["order_seed"]) == (found[index], rule, 5)
        assert row["base_hash"] == stored["content_hash"]
        assert row["images"] == stored["images"]
        same = row.keys() - {*ORDER_COLUMNS, "images", "content_hash"}
        assert {name: row[name] for name in same} == {name: doc[name] for name in same}
        assert row["content_hash"] == hash_of(kind, doc)
    row, (*_, doc, _) = rows[1], want[1]
    for shown, right in zip(hooks.doc_to_visual(row), lmms_hooks.doc_to_visual(doc), strict=True):
        assert ImageChops.difference(shown, right).getbbox() is None
    ours, theirs = hooks.doc_to_messages(row), lmms_hooks.doc_to_messages(doc)
    assert [part["type"] for part in ours[0]["content"]] == [part["type"] for part in theirs[0]["content"]]


def hash_of(kind: str, doc: dict[str, Any]) -> str:
    hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in doc["images"]]
    return content_hash(kind=kind, question=doc["question"], gt=doc["gt"], image_hashes=hashes)


def test_the_first_order_has_the_docs_own_hash_and_the_others_have_not(plain: dict[str, Any]) -> None:
    rows = expand(plain["common"], Orders())
    for row in rows:
        assert (row["content_hash"] == row["base_hash"]) == (row["order_index"] == 0)
    assert len(set(rows["content_hash"])) == len(rows)


def test_the_rows_of_a_doc_share_its_pictures_bytes(plain: dict[str, Any]) -> None:
    few, many = (expand(plain["listing"], Orders(f"random:{p}")) for p in (1, 100))
    assert len(many) > 20 * len(few)
    before = pa.total_allocated_bytes()
    rows = expand(plain["listing"].remove_columns(["boxes"]), Orders("random:100"))
    taken = pa.total_allocated_bytes() - before
    pictures = sum(len(image["bytes"]) for doc in plain["listing"] for image in doc["images"])
    assert len(rows) == len(many)
    assert taken < 3 * pictures  # 20 times the pictures, were they copied
    addresses = {
        buffer.address
        for chunk in rows.data.table.column("images").chunks
        for buffer in chunk.buffers()
        if buffer is not None and buffer.size > 100_000
    }
    assert len(addresses) <= 2


def test_a_named_picture_follows_the_order_and_its_list_is_what_is_shown(
    built: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    rows = expand(load(built / "common_n/test.parquet", tmp_path), Orders())
    visual, _ = lmms_hooks.hooks_of(built)
    for row in rows.select(range(6)):
        assert len(visual(row)) == row["n_images"]
    first, second = rows[0], rows[1]
    assert second["image_files"] == [first["image_files"][i] for i in second["order"]]
    assert second["image_ids"] == [first["image_ids"][i] for i in second["order"]]


def test_a_stitched_doc_has_one_order_and_keeps_its_sources(built: Path, tmp_path: Path) -> None:  # noqa: F811
    stored = load(built / "counting_stitch/test.parquet", tmp_path)
    rows = expand(stored, Orders())
    for doc, number in ((doc, i) for i, doc in enumerate(stored)):
        own = [row for row in rows if row["base_doc_id"] == number]
        assert len(own) == len(doc["image_files"])
        if len(doc["image_files"]) == 1:
            assert own[0]["image_ids"] == doc["image_ids"]


def test_a_broken_picture_is_named_by_its_id_and_its_place_in_the_order(plain: dict[str, Any]) -> None:
    doc = plain["common"][0]
    doc["images"][0]["bytes"] = b"no picture"
    rows = expand(datasets.Dataset.from_list([doc], features=plain["common"].features), Orders())
    n = len(doc["images"])
    for row in rows:
        place = row["order"].index(0) + 1
        with pytest.raises(Unscorable, match=rf"image {place} of {n} \(id {doc['image_ids'][0]}\)"):
            hooks.doc_to_visual(row)


def test_relevance_of_a_row_knows_the_boxes_where_they_are_shown(plain: dict[str, Any]) -> None:
    from model_adapters.relevance.query import Query, oracle_boxes

    for row in expand(plain["counting"], Orders()).select(range(12)):
        stored = plain["counting"][row["base_doc_id"]]
        doc = by_hand(stored, tuple(row["order"]))
        ours = oracle_boxes(Query.of_doc(row, hooks.doc_to_visual(row), name="x"))
        theirs = oracle_boxes(Query.of_doc(doc, lmms_hooks.doc_to_visual(doc), name="x"))
        assert len(ours) == len(theirs)
        assert all(a.equal(b) for a, b in zip(ours, theirs, strict=True))


def test_all_is_allowed_where_every_doc_has_at_most_five_images(
    built: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIMIC_ORDERS", "all")
    monkeypatch.setenv("MIMIC_DATA", str(built))
    longest = max(
        len(doc["image_files"]) for doc in read_docs(built / "counting_stitch/test.parquet", ("image_files",))
    )
    if longest <= 5:
        check_orders(task_folder(), ["mimic_counting_stitch_permuted"])
    with pytest.raises(UserError, match=r"of mimic_common_n in .* has [68]"):
        check_orders(task_folder(), ["mimic_common_n_permuted"])


# Scores


def answers_to(rows: Any) -> list[str]:
    """Some right, some wrong, some half right, without a pattern that docs or orders share."""
    replies = []
    for i, row in enumerate(rows):
        wrong = ("7", "cat, zebra", "no idea", "")[i % 4]
        first = row["gt"].split(", ")[0]
        replies.append((row["gt"], wrong, first, row["gt"], wrong)[(i * i + row["base_doc_id"]) % 5])
    return replies


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_the_score_is_the_mean_over_docs_of_the_mean_over_orders(
    kind: str, rule: str, plain: dict[str, Any]
) -> None:
    rows = list(expand(plain[kind], Orders(rule)))
    process, one = getattr(hooks, f"process_{kind}"), getattr(lmms_hooks, f"process_{kind}")
    replies = answers_to(rows)
    lost = next((i for i, row in enumerate(rows) if row["base_doc_id"] == 3), 0)
    replies[lost] = unscored_response("its picture is broken")
    samples = [process(row, [reply]) for row, reply in zip(rows, replies, strict=True)]
    base = "f1" if kind == "listing" else "exact_match"
    for name in (base, f"{base}_official"):
        means = []  # the slow definition
        for number, _ in enumerate(plain[kind]):
            if number != 3:
                own = [i for i, row in enumerate(rows) if row["base_doc_id"] == number]
                scores = [one(rows[i], [replies[i]])[name]["score"] for i in own]
                means.append(sum(scores) / len(scores))
        assert len(means) == 59
        assert 0.1 < sum(means) / 59 < 0.9
        metric = hooks.metric_name(name)
        items = [sample[metric] for sample in samples]
        for given in (items, items[::-1], items[::2] + items[1::2]):  # as several processes give them
            assert hooks.aggregate_over_orders(given) == pytest.approx(sum(means) / 59, abs=1e-12)
        logged = [{"doc_id": i, **json.loads(json.dumps(sample))} for i, sample in enumerate(samples)]
        row = score_samples(read_samples(logged, "made"), metric)
        assert (row.n, row.unscored) == (59, 1)
        assert row.score == pytest.approx(sum(means) / 59, abs=1e-12)
        interval = mean_interval(means)
        assert (row.low, row.high, row.interval) == (
            interval.low,
            interval.high,
            "score interval, t quantile, effective sample size 95 %",
        )
        assert 0 < row.low < row.score < row.high < 1
    assert hooks.aggregate_docs(sample["docs"] for sample in samples) == 60
    assert hooks.aggregate_unscored(sample["unscored"] for sample in samples) == 1


def test_no_doc_scored_is_no_score_and_a_part_of_a_docs_orders_is_unscored() -> None:
    assert doc_means([]) == ([], 0)
    assert hooks.aggregate_over_orders([{"doc": 0}, {"doc": 0, "score": 1.0}]) is None
    items = [{"doc": 1, "score": 1.0}, {"doc": 0}, {"doc": 1, "score": 0.0}, {"doc": 0, "score": 1.0}]
    assert doc_means(items) == ([0.5], 1)


def test_the_names_of_the_metrics_say_what_they_are() -> None:
    names = ("exact_match", "exact_match_official", "f1", "f1_official", "class_accuracy")
    assert [hooks.metric_name(name) for name in names] == [
        "exact_match_over_orders",
        "exact_match_over_orders_official",
        "doc_f1_over_orders",
        "doc_f1_over_orders_official",
        "class_accuracy_over_orders",
    ]


def test_several_asked_classes_have_their_share_and_no_official_score(plain: dict[str, Any]) -> None:
    row = {
        **expand(plain["counting"], Orders())[0],
        "gt": "dog: 2, car: 1",
        "targets": ["dog", "car"],
        "k": 2,
    }
    right, half, lost = (
        hooks.process_counting(row, [reply])
        for reply in ("dog: 2, car: 1", "dog: 2, car: 3", unscored_response("x"))
    )
    assert right["class_accuracy_over_orders"] == {"doc": 0, "score": 1.0}
    assert half["class_accuracy_over_orders"] == {"doc": 0, "score": 0.5}
    assert lost["class_accuracy_over_orders"] == {"doc": 0}


def test_a_sample_says_all_that_order_statistics_need(plain: dict[str, Any]) -> None:
    rows = expand(plain["oddone"], Orders("random:3", 9))
    for row in rows:
        record = hooks.process_oddone(row, [f"It is the {row['gt']}."])["mimic"]
        holding = [m for m, ids in enumerate(row["boxes"]) if any(box["class"] == row["gt"] for box in ids)]
        assert record["target_positions"] == holding
        assert len(holding) == row["spread"]
        assert (record["parsed"], record["score"], record["status"]) == (row["gt"], 1.0, "parsed")
        assert {name: record[name] for name in ORDER_COLUMNS} == {name: row[name] for name in ORDER_COLUMNS}
        assert record["image_ids"] == row["image_ids"]
    moved = {tuple(hooks.target_positions(row) or ()) for row in rows if row["base_doc_id"] == 0}
    assert len(moved) > 1
