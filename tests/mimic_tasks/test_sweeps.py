"""Sweeps: nothing moves but what varies, and what cannot be matched is refused."""

import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import chi2

from mimic_eval.records import DOC_COLUMNS, UserError, content_hash
from mimic_tasks.lmms_hooks import process_counting
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.sources import read_coco
from mimic_tasks.sweeps import Sweep, packaged, parse_sweep, read_sweep
from mimic_tasks.sweeps.balance import balance, chi_squared, require_balance
from mimic_tasks.sweeps.matching import plan_sweep
from mimic_tasks.transforms import Transform, downsample, stitch
from tests.conftest import Command

SPLITS = ["balanced", "unbalanced"]
Docs = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def pool(scenes: Path) -> Pool:
    return make_pool(read_coco(scenes / "annotations/instances_scenes.json", scenes / "images"))


def sweep(kind: str, *, docs: int = 20, **keys: Any) -> Sweep:
    return parse_sweep({"name": "x", "task": kind, "docs": docs, **keys})


def planned(asked: Sweep, pool: Pool) -> list[list[Any]]:
    """The docs of each cell."""
    plan = plan_sweep(asked, pool)
    assert plan.shortage is None
    return [[docs[i] for docs in plan.sets] for i in range(len(asked.cells))]


def counts(pool: Pool, doc: Any) -> list[int]:
    """Instances of the target in each image."""
    return [int(pool.annotated[i, list(doc.targets)].sum()) for i in doc.images]


def test_every_spread_has_the_same_pairs_of_class_and_total(pool: Pool) -> None:
    asked = sweep("counting", fixed={"total": "4-8", "n_images": 8}, vary={"spread": [1, 2, 3, 4]})
    cells = planned(asked, pool)
    pairs = [[(doc.targets, doc.gt) for doc in docs] for docs in cells]
    assert pairs[0] == pairs[1] == pairs[2] == pairs[3]
    for s, docs in enumerate(cells, 1):
        for doc in docs:
            shown = counts(pool, doc)
            assert sum(shown) == int(doc.gt)
            assert 4 <= sum(shown) <= 8
            assert sum(count > 0 for count in shown) == s == doc.spread
            assert len(doc.images) == 8


def test_a_pair_that_one_cell_cannot_serve_is_in_no_cell(pool: Pool) -> None:
    asked = sweep("counting", docs=500, fixed={"total": "4-8", "n_images": 8}, vary={"spread": [1, 4]})
    plan = plan_sweep(asked, pool)
    served = {(docs[0].targets[0], int(docs[0].gt)) for docs in plan.sets}
    for c, total in served:
        assert (pool.countable[:, c] == total).any()  # the cell of s = 1 needs one such picture
    missing = [
        (c, total)
        for c in range(len(pool.source.classes))
        for total in range(4, 9)
        if not (pool.countable[:, c] == total).any() and (pool.countable[:, c] > 0).sum() >= 4
    ]
    assert missing
    assert not served & set(missing)


def test_more_distractors_leave_the_target_images_as_they_are(pool: Pool) -> None:
    vary = {"spread": [1, 2], "distractors": [0, 3, 9]}
    cells = planned(sweep("counting", fixed={"total": "2-6"}, vary=vary), pool)
    for docs in zip(*cells, strict=True):
        for of_spread in (docs[:3], docs[3:]):
            targets = [{i for i, n in zip(d.images, counts(pool, d), strict=True) if n} for d in of_spread]
            assert targets[0] == targets[1] == targets[2]
            assert set(of_spread[0].images) < set(of_spread[1].images) < set(of_spread[2].images)
            assert [len(d.images) - d.spread for d in of_spread] == [0, 3, 9]


def test_k_asks_more_of_the_same_images(pool: Pool) -> None:
    fixed = {"split": "unbalanced", "n_images": 6}
    cells = planned(sweep("counting", fixed=fixed, vary={"k": [1, 2, 3, 4, 5]}), pool)
    for docs in zip(*cells, strict=True):
        assert len({doc.images for doc in docs}) == 1
        for k, doc in enumerate(docs, 1):
            assert doc.targets == docs[-1].targets[:k]
            assert doc.gt.count(":") == (k if k > 1 else 0)


