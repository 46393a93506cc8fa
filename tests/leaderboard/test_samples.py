"""The form of a sample: files of today and of earlier versions are read, and written with the same keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from leaderboard.runs import read_runs
from leaderboard.summary import summarize_run
from mimic_eval.records import Item, Sample, UserError, read_samples

GOLDEN = Path(__file__).parents[1] / "data/samples_v1"
"""A run of version 838e37c: `lmms_eval --model llava_ov_mask --limit 3` on the embedded tasks and, with
`MIMIC_ORDERS=cyclic`, on permuted Counting; the results without what nobody reads. `unscored.jsonl`: what its
hooks gave for a broken picture, plain and permuted."""
ENTRIES = ("exact_match", "f1", "docs", "unscored", "mimic")


def lines(name: str) -> list[dict[str, Any]]:
    text = (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "name",
    [f"1_samples_mimic_{task}" for task in ("counting", "listing", "common", "oddone", "counting_permuted")]
    + ["unscored"],
)
def test_a_file_of_an_earlier_version_is_read_and_written_again_with_every_key(name: str) -> None:
    rows = lines(name)
    assert rows
    for row, sample in zip(rows, read_samples(rows, name), strict=True):
        want = {key: value for key, value in row.items() if key.startswith(ENTRIES)}
        written = sample.to_json()
        assert json.loads(json.dumps(written)) == want
        assert list(written["mimic"]) == list(want["mimic"])  # also in the same order


def test_what_is_read_is_what_the_file_says() -> None:
    first = read_samples(lines("1_samples_mimic_counting"), "x")[0]
    assert (first.doc_id, first.kind, first.gt, first.response, first.parsed) == (0, "counting", "11", "7", 7)
    assert (first.status, first.score, first.score_official, first.unscored) == ("parsed", 0.0, 0.0, False)
    assert (first.n_images, first.cell, first.run["mask"]) == (6, None, "block")
    assert first.items == {"exact_match": Item(0.0), "exact_match_official": Item(0.0)}
    assert first.base_hash == first.content_hash
    plain, permuted = read_samples(lines("unscored"), "x")
    assert (plain.unscored, plain.score, plain.response) == (True, None, None)
    assert plain.reason == "image 2 of 3 (id 17) is truncated"
    assert permuted.ordering is not None
    assert permuted.ordering.order == (0, 1, 2, 3, 4, 5)
    assert permuted.items["exact_match_over_orders"] == Item(None, None, 0)
    listing = read_samples(lines("1_samples_mimic_listing"), "x")[0]
    assert listing.items["f1"].counts is not None


def test_a_run_of_an_earlier_version_gives_the_scores_that_it_reported() -> None:
    (run,) = read_runs(GOLDEN)
    rows = {(row.task, row.metric): row for row in summarize_run(run)}
    reported = {(row["task"], row["metric"]): row for row in run.results["mimic"]["rows"]}
    assert len(rows) == 10
    assert rows.keys() == reported.keys()
    for key, row in rows.items():
        assert (row.n, row.docs, row.unscored) == tuple(reported[key][i] for i in ("n", "docs", "unscored"))
        assert row.score == pytest.approx(reported[key]["score"])
    assert run.settings["checkpoint"] == "embedded:llava_onevision"


def test_a_record_of_a_later_version_says_to_update() -> None:
    row = lines("1_samples_mimic_counting")[0]
    row["mimic"]["version"] = 2
    with pytest.raises(
        UserError, match=r"^f: doc 0: its record has version 2, this mimic-eval reads 1: update"
    ):
        Sample.from_json(row, "f")


@pytest.mark.parametrize(
    ("task", "field", "value", "message"),
    [
        ("counting", "content_hash", None, "'content_hash' must be a text, got None"),
        ("counting", "kind", 3, "'kind' must be a text, got 3"),
        ("counting", "status", None, "'status' must be a text, got None"),
        ("counting", "response", None, "'response' must be a text, got None"),
        ("counting", "score", None, "'score' must be a number within 0-1, got None"),
        ("counting", "score", True, "'score' must be a number within 0-1, got True"),
        ("counting", "score", float("nan"), "'score' must be a number within 0-1, got nan"),
        ("counting", "score_official", 1.5, "'score_official' must be a number within 0-1, got 1.5"),
        ("counting", "n_images", "6", "'n_images' must be an integer, got '6'"),
        ("counting", "n_images", True, "'n_images' must be an integer, got True"),
        ("counting", "image_ids", "ab", "'image_ids' must be a list, got 'ab'"),
        ("counting", "cell", 4, "'cell' must be a text, got 4"),
        ("counting", "run", [], None),
        ("counting", "run", ["x"], r"'run' must be an object, got \['x'\]"),
        ("counting", "matched_set", "1", "'matched_set' must be an integer, got '1'"),
        ("counting_permuted", "order_index", None, "'order_index' must be an integer, got None"),
        ("counting_permuted", "order", [0, 0], r"'order' must be a permutation of 0 to n - 1, got \(0, 0\)"),
        ("counting_permuted", "order", "01", "'order' must be a list of integers, got '01'"),
        ("counting_permuted", "target_positions", [9], "'target_positions' must be within 0-5"),
    ],
)
def test_a_wrong_field_is_one_line_with_file_doc_and_field(
    task: str, field: str, value: Any, message: str | None
) -> None:
    row = lines(f"1_samples_mimic_{task}")[0]
    row["mimic"][field] = value
    if message is None:
        assert not Sample.from_json(row, "f.jsonl").run
        return
    with pytest.raises(UserError, match=rf"^f\.jsonl: doc 0: {message}$"):
        Sample.from_json(row, "f.jsonl")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (1.0, "f1 must be an object, got 1.0"),
        ({"score": 2}, "f1: 'score' must be a number within 0-1, got 2"),
        ({"score": 1.0, "counts": [1, 2]}, "f1: 'counts' must be recalled, generated and"),
        (
            {"score": 1.0, "counts": [3, 2, 2]},
            "f1: 'counts' must be recalled, generated and",
        ),
        ({"score": 1.0, "counts": [1.0, 1, 1]}, "f1: 'counts' must be a list of integers"),
    ],
)
def test_a_wrong_item_is_one_line_with_its_metric(item: Any, message: str) -> None:
    row = {**lines("1_samples_mimic_listing")[0], "f1": item}
    with pytest.raises(UserError, match=rf"^f: doc 0: {message}"):
        Sample.from_json(row, "f")
