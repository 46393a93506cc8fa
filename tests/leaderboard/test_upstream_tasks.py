"""Tasks of lmms-eval that are not ours, in the report and compared, by the scores in their samples.

The samples have the form of lmms-eval 0.7.3 (`evaluator.py`, `evaluation_tracker.py`). GQA's metric is a
number, OCRBench's, POPE's and MMStar's an object with `score`, MMMU's one without. Others are texts.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.arms import read_arm
from leaderboard.comparison import Comparison, compare
from leaderboard.robustness import robustness
from leaderboard.runs import Run, read_runs
from leaderboard.site.build import RunFolder, build_site
from leaderboard.summary import Row, summarize_run, summarize_runs
from leaderboard.upstream import upstream_scores
from mimic_eval.cli.commands import app
from mimic_eval.records import UserError
from stats import equivalent_means, mcnemar_exact, mean_interval, wilson
from tests.makers.runs import NONE, binary

SOURCES = {
    "gqa": "lmms-lab-encoder/GQA",
    "ocrbench": "echo840/OCRBench",
    "mmmu_val": "lmms-lab-encoder/MMMU",
}


def gqa(right: float, name: str = "exact_match") -> dict[str, Any]:
    return {name: float(right)}


def ocrbench(right: float) -> dict[str, Any]:
    item = {
        "question_type": "Scene Text-centric VQA",
        "score": int(right),
        "prediction": "x",
        "ground_truth": ["x"],
    }
    return {"ocrbench_accuracy": item}


def mmmu(right: float) -> dict[str, Any]:
    item = {
        "id": "validation_Art_1",
        "subdomain": "Art",
        "question_type": "open",
        "answer": "A",
        "parsed_pred": ["A"],
    }
    return {"mmmu_acc": item, "mmmu_acc_pass_at_k": item, "submission": {"validation_Art_1": "A"}}


def docvqa(right: float) -> dict[str, Any]:
    return {"anls": right, "relaxed": f"{right}", "per_box": [right, right]}


def pope(right: float) -> dict[str, Any]:
    item = {"question_id": "1", "score": right, "prediction": "yes", "ground_truth": "yes"}
    return {"pope_accuracy": item, "pope_f1_score": item}


def write(
    folder: Path,
    task: str,
    entries: Sequence[dict[str, Any]],
    *,
    model: str = "qwen2_vl",
    reported: dict[str, Any] | None = None,
    better: dict[str, bool] | None = None,
    **sample: Any,
) -> Path:
    """A run of one task as upstream's own command leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(name for entry in entries for name in entry if name != "submission")
    scores: dict[str, Any] = {"alias": task, **{f"{name},none": 0.5 for name in names}}
    scores |= {f"{name},none": value for name, value in (reported or {}).items()}
    scores["exact_match_stderr,none"] = "N/A"
    results = {
        "results": {task: scores},
        "group_subtasks": {task: []},
        "configs": {task: {"dataset_path": SOURCES.get(task), "metadata": [{"version": 0.0}]}},
        "higher_is_better": {task: better or dict.fromkeys(names, True)},
        "n-samples": {task: {"original": 100, "effective": len(entries)}},
        "config": {"model": model, "model_args": f"pretrained=org/{model}"},
    }
    (folder / "1_results.json").write_text(json.dumps(results))
    rows = [
        {"doc_id": i, "target": f"answer {i}", "filtered_resps": f"said {i}", "token_counts": [None],
         "doc_hash": "the same", **entry, "input": f"Question {i}", **sample}
        for i, entry in enumerate(entries)
    ]  # fmt: skip
    (folder / f"1_samples_{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def only(folder: Path) -> Run:
    (run,) = read_runs(folder)
    return run


def rows_of(folder: Path) -> list[Row]:
    return summarize_runs(read_runs(folder))


RIGHTS = [float(i % 3 > 0) for i in range(12)]


@pytest.mark.parametrize(
    ("task", "form", "metric"),
    [
        ("gqa", gqa, "exact_match"),
        ("ocrbench", ocrbench, "ocrbench_accuracy"),
        ("pope", pope, "pope_accuracy"),
    ],
)
def test_scores_of_0_and_1_are_shares_with_wilsons_interval(
    task: str, form: Callable[[float], dict[str, Any]], metric: str, tmp_path: Path
) -> None:
    write(tmp_path, task, list(map(form, RIGHTS)), reported={metric: 8 / 12})
    (row,) = rows_of(tmp_path)
    want = wilson(8, 12)
    assert (row.task, row.metric, row.n, row.docs, row.unscored) == (task, metric, 12, 100, 0)
    assert (row.score, row.low, row.high) == (want.estimate, want.low, want.high)
    assert (row.model, row.checkpoint, row.mask) == ("qwen2_vl", "org/qwen2_vl", "-")
    assert row.data == (SOURCES.get(task) or "unknown")
    assert summarize_run(only(tmp_path)) == []  # the table after a run is of our tasks


def test_other_scores_are_graded(tmp_path: Path) -> None:
    values = [0.25, 1.0, 0.0, 0.5] * 3
    write(tmp_path, "docvqa_val", list(map(docvqa, values)), reported={"anls": 0.4375})
    (row,) = rows_of(tmp_path)
    want = mean_interval(values)
    assert (row.metric, row.score, row.low, row.high) == ("anls", want.estimate, want.low, want.high)
    notes = upstream_scores(only(tmp_path))[1]
    where = f"{tmp_path / '1_results.json'}: left out: docvqa_val"
    assert notes == [
        f"{where} relaxed: its samples hold '0.25': no score for each doc",
        f"{where} per_box: its samples hold [0.25, 0.25]: no score for each doc",
    ]


def test_a_metric_without_a_score_for_each_doc_is_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, "mmmu_val", list(map(mmmu, RIGHTS)))
    found, notes = upstream_scores(only(tmp_path))
    assert found == []
    assert [note.partition("left out: ")[2] for note in notes] == [
        f"mmmu_val {name}: its samples hold id, subdomain, question_type, answer, parsed_pred: no score for "
        "each doc"
        for name in ("mmmu_acc", "mmmu_acc_pass_at_k")
    ]
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "evaluated no MIMIC task; " in str(done.exception)
    assert "mmmu_val mmmu_acc: its samples hold id" in str(done.exception)
    with pytest.raises(UserError, match=r"evaluated no MIMIC task; .*mmmu_val mmmu_acc: its samples hold id"):
        read_arm(tmp_path)


