"""The order suite: PQA and Retrieval by position, built, verified, swept and permuted (METHODS 16.1)."""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.runs import read_runs
from mimic_eval.cli.calibrate import draw_docs
from mimic_eval.cli.commands import app
from mimic_eval.cli.lmms.arguments import check_early
from mimic_eval.records import ORDER_SUITE, UserError, content_hash, groups_of
from mimic_tasks.build import build
from mimic_tasks.folder import read_task_yaml
from mimic_tasks.lmms_hooks import keep_bytes
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.permuted import hooks
from mimic_tasks.permuted.expand import expand
from mimic_tasks.permuted.orders import Orders
from mimic_tasks.planning import Controls, Range
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import read_coco
from mimic_tasks.stored_docs import read_docs, task_files, usual_files
from mimic_tasks.sweeps import parse_sweep
from mimic_tasks.sweeps.matching import plan_sweep
from mimic_tasks.truth import FolderTruth
from mimic_tasks.verify import WrongDoc, verify_doc
from model_adapters.doc_prompt import check_positions
from tests.conftest import Command
from tests.makers.builds import docs_of, options
from tests.makers.coco import CLASSES, MadeCoco
from tests.makers.permuted import load

DOCS = 24


@pytest.fixture(scope="module")
def built(made_coco: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("suite") / "tasks"
    controls = Controls(n_images=Range(2, 4), narrowed=True)
    build(options(made_coco, out, docs=DOCS, tasks=ORDER_SUITE, controls=controls), progress=False)
    return out


@pytest.fixture(scope="module")
def pool(made_coco: MadeCoco) -> Pool:
    return make_pool(read_coco(made_coco.annotations, made_coco.images))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cache = tmp_path_factory.mktemp("cache")
    return {kind: keep_bytes(load(EMBEDDED / kind / "test.parquet", cache)) for kind in ORDER_SUITE}


def shows(doc: Any) -> list[bool]:
    (target,) = doc["targets"]
    return [any(box["class"] == target for box in boxes) for boxes in doc["boxes"]]


def by_hand(kind: str, visible: list[bool]) -> str:
    if kind == "pqa":
        return ", ".join("yes" if one else "no" for one in visible)
    (position,) = [i for i, one in enumerate(visible) if one]
    return str(position + 1)


@pytest.mark.parametrize("kind", ORDER_SUITE)
def test_the_truth_is_what_every_annotation_says(kind: str, built: Path) -> None:
    docs = docs_of(built, kind)
    assert len(docs) == DOCS
    for doc in docs:
        assert doc["gt"] == by_hand(kind, shows(doc))
        hidden = [b for boxes in doc["boxes"] for b in boxes if b["target"] and (b["small"] or b["crowd"])]  # type: ignore[attr-defined]
        assert not hidden
        wrong = "yes, yes, yes, yes" if kind == "pqa" else str(doc["n_images"] + 1)  # type: ignore[operator]
        with pytest.raises(WrongDoc, match="gt "):
            verify_doc(kind, {**doc, "gt": wrong})


@pytest.mark.parametrize("kind", ORDER_SUITE)
def test_each_position_shows_the_class_equally_often(kind: str, built: Path) -> None:
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    sizes: Counter[int] = Counter()
    for doc in docs_of(built, kind):
        n = doc["n_images"]
        assert isinstance(n, int)
        sizes[n] += 1
        counts[n].update(i for i, one in enumerate(shows(doc)) if one)
    assert sorted(sizes) == [2, 3, 4]
    task = json.loads((built / "manifest.json").read_text())["tasks"][kind]
    for n, of_size in counts.items():
        at = [of_size[position] for position in range(n)]
        assert max(at) - min(at) <= 1
        assert task["positions"][str(n)] == at
        if kind == "pqa":
            assert abs(2 * sum(at) - n * sizes[n]) <= n  # half of the entries are yes, but for one doc
    floor = sum(sizes[n] / n for n in sizes) / DOCS if kind == "retrieval" else 0.5
    assert floor <= task["largest_answer_share"] <= floor + 0.15


def test_a_builds_files_name_metrics_groups_and_length(built: Path) -> None:
    pqa, retrieval = (read_task_yaml(built / f"mimic_{kind}.yaml") for kind in ORDER_SUITE)
    named = [[entry["metric"] for entry in config["metric_list"]] for config in (pqa, retrieval)]
    assert named[0] == ["mean_score", "exact_list", "position_rsd", "unscored"]
    assert named[1] == ["exact_match", "position_rsd", "unscored"]
    assert pqa["generation_kwargs"]["max_new_tokens"] == 16 + 8 * 4
    assert retrieval["generation_kwargs"]["max_new_tokens"] == 16
    for group in ("mimic", "mimic_order"):  # a folder with nothing else has them in both
        assert read_task_yaml(built / f"{group}.yaml")["task"] == ["mimic_pqa", "mimic_retrieval"]


def test_beside_other_tasks_the_suite_is_a_group_of_its_own() -> None:
    assert groups_of(["counting", "pqa", "retrieval_n"]) == {
        "mimic": ("mimic_counting",),
        "mimic_order": ("mimic_pqa", "mimic_retrieval_n"),
    }
    assert groups_of(["common"], "_permuted") == {"mimic_permuted": ("mimic_common_permuted",)}
    assert read_task_yaml(EMBEDDED / "mimic.yaml")["task"] == [
        f"mimic_{kind}" for kind in ("counting", "listing", "common", "oddone")
    ]


def test_spread_and_hard_distractors(made_coco: MadeCoco, tmp_path: Path) -> None:
    controls = Controls(
        n_images=Range(3, 3), spread=Range(1, 1), hard=True, split="unbalanced", narrowed=True
    )
    build(options(made_coco, tmp_path / "t", docs=6, tasks=("pqa",), controls=controls), progress=False)
    docs = docs_of(tmp_path / "t", "pqa")
    assert sum((Counter(i for i, one in enumerate(shows(doc)) if one) for doc in docs), Counter()) == {
        0: 2,
        1: 2,
        2: 2,
    }
    for doc in docs:
        (target,) = doc["targets"]  # type: ignore[misc]
        for boxes, visible in zip(doc["boxes"], shows(doc), strict=True):  # type: ignore[call-overload]
            siblings = {b["class"] for b in boxes if CLASSES[b["class"]] == CLASSES[target]}
            assert visible or siblings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "retrieval", "--stitch", "grid"], "stitch grid makes one picture of a doc's images"),
        (
            ["--task", "retrieval", "--spread", "2"],
            "--spread 2 is for counting or pqa, which --tasks leaves out",
        ),
        (["--task", "pqa", "--n-images", "1"], "pqa needs at least 2 images"),
        (["--task", "pqa", "--n-images", "64"], "pqa: the data can give 0 of the 100 docs"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    arguments: list[str], message: str, made_coco: MadeCoco
) -> None:
    done = CliRunner().invoke(app, ["build", *made_coco.options(), "--plan-only", *arguments])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_a_spread_needs_no_total_where_nothing_is_counted(made_coco: MadeCoco) -> None:
    asked = ["--task", "pqa", "--spread", "9", "--n-images", "10", "--docs", "4", "--plan-only"]
    done = CliRunner().invoke(app, ["build", *made_coco.options(), *asked], catch_exceptions=False)
    assert json.loads(done.stdout)["tasks"]["pqa"]["spreads"] == {"9": 4}