def test_hard_cells_have_distractors_of_the_targets_category(pool: Pool) -> None:
    asked = sweep(
        "counting", fixed={"total": "2-6", "spread": 1, "n_images": 4}, vary={"hard": [False, True]}
    )
    easy, hard = planned(asked, pool)
    categories = pool.source.categories
    assert [doc.targets for doc in easy] == [doc.targets for doc in hard]
    for doc in hard:
        for i, n in zip(doc.images, counts(pool, doc), strict=True):
            shown = {categories[c] for c in np.flatnonzero(pool.present[i])}
            assert n or categories[doc.targets[0]] in shown


def test_listing_keeps_its_answer_while_n_grows(pool: Pool) -> None:
    cells = planned(sweep("listing", fixed={"spread": "1-2"}, vary={"n_images": [2, 4, 8]}), pool)
    for docs in zip(*cells, strict=True):
        assert len({(doc.category, doc.gt, doc.spread) for doc in docs}) == 1
        assert set(docs[0].images) < set(docs[1].images) < set(docs[2].images)


def test_listing_lists_as_many_classes_as_asked(pool: Pool) -> None:
    cells = planned(sweep("listing", fixed={"n_images": 6, "spread": 3}, vary={"listed": [1, 2, 3]}), pool)
    for listed, docs in enumerate(cells, 1):
        assert {len(doc.targets) for doc in docs} == {listed}
    assert [doc.category for doc in cells[0]] == [doc.category for doc in cells[2]]


def test_common_and_oddone_keep_their_answers(pool: Pool) -> None:
    common = planned(sweep("common", vary={"n_images": [2, 3, 5]}), pool)
    odd = planned(sweep("oddone", fixed={"n_images": 7}, vary={"minority": [1, 2, 3]}), pool)
    for cells in (common, odd):
        answers = [[doc.gt for doc in docs] for docs in cells]
        assert answers[0] == answers[1] == answers[2]
    assert [{doc.spread for doc in docs} for docs in odd] == [{1}, {2}, {3}]
    for docs in zip(*common, strict=True):
        assert set(docs[0].images) < set(docs[1].images) < set(docs[2].images)


def test_cells_that_differ_in_their_transform_only_have_the_same_docs(pool: Pool) -> None:
    vary = {"downsample": [1, 4], "stitch": ["none", "grid"]}
    cells = planned(sweep("counting", fixed={"n_images": 4}, vary=vary), pool)
    assert cells[0] == cells[1] == cells[2] == cells[3]


def test_the_same_seed_gives_the_same_plan_and_another_another(pool: Pool) -> None:
    keys: dict[str, Any] = {"fixed": {"n_images": 4}, "vary": {"spread": [1, 2]}}
    assert plan_sweep(sweep("counting", **keys), pool) == plan_sweep(sweep("counting", **keys), pool)
    other = plan_sweep(sweep("counting", seed=1, **keys), pool)
    assert other.sets != plan_sweep(sweep("counting", **keys), pool).sets