def test_metrics_that_log_the_same_for_every_doc_are_one_row(tmp_path: Path) -> None:
    """POPE logs one score for accuracy, precision, recall, F1 and the yes ratio: 0.667 was no F1."""
    write(tmp_path, "pope", list(map(pope, RIGHTS)), reported={"pope_accuracy": 8 / 12, "pope_f1_score": 0.8})
    assert [row.metric for row in rows_of(tmp_path)] == ["pope_accuracy"]
    (note,) = upstream_scores(only(tmp_path))[1]
    assert note.endswith("pope pope_f1_score: logs the same for each doc as pope_accuracy")


def test_a_value_that_is_made_otherwise_is_named(tmp_path: Path) -> None:
    write(tmp_path, "ocrbench", list(map(ocrbench, RIGHTS)), reported={"ocrbench_accuracy": 0.008})
    assert [row.metric for row in rows_of(tmp_path)] == ["ocrbench_accuracy (mean of docs)"]
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert "(mean of docs): lmms-eval reports another aggregate of this metric." in done.output


def test_docs_without_the_metric_and_docs_without_a_score(tmp_path: Path) -> None:
    """MMStar: each doc has its category's metric and the average; a judge that failed gives null or NaN."""
    entries = [{"math": {"score": 1.0}, "average": {"score": 1.0}}] * 3 + [{"average": {"score": None}}] * 2
    write(tmp_path, "mmstar", [*entries, {"average": float("nan")}, {"average": 0.5}])
    rows = {row.metric.split()[0]: row for row in rows_of(tmp_path)}
    assert [(rows[name].n, rows[name].docs, rows[name].unscored) for name in ("math", "average")] == [
        (3, 3, 0),
        (4, 100, 3),
    ]
    assert rows["average"].score == pytest.approx(3.5 / 4)