@pytest.mark.parametrize("kind", ORDER_SUITE)
def test_a_sweep_over_n_adds_images_and_balances_each_cell(kind: str, pool: Pool) -> None:
    asked = parse_sweep({"name": "n", "task": kind, "docs": 12, "vary": {"n_images": [2, 4, 6]}})
    plan = plan_sweep(asked, pool)
    assert plan.shortage is None
    for small, middle, large in plan.sets:
        assert small.targets == middle.targets == large.targets
        if kind == "retrieval":
            assert set(small.images) < set(middle.images) < set(large.images)
            named = {doc.images[int(doc.gt) - 1] for doc in (small, middle, large)}
            assert len(named) == 1
    for cell, n in enumerate([2, 4, 6]):
        docs = [matched[cell] for matched in plan.sets]
        assert {len(doc.images) for doc in docs} == {n}
        at: Counter[int] = Counter()
        for doc in docs:
            visible = [bool(pool.countable[image, doc.targets[0]]) for image in doc.images]
            assert doc.gt == by_hand(kind, visible)
            at.update(i for i, one in enumerate(visible) if one)
        assert max(at.values()) - min(at[i] for i in range(n)) <= 1
        if kind == "pqa":
            assert abs(2 * at.total() - 12 * n) <= n


def test_a_sweep_cannot_stitch_positions_away() -> None:
    with pytest.raises(UserError, match="cell stitch=grid: stitch grid makes one picture"):
        parse_sweep(
            {"name": "x", "task": "pqa", "fixed": {"n_images": 4}, "vary": {"stitch": ["none", "grid"]}}
        )