@pytest.mark.parametrize("name", packaged())
def test_a_ready_made_sweep_is_served_in_full_by_scenes(name: str, pool: Pool) -> None:
    asked = read_sweep(name)
    plan = plan_sweep(Sweep(**{**vars(asked), "docs": 12}), pool)
    assert plan.shortage is None
    assert asked.task == name
    for docs in plan.sets:
        for cell, doc in zip(asked.cells, docs, strict=True):
            n = cell.controls.n_images
            assert n is None or n.low == len(doc.images)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vary": {"spreed": [1]}}, "Unknown control of counting 'spreed'. Did you mean 'spread'?"),
        ({"vary": {"spread": 3}}, "vary: spread must be a list of values like [1, 2, 4], got 3"),
        ({"vary": {"spread": [1, 1]}}, "vary: spread lists a value twice"),
        ({"vary": {"spread": ["1-2"]}}, "cell spread=1-2: spread varies over integers, got '1-2'"),
        ({"vary": {"n_images": [65]}}, "cell n_images=65: n_images must be within 1-64"),
        ({"vary": {"n_images": [4]}, "fixed": {"n_images": 4}}, "n_images is both fixed and varied"),
        ({"vary": {"stitch": ["row"]}}, "cell stitch=row: Unknown stitch 'row'. Valid: grid, none."),
        ({"vary": {"downsample": [0]}}, "downsample must be an integer within 1-64, got 0"),
        ({"vary": {"k": [6]}}, "cell k=6: k must be an integer within 1-5, got 6"),
        ({"vary": {}, "docs": True}, "docs must be an integer within 1-100000, got True"),
        ({"vary": {}, "name": "A b"}, "name must be lower-case letters, digits and _, got 'A b'"),
        ({"vary": {"spread": [1]}, "figure": {"x": "total"}}, "figure: x: Unknown key 'total'"),
        ({"vary": {"minority": [1]}}, "Unknown control of counting 'minority'"),
        ({"vary": {"spread": [1, 2, 3, 4], "n_images": list(range(10, 64))}}, "more than 200 cells"),
        ({"vary": {"N": [4]}}, "Unknown control of counting 'N'. Did you mean 'n_images'?"),
        ({"fixed": {"n_images": 30}, "vary": {"spread": [9]}}, "9 images with a target need a total of at"),
        ({"cells": []}, "Unknown key 'cells'"),
    ],
)
def test_a_wrong_file_is_refused_by_its_key(keys: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_sweep({"name": "x", "task": "counting", "vary": {}, **keys})
    assert message in str(caught.value)


def test_confusable_classes_need_three_images() -> None:
    with pytest.raises(
        UserError, match="cell n_images=2: --n-images 2: common with --confusable 0 needs at least"
    ):
        sweep("common", fixed={"confusable": 0}, vary={"n_images": [2, 3]})


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        (
            "counting",
            {"fixed": {"total": "2-8", "n_images": 6}, "vary": {"spread": [1, 3]}},
            "a spread of 3 needs totals of at least 3, got total 2",
        ),
        (
            "counting",
            {"fixed": {"n_images": 6}, "vary": {"k": [1, 2]}},
            "give n_images and split: unbalanced",
        ),
        ("counting", {"vary": {"spread": [1, 2]}}, "give n_images, or both spread and distractors"),
        (
            "counting",
            {"fixed": {"n_images": 4}, "vary": {"split": SPLITS}},
            "split cannot",
        ),
        ("listing", {"fixed": {"category": "anmal", "n_images": 4}, "vary": {}}, "category 'anmal' has not"),
        ("common", {"fixed": {"n_images": "2-4"}, "vary": {}}, "give n_images as one number"),
    ],
)
def test_cells_that_cannot_be_matched_are_refused(
    kind: str, keys: Mapping[str, Any], message: str, pool: Pool
) -> None:
    with pytest.raises(UserError) as caught:
        plan_sweep(sweep(kind, **keys), pool)
    assert message in str(caught.value)


def test_chi_squared_agrees_with_its_definition() -> None:
    table = np.array([[30, 20, 10], [20, 25, 15]])
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = ((table - expected) ** 2 / expected).sum()
    found = chi_squared([dict(zip("abc", row, strict=True)) for row in table.tolist()])
    assert found[:2] == pytest.approx((statistic, chi2.sf(statistic, 2)))
    assert found[2] == "chi-squared test"


def test_small_counts_are_tested_by_permutation_and_equal_cells_have_p_1() -> None:
    assert chi_squared([{"a": 1, "b": 2}, {"a": 1, "b": 2}])[:2] == (0.0, 1.0)
    assert chi_squared([{"a": 4}, {"a": 4}])[1] == 1.0
    _, p, test = chi_squared([{"a": 6}, {"b": 6}])
    assert p < 0.01  # 2 of the 924 ways to split twelve draws are as far apart: 0.002
    assert test == "chi-squared by 4999 permutations, seed 0"


def test_a_build_whose_cells_differ_is_refused() -> None:
    asked = sweep("counting", fixed={"n_images": 4}, vary={"spread": [1, 2]})
    docs: Docs = {
        "spread=1": [{"targets": ["dog"], "gt": "2"}] * 20,
        "spread=2": [{"targets": ["dog"], "gt": "3"}] * 20,
    }
    with pytest.raises(UserError, match="counting_x: the answers differ between the cells"):
        require_balance(asked, balance(asked, docs))
    docs["spread=2"] = [{"targets": ["cat"], "gt": "2"}] * 20
    with pytest.raises(UserError, match="the classes differ between the cells"):
        require_balance(asked, balance(asked, docs))


