"""The permuted tasks as users run them: in a fresh process, with a model."""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_eval.records import content_hash
from mimic_tasks.build import BuildOptions, build
from tests.conftest import Command
from tests.makers.coco import MadeCoco
from tests.mimic_tasks.test_sweeps import built  # noqa: F401

pytestmark = pytest.mark.slow
DOCS, BROKEN = 6, 1


def rewrite(file: Path, change: Any) -> None:
    """Change a parquet file's docs."""
    metadata = pq.read_metadata(file).metadata
    table = pq.read_table(file)
    docs = [change(number, doc) for number, doc in enumerate(table.to_pylist())]
    pq.write_table(pa.Table.from_pylist(docs, schema=table.schema.with_metadata(metadata)), file)


def cut(number: int, doc: dict[str, Any]) -> dict[str, Any]:
    if number == BROKEN:
        doc["images"][0]["bytes"] = doc["images"][0]["bytes"][:70]
    return doc


def turned(number: int, doc: dict[str, Any]) -> dict[str, Any]:
    """The second of the cyclic orders, made by hand."""
    for name in ("images", "image_ids", "boxes"):
        doc[name] = [*doc[name][1:], doc[name][0]]
    hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in doc["images"]]
    own = content_hash(kind="counting", question=doc["question"], gt=doc["gt"], image_hashes=hashes)
    return {**doc, "content_hash": own}


@pytest.fixture(scope="module")
def folder(made_coco: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of 6 docs with one broken picture; below it, its counting docs turned, as another task."""
    out = tmp_path_factory.mktemp("permuted") / "made"
    options = BuildOptions(
        (made_coco.annotations,), (made_coco.images,), out, docs=DOCS, tasks=("counting", "listing")
    )
    build(options, progress=False)
    rewrite(out / "counting/test.parquet", cut)
    return out


@pytest.fixture(scope="module")
def by_hand(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    other = tmp_path_factory.mktemp("by_hand") / "counting"
    (other / "counting").mkdir(parents=True)
    shutil.copy(folder / "counting/test.parquet", other / "counting")
    rewrite(other / "counting/test.parquet", turned)
    yaml = (folder / "mimic_counting.yaml").read_text()
    (other / "x.yaml").write_text(yaml.replace("task: mimic_counting", "task: counting_by_hand"))
    return other


def samples_in(at: Path, task: str) -> list[dict[str, Any]]:
    (path,) = at.rglob(f"*_samples_{task}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_permuted_run_is_the_plain_runs_of_docs_reordered_by_hand(
    folder: Path, by_hand: Path, tiny: Path, command: Command, tmp_path: Path
) -> None:
    """One run: plain, permuted, Listing permuted, and the second orders by hand, half of the docs."""
    tasks = "mimic_counting,mimic_counting_permuted,counting_by_hand,mimic_listing_permuted"
    done = command(
        "lmms_eval", "--tasks", tasks, "--model", "llava_ov_mask",
        "--model_args", f"pretrained={tiny},mask=block,journal=off", "--limit", 0.5,
        "--include_path", by_hand,
        "--log_samples", "--output_path", tmp_path, "--verbosity", "WARNING",
        MIMIC_DATA=str(folder), MIMIC_SEED="4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain, permuted, turned_ = (
        samples_in(tmp_path, name)
        for name in ("mimic_counting", "mimic_counting_permuted", "counting_by_hand")
    )
    assert [sample["doc_id"] for sample in plain] == [0, 1, 2]
    rows = defaultdict(list)
    for sample in permuted:
        rows[sample["mimic"]["base_doc_id"]].append(sample["mimic"])
    assert list(rows) == [0, 1, 2]
    for number, own in rows.items():
        n = plain[number]["mimic"]["n_images"]
        assert [record["order"] for record in own] == [[(i + j) % n for j in range(n)] for i in range(n)]
        assert {(record["orders"], record["order_seed"], record["n_orders"]) for record in own} == {
            ("cyclic", 4, n)
        }
        assert {record["base_hash"] for record in own} == {plain[number]["mimic"]["content_hash"]}
        same = ("response", "score", "status", "image_ids", "content_hash", "gt", "question")
        for record, single in ((own[0], plain[number]), (own[1], turned_[number])):
            assert {name: record.get(name) for name in same} == {
                name: single["mimic"].get(name) for name in same
            }
        assert (own[0]["status"] == "unscored") == (number == BROKEN)
    assert any(own[0]["response"] != own[1]["response"] for own in rows.values())  # order matters to it
    (path,) = tmp_path.rglob("*_results.json")
    results = json.loads(path.read_text())
    counts = results["n-samples"]
    assert counts["mimic_counting"] == {"original": DOCS, "effective": 3}
    assert counts["mimic_counting_permuted"]["effective"] == len(permuted)
    scores = results["results"]["mimic_counting_permuted"]
    assert (scores["docs,none"], scores["unscored,none"]) == (3, 1)
    assert results["configs"]["mimic_counting_permuted"]["metadata"]["label"] == "instances_made"
    table = {(row["task"], row["metric"]): row for row in results["mimic"]["rows"]}
    row = table["mimic_counting_permuted", "exact_match_over_orders"]
    whole = [own for number, own in rows.items() if number != BROKEN]
    means = [sum(record["score"] for record in own) / len(own) for own in whole]
    assert (row["n"], row["docs"], row["unscored"]) == (2, DOCS, 1)
    assert row["score"] == pytest.approx(sum(means) / 2) == scores["exact_match_over_orders,none"]
    assert table["mimic_listing_permuted", "doc_f1_over_orders"]["n"] == 3
    report = command("mimic", "report", tmp_path)
    assert report.returncode == 0, report.stderr
    assert "exact match over orders" in report.stdout


def test_a_sweeps_docs_are_permuted_too_and_a_limit_is_of_docs(
    built: Path,  # noqa: F811
    command: Command,
    tmp_path: Path,
) -> None:
    done = command(
        "lmms_eval", "--tasks", "mimic_permuted", "--model", "llava_ov_mask", "--batch_size", 4, "--limit", 2,
        "--output_path", tmp_path, "--log_samples", MIMIC_DATA=str(built), MIMIC_ORDERS="random:2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for task in ("mimic_common_n_permuted", "mimic_counting_stitch_permuted"):
        records = [sample["mimic"] for sample in samples_in(tmp_path, task)]
        shown = Counter(record["base_doc_id"] for record in records)
        assert list(shown) == [0, 1]
        assert all(shown[record["base_doc_id"]] == record["n_orders"] for record in records)
        assert {record["orders"] for record in records} == {"random:2"}
        assert all(record["status"] != "unscored" for record in records)
    assert max(shown.values()) <= 2
    report = command("mimic", "report", tmp_path, "--json")
    assert {row["n"] for row in json.loads(report.stdout)} == {2}
