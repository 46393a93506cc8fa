"""A blind review: the page holds no truth, answers survive a reload, exports become rows beside models'."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from leaderboard.runs import read_runs
from leaderboard.summary import summarize_run
from mimic_eval.cli.commands import app
from mimic_eval.records import UserError
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.review import Review, summarize_review
from mimic_tasks.review.answers import read_answers, score_answers
from mimic_tasks.review.page import render_review
from tests.browsing import Visit


@pytest.fixture(scope="module")
def review() -> Review:
    return summarize_review(EMBEDDED, docs=3)


def docs_of(task: str) -> list[dict[str, Any]]:
    columns = ["gt", "content_hash", "question", "targets"]
    rows: list[dict[str, Any]] = pq.read_table(EMBEDDED / task / "test.parquet", columns=columns).to_pylist()
    return rows


def write_answers(path: Path, reviewer: str, answers: list[dict[str, Any]], **other: Any) -> Path:
    record = {"format": 1, "kind": "mimic-review", "reviewer": reviewer, "answers": answers, **other}
    path.write_text(json.dumps(record))
    return path


def answer(doc: dict[str, Any], response: str, **other: Any) -> dict[str, Any]:
    return {"task": "mimic_x", "content_hash": doc["content_hash"], "response": response, **other}


def test_the_page_data_hold_the_question_and_nothing_of_the_truth(review: Review) -> None:
    text = render_review(review)
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert set(data) == {"id", "title", "docs"}
    assert {key for doc in data["docs"] for key in doc} == {
        "task",
        "content_hash",
        "question",
        "hint",
        "images",
    }
    assert len(data["docs"]) == 18
    assert all(review.pictures[key].startswith("data:image/png") for doc in review.docs for key in doc.images)
    assert "http" not in text.replace("http-equiv", "")


def test_every_person_gets_the_same_docs_and_another_seed_others(review: Review) -> None:
    assert summarize_review(EMBEDDED, docs=3) == review
    assert summarize_review(EMBEDDED, docs=3, seed=1).id != review.id


def test_a_script_in_a_question_does_not_leave_the_data(review: Review) -> None:
    import dataclasses

    doc = dataclasses.replace(review.docs[0], question="</script><script>alert(1)</script>")
    text = render_review(dataclasses.replace(review, docs=(doc,)))
    assert "<script>alert" not in text
    assert (
        json.loads(text.split('id="data">')[1].split("</script>")[0])["docs"][0]["question"] == doc.question
    )


def test_answers_are_scored_as_a_models_and_doubtful_docs_are_listed(tmp_path: Path) -> None:
    counting, listing = docs_of("counting")[:4], docs_of("listing")[:2]
    one = [answer(doc, f"I count {doc['gt']}") for doc in counting[:3]]
    one += [answer(counting[3], "", cannot_tell=True, note="blurred")]
    one += [answer(doc, doc["gt"]) for doc in listing]
    two = [answer(counting[0], "99"), answer(counting[1], counting[1]["gt"]), answer(counting[3], "98")]
    files = [write_answers(tmp_path / "1.json", "Ann", one), write_answers(tmp_path / "2.json", "Bob", two)]
    folders, doubts = score_answers([read_answers(file) for file in files], EMBEDDED, tmp_path / "out")
    assert [folder.name for folder in folders] == ["human-Ann", "human-Bob"]
    rows = {(r.model, r.checkpoint, r.task, r.metric): r for run in read_runs(tmp_path / "out")
            for r in summarize_run(run)}  # fmt: skip
    ann = rows["human", "Ann", "mimic_counting", "exact_match"]
    assert (ann.n, ann.score, ann.unscored, ann.data) == (4, 0.75, 0, "embedded")
    assert ann.low is not None
    assert ann.low < 0.75
    assert rows["human", "Ann", "mimic_listing", "f1"].score == 1
    assert rows["human", "Bob", "mimic_counting", "exact_match"].score == pytest.approx(1 / 3)
    # Doc 0: one of two people differs; doc 1 and 2: nobody; doc 3: both.
    assert [(d.content_hash, d.people, d.differing) for d in doubts] == [
        (counting[0]["content_hash"], 2, 1), (counting[3]["content_hash"], 2, 2)
    ]  # fmt: skip
    assert doubts[1].reason == (
        f"2 of 2 people differ from the truth '{counting[3]['gt']}': Ann: cannot tell (blurred); Bob: 98"
    )


def test_the_command_writes_runs_and_the_list_for_exclude_docs(tmp_path: Path) -> None:
    doc = docs_of("common")[0]
    file = write_answers(tmp_path / "a.json", "Zoë K.", [answer(doc, "a giraffe, maybe")])
    result = CliRunner().invoke(
        app, ["review", "score", str(file), "--folder", str(EMBEDDED), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    listed = json.loads((tmp_path / "out/doubtful_docs.json").read_text())
    assert listed["format"] == 1
    assert [row["content_hash"] for row in listed["exclude"]] == [doc["content_hash"]]
    assert "1 of 1 docs are in doubt" in result.output
    assert "human" in result.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "x"}, "is no export of a page"),
        ({"format": 2}, "is no export of a page"),
        ({"reviewer": " "}, "must be a name"),
        ({"reviewer": "a\x1b[2J"}, "must be a name"),
        ({"answers": []}, "holds no answers"),
        ({"answers": [3]}, "answer 1 is not an object"),
        ({"answers": [{"content_hash": "x", "response": 3}]}, "must be short texts"),
        ({"answers": [{"content_hash": "x", "response": " "}]}, "response is empty"),
        ({"answers": [{"content_hash": "x", "response": "1", "cannot_tell": "no"}]}, "must be true or false"),
        ({"answers": [{"content_hash": "x", "response": "1"}] * 2}, "answers a doc twice"),
    ],
)
def test_a_wrong_export_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    record = {"format": 1, "kind": "mimic-review", "reviewer": "A", "answers": [], **change}
    (tmp_path / "a.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=message):
        read_answers(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: is no"):
        read_answers(tmp_path / "a.json")


def test_answers_to_other_docs_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    foreign = write_answers(tmp_path / "a.json", "A", [{"content_hash": "0" * 64, "response": "1"}])
    with pytest.raises(UserError, match="1 of 1 answers are to docs that are not in"):
        score_answers([read_answers(foreign)], EMBEDDED, tmp_path / "out")
    with pytest.raises(UserError, match="two files have the reviewer 'A'"):
        score_answers([read_answers(foreign)] * 2, EMBEDDED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def browser_page(browser: Any, review: Review, tmp_path: Path) -> Iterator[Any]:
    file = tmp_path / "review.html"
    file.write_text(render_review(review), encoding="utf-8")
    visit = Visit(browser, file)
    yield visit.open()
    visit.close()


@pytest.mark.slow
def test_a_person_answers_by_keyboard_reloads_exports_and_is_scored(
    browser_page: Any, review: Review, tmp_path: Path
) -> None:
    page = browser_page
    assert page.locator("#question").inner_text() == review.docs[0].question
    assert page.locator("#pictures img").count() == len(review.docs[0].images)
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")  # the second doc: cannot tell
    page.keyboard.press("PageDown")
    page.reload()
    assert page.locator("#count").inner_text() == "2 of 18 answered"
    assert page.locator("#position").inner_text().startswith("Doc 4 of 18")
    page.keyboard.press("Enter")  # an empty answer is not saved
    assert page.locator("#count").inner_text() == "2 of 18 answered"
    page.click("#open")
    page.click("#back")
    page.click("#export")
    assert "Enter your name" in page.locator("#warning").inner_text()
    page.fill("#reviewer", "Ann")
    with page.expect_download() as download:
        page.click("#export")
    file = tmp_path / "export.json"
    download.value.save_as(file)
    exported = read_answers(file)
    assert [(a.content_hash, a.response, a.cannot_tell) for a in exported.answers] == [
        (review.docs[0].content_hash, "3", False), (review.docs[1].content_hash, "", True)
    ]  # fmt: skip
    folders, _ = score_answers([exported], EMBEDDED, tmp_path / "out")
    assert len(read_runs(folders[0])) == 1
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.locator("#count").inner_text() == "0 of 18 answered"
    page.set_input_files("#import", file)
    page.wait_for_function("document.getElementById('count').textContent === '2 of 18 answered'")
    assert page.locator("#reviewer").input_value() == "Ann"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_meets_accessibility_rules(browser_page: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    browser_page.emulate_media(color_scheme=scheme)
    browser_page.set_viewport_size({"width": 390, "height": 844})
    violations = Axe().run(browser_page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == []
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 390