def test_what_the_sweep_itself_moves_is_not_tested_and_said() -> None:
    natural = sweep("counting", fixed={"split": "unbalanced", "n_images": 4}, vary={"spread": [1, 2]})
    docs: Docs = {f"spread={s}": [{"targets": ["dog"], "gt": str(s)}] * 9 for s in (1, 2)}
    classes, answers = balance(natural, docs)
    assert (classes.pvalue, answers.pvalue) == (1.0, None)
    assert answers.moves == "unbalanced: more target images hold more instances"


def test_a_grid_shows_every_picture_untouched_and_boxes_follow() -> None:
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for w, h in ((8, 6), (10, 4), (6, 9), (10, 9), (3, 3))
    ]
    box = {"class": "a", "x": 1.0, "y": 2.0, "width": 2.0, "height": 1.0}
    flags = {"target": True, "small": False, "crowd": False}
    grid, moved = stitch(pictures, [[{**box, **flags}]] * 5)  # type: ignore[list-item]
    assert grid.size == (30, 18)  # three columns, two rows of tiles of 10 x 9
    for picture, own in zip(pictures, moved, strict=True):
        x, y, w, h = (int(own[key]) for key in ("x", "y", "width", "height"))  # type: ignore[literal-required]
        assert (w, h) == (2, 1)
        assert grid.crop((x, y, x + w, y + h)).tobytes() == picture.crop((1, 2, 3, 3)).tobytes()
    small, moved = stitch(pictures, [[{**box, **flags}]] * 5, max_side=15)  # type: ignore[list-item]
    assert small.size == (15, 9)
    assert moved[0]["width"] == 1.0


def test_downsampling_keeps_the_size_and_drops_detail() -> None:
    board = Image.fromarray(((np.indices((64, 48)).sum(0) % 2) * 255).astype(np.uint8)).convert("RGB")
    low = downsample(board, 4)
    assert low.size == board.size
    assert np.asarray(low).std() < 2  # a fine chessboard becomes grey
    assert np.asarray(low).mean() == pytest.approx(127.5, abs=1)
    data = io.BytesIO()
    board.save(data, "PNG")
    pictures, boxes = Transform(downsample=4).apply([data.getvalue()], [[]])
    assert Image.open(io.BytesIO(pictures[0])).tobytes() == low.tobytes()
    assert boxes == [[]]


@pytest.fixture(scope="module")
def built(scenes: Path, tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    out = tmp_path_factory.mktemp("sweeps") / "out"
    source = ["--annotations", scenes / "annotations/instances_scenes.json", "--images", scenes / "images"]
    done = command("mimic", "sweep", "counting_stitch", "common_n", *source, "--docs", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "answers: no difference between the cells" in done.stdout
    return out


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / name / "test.parquet").to_pylist()
    return found


def test_docs_name_pictures_that_are_stored_once_by_their_bytes(built: Path, scenes: Path) -> None:
    import hashlib

    assert pq.read_schema(built / "common_n/test.parquet").names == ["image_files", *DOC_COLUMNS[1:]]
    named = {
        file
        for name in ("counting_stitch", "common_n")
        for d in rows(built, name)
        for file in d["image_files"]
    }
    assert named == {f"images/{path.name}" for path in (built / "images").iterdir()}
    for path in (built / "images").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    originals = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (scenes / "images").iterdir()}
    for doc in rows(built, "common_n"):
        hashes = [Path(file).stem for file in doc["image_files"]]
        assert set(hashes) <= originals
        assert doc["content_hash"] == content_hash(
            kind="common", question=doc["question"], gt=doc["gt"], image_hashes=hashes
        )


def test_a_stitched_doc_shows_one_picture_and_the_rest_of_it_stays(built: Path) -> None:
    docs = rows(built, "counting_stitch")
    cells = Counter(doc["cell"] for doc in docs)
    assert set(cells.values()) == {5}
    assert len(cells) == 8
    pairs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for doc in docs:
        pairs.setdefault((doc["id"].split("-")[1], doc["n_images"]), []).append(doc)
    for plain, grid in pairs.values():
        assert (len(plain["image_files"]), len(grid["image_files"])) == (plain["n_images"], 1)
        assert [plain[key] for key in ("question", "gt", "image_ids")] == [
            grid[key] for key in ("question", "gt", "image_ids")
        ]
        assert len(grid["boxes"]) == 1
        assert sum(box["target"] for box in grid["boxes"][0]) == int(grid["gt"])