def test_scores_beyond_0_and_1_and_docs_of_several_filters_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a", "mmvet", [{"gpt": 4.5, "huge": 10**400}, {"gpt": 87.5, "huge": 0}])
    run = write(tmp_path / "b", "gqa", [gqa(1), gqa(0)], reported={"exact_match": 0.5}, doc_id=0)
    scores = json.loads((run / "1_results.json").read_text())
    scores["results"]["gqa"]["exact_match,flexible"] = 0.5
    scores["n-samples"]["gqa"]["effective"] = 1
    (run / "1_results.json").write_text(json.dumps(scores))
    told = [
        note.partition("left out: ")[2] for run in read_runs(tmp_path) for note in upstream_scores(run)[1]
    ]
    assert told == [
        "mmvet gpt: scores from 4.5 to 87.5, not within 0-1",
        f"mmvet huge: its samples hold {'1' + 39 * '0'}: no score for each doc",
        "gqa: a doc is logged more than once (by several filters)",
    ]


# Compared


def two(
    tmp_path: Path, a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]], *, of_b: Any = None, **more: Any
) -> Comparison:
    one = write(tmp_path / "a", "gqa", a, **more)
    other = write(tmp_path / "b", "gqa", b, model="llava_hf", **more | (of_b or {}))
    return compare([read_arm(one), read_arm(other)])


LEFT = [gqa(i < 4) for i in range(20)]
RIGHT = [gqa(i < 14) for i in range(20)]


def test_two_models_on_gqa_are_compared_by_mcnemars_test(tmp_path: Path) -> None:
    (row,) = two(tmp_path, LEFT, RIGHT).rows
    assert (row.task, row.n, row.score_a.estimate, row.score_b.estimate) == ("gqa", 20, 0.2, 0.7)
    assert row.metric == "exact_match (mean of docs)"
    assert row.pvalue == pytest.approx(mcnemar_exact(0, 10).pvalue, abs=0.01)
    assert row.test.startswith("McNemar")
    assert row.verdict == "better"
    assert row.flips.estimate == 0
    assert row.new_images.method == "not estimable: the samples do not name their images"


def test_where_lower_is_better_a_higher_score_is_worse(tmp_path: Path) -> None:
    (row,) = two(tmp_path, LEFT, RIGHT, better={"exact_match": False}).rows
    assert row.verdict == "worse"
    assert "llava_hf" in row.sentence
    assert row.sentence.startswith("gqa exact_match: llava_hf, org/llava_hf 70.0 % vs qwen2_vl, org/qwen2_vl")
    assert row.sentence.endswith(": worse (lower is better)")


def test_other_targets_are_other_docs_and_other_prompts_are_said(tmp_path: Path) -> None:
    found = two(tmp_path / "p", LEFT, RIGHT, of_b={"input": "Answer briefly."})
    assert found.rows[0].n == 20
    assert (
        f"gqa exact_match: 20 docs had another prompt in {tmp_path / 'p/a'} than in {tmp_path / 'p/b'}"
        in found.notes
    )
    with pytest.raises(UserError, match=r"ran gqa on different docs: 20 only in .*a \(doc 0, 1, 2"):
        two(tmp_path / "t", LEFT, RIGHT, of_b={"target": "other"})
    with pytest.raises(
        UserError, match="ran gqa on different docs"
    ):  # without targets the prompt tells docs apart
        two(tmp_path / "n", LEFT, RIGHT, target="", of_b={"input": "Answer briefly."})


