"""`mimic do-no-harm`: lmms-eval's single-image tasks, a base run against a masked one.

Samples have the form that lmms-eval 0.7.3 logs; SEED-Bench and MMBench are scored when it aggregates.
"""

import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.aggregated import _upstream, scored_rows
from leaderboard.arms import read_arm
from leaderboard.runs import read_runs
from leaderboard.single_image import SINGLE_IMAGE, do_no_harm, summary_line, task_names
from leaderboard.upstream import upstream_scores
from mimic_eval.cli.commands import app
from mimic_eval.records import UserError
from stats import equivalent_shares, mcnemar_exact
from tests.leaderboard.test_upstream_tasks import gqa, write
from tests.makers.runs import NONE

UPSTREAM = Path(str(_upstream("seedbench/utils").__file__)).parents[1]


def seed(answer: str, *, kind: str = "image", truth: str = "A") -> dict[str, Any]:
    scored: dict[str, Any] = _upstream("seedbench/utils").seed_process_result(
        {"answer": truth, "data_type": kind, "question_id": "q"}, [answer]
    )
    return scored


def mmbench(index: int, answer: str, truth: str, options: Sequence[str | None] = ()) -> dict[str, Any]:
    """As `mmbench_process_results` logs it."""
    names = dict(zip("ABCDE", [*options, *["nan"] * 5], strict=False))
    item = {"index": index, "question": "Which?", "answer": truth, "prediction": answer, "hint": "nan",
            "source": "x", "split": "dev", "category": "c", "L2-category": "l", **names}  # fmt: skip
    return {"gpt_eval_score": item, "submission": item}


def mme(question: str, right: bool, category: str = "count") -> dict[str, Any]:
    scored: dict[str, Any] = _upstream("mme/utils").mme_process_results(
        {"answer": "Yes", "category": category, "question_id": question}, ["yes" if right else "No."]
    )
    return scored


def run_of(folder: Path, mask: str, tasks: dict[str, list[dict[str, Any]]]) -> Path:
    """A run of one of our models on several of upstream's tasks."""
    for task, entries in tasks.items():
        write(folder / task, task, entries, model="qwen2_vl_mask")
        file = folder / task / "1_results.json"
        results = json.loads(file.read_text())
        results["mimic"] = {"run": {**NONE, "mask": mask}}
        file.write_text(json.dumps(results))
    return folder


def shares(count: int, of: int) -> list[dict[str, Any]]:
    return [gqa(i < count) for i in range(of)]


def test_the_group_names_tasks_that_lmms_eval_has() -> None:
    texts = [file.read_text() for file in UPSTREAM.glob("*/*.yaml")]
    declared = {
        line.partition(":")[2].strip(" \"'")
        for text in texts
        for line in text.splitlines()
        if line.startswith("task:")
    }
    assert set(task_names(lite=False)) <= declared
    assert set(task_names(lite=True)) <= declared
    assert "gqa_lite" in task_names(lite=True)
    for one in SINGLE_IMAGE:
        (text,) = [text for text in texts if one.task in _tasks(text)]
        assert all(f"metric: {metric}\n" in text for metric in one.metrics), one.task


def _tasks(text: str) -> list[str]:
    return [line[5:].strip(" \"'") for line in text.splitlines() if line.startswith("task:")]


def test_the_names_are_one_word_for_the_command_line() -> None:
    done = CliRunner().invoke(app, ["do-no-harm", "--tasks"])
    assert done.output.strip().split(",") == task_names(lite=False)
    listed = CliRunner().invoke(app, ["do-no-harm", "--list", "--lite"]).output
    assert "seedbench_lite         seed_image" in listed
    assert "mmbench_en_dev_static" in listed