def test_the_same_command_writes_the_same_bytes(
    built: Path, scenes: Path, tmp_path: Path, command: Command
) -> None:
    source = ["--annotations", scenes / "annotations/instances_scenes.json", "--images", scenes / "images"]
    again = tmp_path / "again"
    command("mimic", "sweep", "counting_stitch", "common_n", *source, "--docs", 5, "--out", again)
    for file in (path for path in built.rglob("*") if path.is_file()):
        assert (again / file.relative_to(built)).read_bytes() == file.read_bytes(), file


def test_embed_puts_the_pictures_into_the_docs(built: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "embedded"
    done = command("mimic", "build", "--embed", built, "--out", out)
    assert done.returncode == 0, done.stderr
    before, after = rows(built, "counting_stitch"), rows(out, "counting_stitch")
    for named, held in zip(before, after, strict=True):
        stored = [(built / file).read_bytes() for file in named.pop("image_files")]
        assert [image["bytes"] for image in held.pop("images")] == stored
        assert named == held
    assert not (out / "images").exists()
    assert "mimic_hooks" not in (out / "mimic_common_n.yaml").read_text()
    loaded = datasets.load_dataset(str(out), "common_n", cache_dir=str(tmp_path / "cache"))["test"]
    assert loaded[0]["images"][0].size == (96, 96)
    again = command("mimic", "build", "--embed", out, "--out", tmp_path / "x")
    assert again.returncode == 2
    assert "has no docs that name their pictures" in again.stderr


@pytest.mark.slow
def test_a_sweep_runs_by_our_command_and_upstreams_and_its_figure_is_drawn(
    built: Path, tmp_path: Path, command: Command
) -> None:
    for program, folder in (("lmms_eval", "ours"), ("lmms-eval", "theirs")):
        include = [] if program == "lmms_eval" else ["--include_path", built]
        done = command(
            program, "--tasks", "mimic_common_n", "--model", "llava_ov_mask", "--batch_size", 8, *include,
            "--log_samples", "--output_path", tmp_path / folder, MIMIC_DATA=str(built),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (samples,) = (tmp_path / folder).rglob("*_samples_mimic_common_n.jsonl")
        cells = Counter(json.loads(line)["mimic"]["cell"] for line in samples.read_text().splitlines())
        assert cells == {f"n_images={n}": 5 for n in (2, 3, 4, 6, 8)}
    done = command("mimic", "report", tmp_path / "ours", "--figure")
    assert done.returncode == 0, done.stderr
    svg = (tmp_path / "ours/mimic_common_n.svg").read_text()
    assert "Common against the number of images" in svg
    csv = (tmp_path / "ours/mimic_common_n.csv").read_text()
    assert all(f"n_images={n}" in csv for n in (2, 3, 4, 6, 8))


def test_where_k_varies_every_doc_has_the_same_metrics() -> None:
    doc = {"content_hash": "x", "question": "q", "targets": ["dog", "cat"], "k": 2, "cell": "k=2,n_images=4"}
    two = process_counting({**doc, "gt": "dog: 3, cat: 1"}, ["dog: 3, cat: 2"])
    one = process_counting({**doc, "gt": "3", "targets": ["dog"], "k": 1, "cell": "k=1,n_images=4"}, ["3"])
    assert two.keys() == one.keys() == {"exact_match", "class_accuracy", "unscored", "mimic"}
    assert (two["class_accuracy"], one["class_accuracy"]) == ({"score": 0.5}, {"score": 1.0})


def test_pooling_and_its_pixel_control_ask_the_same(pool: Pool) -> None:
    pooled, pixels = (plan_sweep(read_sweep(f"counting_{name}"), pool) for name in ("pool", "pixels"))
    assert pixels.sweep.cells[3].name == "downsample=1,n_images=16"
    assert [docs[:4] for docs in pixels.sets] == list(pooled.sets)