def test_several_metrics_and_our_tasks_are_compared_in_one_family(tmp_path: Path) -> None:
    def both(rights: Sequence[float]) -> list[dict[str, Any]]:
        return [{**gqa(right), **docvqa(right / 2)} for right in rights]

    folders = []
    for name, rights in (("a", [0.0] * 10), ("b", [1.0] * 10)):
        folder = write(tmp_path / name, "gqa", both(rights), model="llava_ov_mask")
        data = json.loads((folder / "1_results.json").read_text())
        data["results"]["mimic_counting"] = {"exact_match,none": 0.5}
        data["mimic"] = {"run": {**NONE, "pool": len(folders) + 1}}
        (folder / "1_results.json").write_text(json.dumps(data))
        rows = [json.dumps(binary(i, bool(right))) + "\n" for i, right in enumerate(rights)]
        (folder / "1_samples_mimic_counting.jsonl").write_text("".join(rows))
        folders.append(folder)
    found = compare([read_arm(folder) for folder in folders])
    assert [(row.task, row.metric.split(" (")[0], row.family) for row in found.rows] == [
        ("gqa", "exact_match", 3),
        ("gqa", "anls", 3),
        ("mimic_counting", "exact match", 3),
    ]
    assert any("gqa relaxed: its samples hold '0.0'" in note for note in found.notes)


def site(out: Path, *folders: Path) -> dict[str, Any]:
    """A site of some runs: its boards by task."""
    build_site([RunFolder(folder) for folder in folders], out, sources=(), title="Made")
    boards = [json.loads(file.read_text()) for file in (out / "data/boards").glob("*.json")]
    return {board["task"]: board for board in boards}


def test_the_site_ranks_models_on_tasks_that_are_not_ours(tmp_path: Path) -> None:
    """Before, a folder of such runs was refused: "its runs evaluated no MIMIC task"."""
    a = write(tmp_path / "a", "gqa", [gqa(i < 10) for i in range(40)])
    b = write(tmp_path / "b", "gqa", [gqa(i < 30) for i in range(40)], model="llava_hf")
    boards = site(tmp_path / "site", a, b)
    (name,) = boards
    assert name == "gqa exact_match"
    board = boards[name]
    assert [one["rows"][0]["score"] for one in board["standings"]] == [0.75, 0.25]
    assert [one["rank"] for one in board["standings"]] == [{"best": 1, "worst": 1}, {"best": 2, "worst": 2}]
    assert board["data"] == "lmms-lab-encoder/GQA"
    (line,) = csv.DictReader((tmp_path / f"site/csv/tasks/{board['id']}.pairs.csv").open())
    assert float(line["p"]) == pytest.approx(mcnemar_exact(20, 0).pvalue)
    assert line["test"].startswith("McNemar exact")
    docs = (tmp_path / f"site/docs/{board['id']}-1.html").read_text()
    assert "Question 3" in docs
    assert "<strong>answer 3</strong>" in docs
    assert "said 3" in docs
    assert "gqa exact_match" in (tmp_path / "site/index.html").read_text()


def test_on_the_site_graded_metrics_are_means_and_lower_can_be_better(tmp_path: Path) -> None:
    entries = [[{"wer": 0.2 + 0.01 * (i % 3)} for i in range(30)], [{"wer": 0.6} for i in range(30)]]
    entries[0][0]["wer"] = float("nan")  # unscored: the worst, 1
    runs = [
        write(tmp_path / name, "words", rows, model=name, better={"wer": False})
        for name, rows in zip("ab", entries, strict=True)
    ]
    boards = site(tmp_path / "site", *runs)
    board = boards["words wer"]
    first, second = board["standings"]
    assert first["rows"][0]["score"] == pytest.approx(0.21, abs=0.01)
    assert first["score_with_unscored_as_wrong"] == pytest.approx((29 * first["rows"][0]["score"] + 1) / 30)
    assert (first["rank"]["best"], second["rank"]["best"]) == (1, 2)
    page = (tmp_path / f"site/tasks/{board['id']}.html").read_text()
    assert "metric wer (mean of docs) (lower is better)" in page
    assert "paired sign-flip permutation" in page