def test_seedbenchs_docs_are_scored_as_its_aggregation_scores_them(tmp_path: Path) -> None:
    """Before: "its samples hold pred, answer, question_id: no score for each doc"."""
    draw = random.Random(0)
    answers = [draw.choice(["A", "a", "B.", " A. dog", "", "C", "apple"]) for _ in range(60)]
    entries = [seed(one, kind="video" if i % 5 == 0 else "image") for i, one in enumerate(answers)]
    write(tmp_path, "seedbench", entries)
    scores = {one.metric.split()[0]: one for one in upstream_scores(read_runs(tmp_path)[0])[0]}
    for name in ("seed_image", "seed_video", "seed_all"):
        logged = [entry[name] for entry in entries if name in entry]
        want = _upstream("seedbench/utils").seed_aggregation_result(logged)
        assert sum(scores[name].values) / len(logged) == pytest.approx(want)
    assert (scores["seed_image"].docs, scores["seed_video"].docs) == (48, 12)


OPTIONS = ("cat", "a dog", "nan", None)
ANSWERS = ("A", "B", "B.", "(A)", "The answer is B", "a dog", "banana", "cat or a dog",
           "A dog is here, surely", "", "A B", "answer: C", "b", "Neither")  # fmt: skip


def test_mmbenchs_questions_are_scored_as_the_evaluator_without_a_judge_scores_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each question counts once, right if all of its rotations are: its 4 docs were no 4 results."""
    name = "lmms_eval.tasks._task_utils.mcq_extract"  # else lmms_eval is imported, 15 s
    monkeypatch.setitem(sys.modules, name, _upstream("_task_utils/mcq_extract"))
    draw = random.Random(1)
    outcomes = set()
    for _ in range(150):
        index, rotations = draw.randrange(1000), draw.randint(1, 3)
        entries = [
            mmbench(
                index + i * 1_000_000,
                draw.choice(ANSWERS),
                draw.choice("AB"),
                draw.sample(OPTIONS[:2], 2) + list(OPTIONS[2:]),
            )
            for i in range(rotations)
        ]
        (row,), merged = scored_rows("mmbench_en_dev_static", entries, "file")
        evaluator = _upstream("mmbench/mmbench_evals").MMBench_Evaluator()
        want, *_ = evaluator.eval_result([entry["gpt_eval_score"] for entry in entries], "static")
        assert row["gpt_eval_score"]["score"] == want, entries
        assert merged is (rotations > 1)
        outcomes.add((rotations > 1, want))
    assert len(outcomes) == 4

    orphan = mmbench(7 + 1_000_000, "A", "A", OPTIONS)  # a limited run without the question itself
    write(tmp_path, "mmbench_en_dev_static", [mmbench(i, "A", "A", OPTIONS) for i in range(3)] + [orphan])
    (scores,), _ = upstream_scores(read_runs(tmp_path)[0])
    assert scores.values == [1, 1, 1]


def test_a_broken_sample_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, "seedbench", [{"seed_image": {"pred": None, "answer": "A"}}])
    with pytest.raises(UserError, match=r"samples_seedbench\.jsonl: not in the form of seedbench's samples"):
        read_arm(tmp_path)


def made(tmp_path: Path) -> tuple[Path, Path]:
    """800 docs each: GQA the same but for two docs, SEED-Bench worse by 10 points, MME mixed, POPE beside."""
    n = 800
    base = run_of(
        tmp_path / "none",
        "none",
        {
            "gqa": shares(500, n),
            "seedbench": [seed("A" if i < 600 else "B") for i in range(n)],
            "mme": [mme(f"{i // 2}", i % 3 > 0, "OCR" if i < 40 else "code_reasoning") for i in range(60)],
            "textvqa_val": [{"exact_match": 0.3 * (i % 3)} for i in range(20)],
            "pope": [gqa(1)] * 5,
        },
    )
    masked = run_of(
        tmp_path / "block",
        "block",
        {
            "gqa": [gqa(0 < i < 501) for i in range(n)],
            "seedbench": [seed("A" if i < 520 else "B") for i in range(n)],
            "mme": [mme(f"{i // 2}", i % 4 > 0, "OCR" if i < 40 else "code_reasoning") for i in range(60)],
            "pope": [gqa(0)] * 5,
        },
    )
    return base, masked


def test_base_and_masked_have_one_row_a_metric_with_its_test_and_its_equivalence(tmp_path: Path) -> None:
    base, masked = made(tmp_path)
    report = do_no_harm(read_arm(base), read_arm(masked), margin=0.01)
    rows = {(row.task, row.metric.split(" (")[0]): row for row in report.rows}
    assert list(rows) == [
        ("gqa", "exact_match"),
        ("mme", "mme_perception_score"),
        ("mme", "mme_cognition_score"),
        ("seedbench", "seed_image"),
    ]  # not POPE, which both ran
    assert {row.family for row in report.rows} == {4}
    same, worse = rows["gqa", "exact_match"], rows["seedbench", "seed_image"]
    assert (same.n, same.score_a.estimate, same.delta.estimate) == (800, 0.625, 0)
    want = equivalent_shares(499, 1, 1, 299, margin=0.01)
    assert same.equivalence is not None
    assert (same.equivalence.pvalue, same.equivalence.equivalent) == (want.pvalue, True)
    assert worse.equivalence is not None
    assert (worse.verdict, worse.equivalence.equivalent) == ("worse", False)
    assert worse.delta.estimate == pytest.approx(-0.1)
    assert worse.pvalue == pytest.approx(mcnemar_exact(80, 0).pvalue, abs=1e-6)
    assert [rows[key].n for key in rows if key[0] == "mme"] == [40, 20]
    assert (
        "not in both runs: vqav2_val, vizwiz_vqa_val, scienceqa_img, textvqa_val, mmbench_en_dev_static"
        in (report.notes)
    )
    assert any(note.startswith("textvqa_val exact_match is left out: only") for note in report.notes)
    line = summary_line(report)
    assert line.startswith("block against none: equivalent within 1 point: 1 of 4; worse: seedbench (-10.0);")
    assert "neither shown: mme mme_perception_score (" in line


def test_the_command_prints_the_table_and_the_summary_last(tmp_path: Path) -> None:
    runs = [str(path) for path in made(tmp_path)]
    done = CliRunner().invoke(app, ["do-no-harm", *runs, "--margin", "20"])
    assert done.exit_code == 0, done.output
    assert "equivalent within 20 points: 2 of 4; worse: seedbench (-10.0)" in done.output.splitlines()[-1]
    assert re.search(
        r"\nmme mme_cognition_score: block masking [\d.]+ % vs base [\d.]+ % \(\+5.0 points,", done.output
    )
    assert max(map(len, done.output.splitlines()[:-1])) <= 100
    assert "\nseedbench seed_image: block masking 65.0 % vs base 75.0 % (-10.0 points, " in done.output
    assert "exact McNemar, Holm-adjusted p < 0.001; n = 800): worse." in done.output
    record = json.loads(CliRunner().invoke(app, ["do-no-harm", *runs, "--json"]).output)
    assert [row["n"] for row in record["rows"]] == [800, 40, 20, 800]
    assert record["rows"][0]["equivalence"]["margin"] == 0.01


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give two runs .* or --list, or --tasks"),
        (["--list", "--tasks"], "give two runs"),
        (["a", "b", "--lite"], "--lite is for --list and --tasks"),
        (["a"], "compares two runs, the base first; got 1"),
        (["{block}", "{none}"], "block ran mask=block: give the base run first"),
        (["{none}", "{pope}"], "have no task of the group with samples in common"),
        (["{none}", "{block}", "--margin", "0"], "--margin must be above 0"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    folders = {
        name: run_of(tmp_path / name, name, {"gqa": shares(3, 9)}) for name in ("none", "block") if words
    }
    folders["pope"] = run_of(tmp_path / "pope", "block", {"pope": [gqa(1)] * 5})
    done = CliRunner().invoke(app, ["do-no-harm", *(word.format(**folders) for word in words)])
    assert isinstance(done.exception, UserError)
    with pytest.raises(UserError, match=message):
        raise done.exception