@pytest.mark.parametrize("kind", ORDER_SUITE)
def test_the_truth_of_every_order_is_rebuilt_from_the_boxes(kind: str, stored: dict[str, Any]) -> None:
    """With the fixed truth of the stored order a right answer scored 0 in 3 of 4 orders."""
    rows = expand(stored[kind], Orders())
    assert len(rows) == 4 * len(stored[kind])
    for row in rows.select(range(12)):
        doc = stored[kind][row["base_doc_id"]]
        truth = by_hand(kind, [shows(doc)[i] for i in row["order"]])
        assert row["gt"] == truth == by_hand(kind, shows(row))
        hooks.doc_to_visual(row)  # its content hash is that of its truth and pictures
        entries = hooks.__getattr__(f"process_{kind}")(row, [truth])
        record = entries["mimic"]
        assert (record["score"], record["parsed"], record["gt"]) == (1.0, doc["gt"], truth)
        again = FolderTruth([EMBEDDED]).sample(
            f"mimic_{kind}_permuted", row["base_hash"], truth, ("cyclic", 0, row["order_index"])
        )
        del again["mimic"]["content_hash"], record["content_hash"]  # a folder's truths have no pictures
        assert again == json.loads(json.dumps(entries))
    assert rows[1]["content_hash"] == content_hash(
        kind=kind,
        question=rows[1]["question"],
        gt=rows[1]["gt"],
        image_hashes=digests_of(stored[kind][0], rows[1]["order"]),
    )


def digests_of(doc: Any, order: list[int]) -> list[str]:
    return [hashlib.sha256(doc["images"][i]["bytes"]).hexdigest() for i in order]


def test_one_number_in_all_orders_names_each_picture_once(stored: dict[str, Any]) -> None:
    rows = expand(stored["retrieval"].select([0]), Orders())
    records = [hooks.process_retrieval(row, ["2"])["mimic"] for row in rows]
    assert [record["parsed"] for record in records] == ["2", "3", "4", "1"]
    assert sorted(record["score"] for record in records) == [0, 0, 0, 1]
    assert [record["position_scores"].index(record["score"]) + 1 for record in records] == [
        int(row["gt"]) for row in rows
    ]


@pytest.mark.parametrize("name", ["mimic_retrieval", "mimic_order", "mimic_p*", "mimic_common,mimic_pqa"])
@pytest.mark.parametrize("setting", ["order=reversed", "mask=orders"])
def test_images_must_not_move_under_a_fixed_truth(name: str, setting: str, no_variables: None) -> None:
    with pytest.raises(UserError, match=f"{setting} does not go with mimic_(pqa|retrieval), whose answers"):
        check_early(["--tasks", name, "--model", "llava_ov_mask", "--model_args", setting])
    check_early(["--tasks", "mimic", "--model", "llava_ov_mask", "--model_args", setting])


def test_the_adapter_refuses_to_move_them_too() -> None:
    doc = next(iter(read_docs(EMBEDDED / "pqa/test.parquet", ("task",))))
    check_positions(doc, order="fixed", mask="block", name="x")
    check_positions({"task": "counting_balanced"}, order="reversed", mask="orders", name="x")
    for order, mask in (("reversed", "block"), ("fixed", "orders")):
        with pytest.raises(UserError, match="does not go with mimic_pqa doc 0, whose answers name images"):
            check_positions(doc, order=order, mask=mask, name="mimic_pqa doc 0")


def test_what_draws_docs_of_a_folder_draws_none_of_the_suite(no_variables: None) -> None:
    """Else calibrations and tuning on the packaged docs would have changed with it."""
    files = task_files(EMBEDDED)
    assert list(usual_files(files)) == ["counting", "listing", "common", "oddone"]
    assert list(usual_files({kind: files[kind] for kind in ORDER_SUITE})) == list(ORDER_SUITE)
    drawn, _ = draw_docs(None, 288, 0)
    assert len(drawn) == 240


def test_the_real_command_shows_a_doc_in_every_order_with_its_truth(command: Command, tmp_path: Path) -> None:
    done = command(
        "lmms_eval", "--tasks", "mimic_pqa,mimic_retrieval_permuted", "--model", "llava_ov_mask",
        "--limit", 1, "--batch_size", 4, "--output_path", tmp_path / "run", "--log_samples",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = read_runs(tmp_path / "run")
    records = [sample["mimic"] for sample in run.samples["mimic_retrieval_permuted"]]
    assert sorted(record["gt"] for record in records) == ["1", "2", "3", "4"]
    for record in records:
        position = [score is not None for score in record["position_scores"]].index(True)
        assert [position] == record["target_positions"] == [int(record["gt"]) - 1]
    for task in ("mimic_pqa", "mimic_retrieval_permuted"):
        assert "position_rsd,none" in run.results["results"][task]
    shown = command("mimic", "robustness", tmp_path / "run", "--out", tmp_path / "out")
    assert "score in % by position of the image that holds the answer, of 4 images 1: " in " ".join(
        shown.stdout.split()
    ), shown.stderr
