"""Accuracy by position of the order suite, from logged samples to the reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.constant_answers import constant_of
from leaderboard.robustness import Robustness, robustness
from leaderboard.robustness_output import render_json, render_markdown, render_text
from leaderboard.runs import read_run
from leaderboard.site.results import summarize_results
from leaderboard.sub_tasks import summarize_sub_tasks
from leaderboard.summary import summarize_run
from mimic_eval.records import read_samples
from mimic_tasks import lmms_hooks
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.permuted import hooks
from mimic_tasks.truth import FolderTruth
from tests.makers.docs_runs import docs_in
from tests.makers.runs import NONE, write_run

METRICS = {"pqa": ("mean_score", "exact_list"), "retrieval": ("exact_match",)}
Answer = Callable[[Any], str]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    """Each embedded doc in its four cyclic orders, as the permuted tasks show it."""
    truth, docs = FolderTruth([EMBEDDED]), docs_in(EMBEDDED)
    return {
        kind: [truth._row(f"mimic_{kind}", doc, "cyclic", 0, i) for doc in docs[kind] for i in range(4)]
        for kind in METRICS
    }


def run(folder: Path, kind: str, own: list[dict[str, Any]], answer: Answer, *, permuted: bool) -> Path:
    process = getattr(hooks if permuted else lmms_hooks, f"process_{kind}")
    samples = [{"doc_id": i, **process(doc, [answer(doc)])} for i, doc in enumerate(own)]
    task = f"mimic_{kind}{'_permuted' if permuted else ''}"
    metrics = [f"{name}{'_over_orders' if permuted else ''}" for name in METRICS[kind]]
    return write_run(folder, {task: samples}, NONE, metrics=[*metrics, "docs"] if permuted else metrics)


def measured(folder: Path) -> Robustness:
    (row,) = robustness([read_arm(folder)]).rows
    return row


def truth_of(doc: Any) -> str:
    return str(doc["gt"])


@pytest.mark.parametrize("kind", METRICS)
def test_right_answers_do_not_depend_on_the_order(kind: str, rows: Any, tmp_path: Path) -> None:
    row = measured(run(tmp_path, kind, rows[kind], truth_of, permuted=True))
    assert (row.n, row.placed, row.score.estimate) == (24, 24, 1.0)
    assert (row.consistent.estimate, row.any_change.estimate, row.disagreement.estimate) == (1.0, 0.0, 0.0)
    assert row.deviation is not None
    assert (row.deviation.estimate, row.deviation.expected) == (0.0, 0.0)


def test_one_number_in_every_order_names_another_picture_each_time(rows: Any, tmp_path: Path) -> None:
    """Compared as numbers, no answer would change."""
    folder = run(tmp_path, "retrieval", rows["retrieval"], lambda doc: "Image 2", permuted=True)
    report = robustness([read_arm(folder)])
    (row,) = report.rows
    assert (row.score.estimate, row.any_change.estimate, row.disagreement.estimate) == (0.25, 1.0, 1.0)
    at = {point.place: point.score.estimate for point in row.places if point.n_images == 4}
    assert at == {"1": 0.0, "2": 1.0, "3": 0.0, "4": 0.0}
    assert row.deviation is not None
    assert row.deviation.estimate == pytest.approx(3**0.5)  # of 0, 1, 0, 0: deviation 0.433, mean 0.25
    assert row.deviation.expected is not None
    assert 0.1 < row.deviation.expected < 0.7
    text = " ".join(render_text(report, "out").split())
    assert "of 4 images 1: 0.0, 2: 100.0, 3: 0.0, 4: 0.0; relative standard deviation" in text
    assert "over positions 173.2 %" in text
    assert '"expected"' in render_json(report)


def test_entries_are_compared_picture_by_picture(rows: Any, tmp_path: Path) -> None:
    """Each picture is answered as the one with yes in 1 of 4 orders: 3 of 6 pairs of orders differ."""
    row = measured(run(tmp_path, "pqa", rows["pqa"], lambda doc: "yes, no, no, no", permuted=True))
    assert (row.any_change.estimate, row.disagreement.estimate) == (1.0, 0.5)
    assert row.score.estimate == pytest.approx(0.5)
    assert "each image of 24 docs" in render_markdown(robustness([read_arm(tmp_path)]))


def test_entries_by_position(rows: Any, tmp_path: Path) -> None:
    """Right at the first two positions, no at the others, where half of the pictures show the class."""

    def answer(doc: Any) -> str:
        return ", ".join([*doc["gt"].split(", ")[:2], "no", "no"])

    row = measured(run(tmp_path, "pqa", rows["pqa"], answer, permuted=True))
    at = [point.score.estimate for point in row.places if point.n_images == 4]
    assert at == pytest.approx([1, 1, 0.5, 0.5])
    assert row.slope is not None
    assert row.slope.estimate < -0.5
    assert row.recency is not None
    assert row.recency.estimate == pytest.approx(-0.5)


def test_a_plain_run_has_its_metrics_and_rows_by_position(rows: Any, tmp_path: Path) -> None:
    for kind, answer in (("pqa", "yes, yes, yes, no"), ("retrieval", "1")):
        plain = [row for row in rows[kind] if row["order_index"] == 0]
        folder = run(tmp_path / kind, kind, plain, lambda doc, said=answer: said, permuted=False)
        path = next(folder.glob("*_results.json"))
        ours = summarize_run(read_run(path))
        assert [row.metric for row in ours] == list(METRICS[kind])
        assert (ours[0].n, ours[0].score) == (24, 0.5 if kind == "pqa" else 0.25)
        by_position = summarize_sub_tasks([read_run(path)])
        assert [row.task for row in by_position] == [f"mimic_{kind} / image {i} of 4" for i in range(1, 5)]
        assert all(row.low is not None for row in by_position)
        assert [(row.n, row.score) for row in by_position] == (
            [(24, 0.5)] * 4 if kind == "pqa" else [(6, 1.0), (6, 0.0), (6, 0.0), (6, 0.0)]
        )
        samples = read_samples(read_run(path).samples[f"mimic_{kind}"], path)
        entries = [lmms_hooks.entries_of(sample)[lmms_hooks.POSITION_RSD] for sample in samples]
        spread = lmms_hooks.aggregate_position_rsd(entries)
        assert spread == pytest.approx(0.0 if kind == "pqa" else 3**0.5)
        assert constant_of(METRICS[kind][0], samples) == (0.5 if kind == "pqa" else 0.25)


def test_without_a_right_answer_there_is_no_deviation() -> None:
    assert lmms_hooks.aggregate_position_rsd([{"position_scores": [None, 0.0]}, {}]) is None
    assert lmms_hooks.aggregate_position_rsd([{}]) is None


def test_the_site_reads_a_permuted_run_with_its_constant_answer(rows: Any, tmp_path: Path) -> None:
    """A constant number is right in one of four cyclic orders, whichever the doc."""
    folder = run(tmp_path, "retrieval", rows["retrieval"], truth_of, permuted=True)
    (logged,), _ = summarize_results(read_run(next(folder.glob("*_results.json"))), "0" * 64)
    assert (logged.result.constant, logged.result.headline.score) == (0.25, 1.0)
    assert logged.result.robustness is not None
    assert logged.result.robustness["deviation"]["estimate"] == 0.0
