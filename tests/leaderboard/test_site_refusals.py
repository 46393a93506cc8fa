"""Runs that are broken or hostile, and folders that are no site: text stays text, the rest is refused."""

import csv
import json
import re
from pathlib import Path

import pytest

from mimic_eval.records import UserError
from tests.makers.runs import BLOCK, NONE, binary, write_run
from tests.makers.site import EXACT, TASK, built, counting, texts

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'); javascript:alert(3) {{1237*1237}} ../x"


def test_hostile_names_and_answers_are_text_everywhere(tmp_path: Path) -> None:
    settings = {**NONE, "checkpoint": f"={HOSTILE}", "family": HOSTILE, HOSTILE: HOSTILE, "mask": HOSTILE}
    more = {
        "question": HOSTILE,
        "gt": HOSTILE,
        "cell": f"a={HOSTILE}",
        "response": HOSTILE,
    }
    samples = [binary(i, i % 2 == 0, HOSTILE, **more | {"spread": str(i % 2) + HOSTILE}) for i in range(6)]
    folder = write_run(tmp_path / "a", {TASK: samples}, settings, metrics=EXACT)
    results = next(folder.glob("*_results.json"))
    told = json.loads(results.read_text())
    told["config"] = {"model": HOSTILE, "model_args": HOSTILE}
    told["configs"] = {TASK: {"metadata": {"label": HOSTILE}}}
    told["date"] = HOSTILE
    results.write_text(json.dumps(told))
    site = built(tmp_path / "site", folder, counting(tmp_path / "b", [True] * 6, BLOCK))
    for name, text in texts(site).items():
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert not re.search(
            r'href="(?!https://arxiv\.org/abs/2601\.07812"|#|data:,|(\.\./)*[\w./-]+\.(html|css|csv|json)(#[\w=&;.-]*)?")',
            text,
        ), name
        assert str(1237 * 1237) not in text
    for file in site.rglob("*"):
        assert re.fullmatch(r"[\w.-]+", file.name)
    for file in (site / "data").rglob("*.js*"):
        assert "<" not in file.read_text()
    for line in csv.reader((site / "csv/overview.csv").open()):
        assert not any(cell.startswith(("=", "+", "@")) for cell in line)


@pytest.mark.parametrize(
    ("task", "line", "told"),
    [
        ("../../etc/passwd", None, "is no name of a task"),
        (TASK, "{broken", "not JSON"),
        (TASK, '{"doc_id": 0, "unscored": 0, "exact_match": {"score": 1.0}}', "doc 0: 'mimic' must be"),
        (TASK, "[" * 100_000, "not JSON"),
        (TASK, '{"doc_id": 0, "x": ' + "9" * 5000 + "}", "not JSON"),
    ],
)  # fmt: skip
def test_broken_runs_are_refused_in_one_line(tmp_path: Path, task: str, line: str | None, told: str) -> None:
    folder = counting(tmp_path / "a", [True], NONE)
    results = next(folder.glob("*_results.json"))
    results.write_text(results.read_text().replace(TASK, task))
    if line is not None:
        next(folder.glob("*.jsonl")).write_text(line + "\n")
    with pytest.raises(UserError, match=told):
        built(tmp_path / "site", folder)


def test_a_score_out_of_range_is_refused(tmp_path: Path) -> None:
    folder = counting(tmp_path / "a", [True], NONE)
    samples = next(folder.glob("*.jsonl"))
    for value in ("NaN", "1e999", "7", "-1"):
        samples.write_text(re.sub(r'"score": [^,}]+', f'"score": {value}', samples.read_text()))
        with pytest.raises(UserError, match="doc 0: exact_match: 'score' must be a number within 0-1, got"):
            built(tmp_path / "site", folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    run = counting(tmp_path / "a", [True] * 3, NONE)
    mine = tmp_path / "site"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a leaderboard"):
        built(mine, run)
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="is a file: name a folder"):
        built(mine / "thesis.txt", run)
    with pytest.raises(UserError, match="its runs evaluated no MIMIC task"):
        built(tmp_path / "new", write_run(tmp_path / "none", {"mme": []}, NONE))


def test_runs_that_were_skipped_are_not_said_to_have_no_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder whose only run has a samples file cut in the middle "evaluated no MIMIC task"."""
    run = counting(tmp_path / "runs" / "a", [True] * 3, NONE)
    samples = next(run.glob("*_samples_mimic_counting.jsonl"))
    samples.write_text(samples.read_text()[:-20])
    with pytest.raises(UserError, match=r"runs: its only run was skipped, see above$"):
        built(tmp_path / "site", tmp_path / "runs")
    assert f"skipped: {samples} ends within a line" in capsys.readouterr().err
    write_run(tmp_path / "runs" / "b", {"mme": []}, NONE)
    with pytest.raises(UserError, match="1 of 2 runs were skipped, see above; the others evaluated"):
        built(tmp_path / "site", tmp_path / "runs")
