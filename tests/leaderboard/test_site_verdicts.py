"""The site says what the commands say: the same test, interval, verdict and words for the same two runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import compare
from leaderboard.robustness import robustness
from leaderboard.site.build import RunFolder, build_site
from tests.makers.runs import BLOCK, NONE, binary, listing, permuted, write_run

ORDERS = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
METRICS = {
    "mimic_counting": "exact_match", "mimic_common": "exact_match", "mimic_counting_n": "exact_match",
    "mimic_listing": "f1", "mimic_counting_permuted": "exact_match_over_orders",
}  # fmt: skip


def tasks(skill: int) -> dict[str, list[dict[str, Any]]]:
    """One run of each task; a larger `skill` is better, but in Common, where both are alike."""
    sets = [(i, j) for i in range(20) for j in range(3)]
    good = skill < 5  # Listing: exact but for 12 docs with 20 made-up names; the other is wrong in most
    return {
        "mimic_counting": [binary(i, i % 10 < skill, gt="1") for i in range(80)],
        "mimic_common": [binary(i, i % 3 > 0 or i == 3 * skill, gt="1") for i in range(40)],
        "mimic_counting_n": [
            binary(3 * i + j, i % 10 < skill - j, gt="1", cell=f"n_images={2 + j}", n_images=2 + j)
            for i, j in sets
        ],
        "mimic_listing": [
            listing(i, (2, 2 + (20 if good and i < 12 else not good and i >= 12), 2), ["cat"], gt="cat, dog")
            for i in range(60)
        ],
        "mimic_counting_permuted": [
            one
            for d in range(30)
            for one in permuted(d, ORDERS, (True, d % 10 < skill, True), n_images=3, gt=str(d))
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    at = tmp_path_factory.mktemp("site")
    folders = []
    for name, skill, settings in (("none", 3, NONE), ("block", 8, BLOCK)):
        folders.append(at / name)
        for task, samples in tasks(skill).items():
            metrics = (METRICS[task],)
            write_run(at / name / task, {task: samples}, settings, metrics=metrics)
    build_site([RunFolder(folder) for folder in folders], at / "site", sources=(), title="Made")
    return at / "site", folders


def boards(site: Path, task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record of a task's board, and the one that the head-to-head page reads."""
    for file in sorted((site / "data/boards").glob("*.json")):
        board = json.loads(file.read_text())
        if board["task"] == task:
            return board, json.loads(file.with_suffix(".js").read_text().split("\n")[1])
    raise AssertionError(task)


@pytest.mark.parametrize("task", list(METRICS))
def test_a_board_has_the_test_and_the_words_of_compare(made: tuple[Path, list[Path]], task: str) -> None:
    site, folders = made
    (row,) = compare([read_arm(folder / task) for folder in folders]).rows
    board, record = boards(site, task)
    labels = {one["entry"]: one["label"] for one in board["standings"]}
    _, b, delta, low, high, method, tested, verdict, words = record["tests"][0]
    turn = 1 if "block" in labels[b] else -1
    assert turn * delta == pytest.approx(row.delta.estimate)
    assert sorted((turn * low, turn * high)) == pytest.approx([row.delta.low, row.delta.high])
    assert method == row.delta.method
    opposite = {"better": "worse", "worse": "better"}
    turned = opposite.get(verdict, verdict) if turn == -1 else verdict
    assert turned == row.verdict
    assert row.sentence.startswith(f"{record['what']}: ")
    assert row.sentence.endswith(f"; {tested}): {turned if verdict in opposite else words}")
    scores = {labels[entry]: score for entry, score in record["scores"].items()}
    assert scores["m · block 3-5"] == pytest.approx(row.score_b.estimate)


def test_the_verdicts_are_of_every_kind(made: tuple[Path, list[Path]]) -> None:
    _, folders = made
    rows = {row.task: row.verdict for row in compare([read_arm(folder) for folder in folders]).rows}
    assert rows["mimic_counting"] == rows["mimic_counting_n"] == "better"
    assert rows["mimic_common"] == "no difference shown"
    assert rows["mimic_listing"] == "no verdict"


def test_flips_have_the_test_and_the_words_of_robustness(made: tuple[Path, list[Path]]) -> None:
    site, folders = made
    task = "mimic_counting_permuted"
    tests = robustness([read_arm(folder / task) for folder in folders]).tests
    (primary,) = (test for test in tests if test.pvalue is not None)
    (flips,) = boards(site, task)[1]["flips"]
    assert abs(flips[2]) == pytest.approx(-primary.delta.estimate)  # disagreement falls as agreement rises
    assert primary.verdict == "steadier"
    assert flips[7] == ("steadier" if flips[2] > 0 else "less steady")
    assert f"; {flips[6]}): " in primary.sentence


def test_an_entry_is_not_listed_as_better_where_there_is_no_verdict(made: tuple[Path, list[Path]]) -> None:
    """The pages of both models named the other as better or worse, whatever the ranks said."""
    site, _ = made
    board, _ = boards(site, "mimic_listing")
    assert [one["rank"] for one in board["standings"]] == [{"best": 1, "worst": 2}] * 2
    pages = [file.read_text() for file in (site / "models").glob("*.html")]
    assert len(pages) == 2
    for page in pages:
        section = page[page.index(f'<h2 id="{board["id"]}">') :].split("</section>")[0]
        assert "0 shown to be better; 0 shown to be worse" in " ".join(section.split())