def test_the_site_says_what_it_leaves_out(tmp_path: Path) -> None:
    left = write(tmp_path / "a", "mmmu_val", [mmmu(1) for _ in range(5)])
    kept = write(tmp_path / "b", "gqa", [gqa(1) for _ in range(5)])
    assert set(site(tmp_path / "site", kept)) == {"gqa exact_match"}
    with pytest.raises(UserError, match="left out: mmmu_val mmmu_acc: its samples hold id"):
        site(tmp_path / "other", left)


def in_order(folder: Path, order: str | None, entries: Sequence[dict[str, Any]], mask: str = "none") -> Path:
    """A run of GQA by one of our models."""
    write(folder, "gqa", entries, model="qwen2_vl_mask")
    (file,) = folder.glob("*_results.json")
    told = json.loads(file.read_text())
    told["mimic"] = {"run": {"checkpoint": "m", "mask": mask, **({"order": order} if order else {})}}
    file.write_text(json.dumps(told))
    return folder


def test_runs_that_differ_in_the_image_order_give_order_effects_of_any_task(tmp_path: Path) -> None:
    rights = [(True, True)] * 60 + [(True, False)] * 4 + [(False, True)] * 3 + [(False, False)] * 33
    folders = [
        in_order(tmp_path / "reversed", "reversed", [gqa(b) for _, b in rights]),
        in_order(tmp_path / "fixed", None, [gqa(a) for a, _ in rights]),
    ]
    (samples,) = folders[0].glob("*_samples_*.jsonl")
    samples.write_text(samples.read_text().replace('"said 7"', '"said otherwise"'))
    report = robustness([read_arm(folder) for folder in folders], margin=0.08)
    (row,) = report.rows
    assert (row.task, row.n, row.orders) == ("gqa exact_match", 100, "order=fixed, reversed")
    assert row.score.estimate == pytest.approx((64 + 63) / 200)
    assert row.consistent.estimate == 0.6
    assert row.any_change.estimate == 0.01, "by the answers, not by their scores"
    assert (row.placed, row.slope) == (0, None)
    last, others = report.effects
    assert last.verdict is None
    want = equivalent_means([float(b) - float(a) for a, b in rights], margin=0.08)
    assert others.verdict is not None
    assert others.verdict.estimate == pytest.approx(-0.01)
    assert (others.verdict.pvalue, others.verdict.equivalent) == (want.pvalue, True)

    masked = [
        in_order(tmp_path / f"block{order}", order, [gqa(a) for a, _ in rights], mask="block")
        for order in ("fixed", "reversed")
    ]
    two = robustness([read_arm(folder) for folder in (*folders, *masked)])
    assert [one.run for one in two.rows] == ["none", "block"]
    assert {one.measure for one in two.tests} >= {"pairwise disagreement", "score"}
    seeded = in_order(tmp_path / "s", "seeded:1", [gqa(a) for a, _ in rights], mask="block")
    fewer = in_order(tmp_path / "few", "seeded:1", [gqa(1) for _ in rights[:9]])
    for given, message in (
        ((*folders, masked[0], seeded), "under different image orders"),
        ((folders[1], fewer), "ran gqa exact_match on different docs"),
    ):
        arms = [read_arm(folder) for folder in given]
        with pytest.raises(UserError, match=message):
            robustness(arms)
    with pytest.raises(UserError, match=r"or give runs of one model that differ in order= only"):
        robustness([read_arm(folders[0])])
