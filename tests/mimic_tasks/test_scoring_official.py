"""The official scores, bug for bug (METHODS 2.1), and the corpus scores beside ours."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_eval.records import UserError, unscored_response
from mimic_tasks.scoring import (
    corpus_score,
    official_contains,
    official_counting,
    official_listing,
    official_listing_f1,
    read_jsonl,
    score,
)


def test_defect_a_a_perfect_listing_scores_half_because_its_first_item_never_matches() -> None:
    counts = official_listing("cat, dog", "cat, dog")
    assert counts == (1, 2, 2)
    assert official_listing_f1([counts]).f1 == 0.5
    assert score("listing", "cat, dog", {"gt": "cat, dog"}).score == 1.0
    assert official_listing("cat", "cat") == (0, 1, 1)


@pytest.mark.parametrize(("response", "gt"), [("cattle", "cat"), ("no cat", "cat"), ("carrot", "car")])
def test_defect_b_a_substring_is_accepted_as_the_class(response: str, gt: str) -> None:
    assert official_contains(response, gt) is True
    assert score("common", response, {"gt": gt}).score == 0.0


def test_listing_counts_an_empty_answer_and_repeats_as_generated() -> None:
    assert official_listing("", "cat, dog") == (0, 1, 2)
    assert official_listing("x, cat, cat, DOG", "Cat, dog") == (2, 4, 2)
    assert official_listing("x, cat,dog, dog ", "cat, dog") == (0, 3, 2)


def test_listing_f1_is_over_the_corpus_not_a_mean_over_docs() -> None:
    counts = [official_listing("x, cat", "cat"), official_listing("x, y, z", "dog, cat")]
    f1 = official_listing_f1(counts)
    assert (f1.precision, f1.recall) == (1 / 5, 1 / 3)
    assert f1.f1 == pytest.approx(2 * 0.2 / 3 / (0.2 + 1 / 3))
    assert official_listing_f1([]).f1 == 0.0


@pytest.mark.parametrize(
    ("response", "prediction"),
    [
        ("3", "3"),
        (" 3. ", "3"),
        ("3,", "3"),
        ("'3'", "3"),
        ("+3", "3"),
        ("1_000", "1000"),  # Python's int
        ("-3", "-3"),
        ("two", "2"),
        ("Two dogs.", "2"),
        ("twenty-one", "21"),
        ("two point five", "2.5"),
        ("There are 3 dogs, one is black", "1"),  # the word wins over the digit
        ("There are 3 dogs", "3"),
        ("3.5", "3"),
        ("3-4", "3"),
        ("1,000", "1"),
        ("2 in the first and 3 in the second, 5 in total", "2"),
        ("thousand two", "wrong answer"),  # IndexError inside word2number
        ("two two thousand thousand", "wrong answer"),  # ValueError inside word2number
        ("²", "wrong answer"),
        ("no idea", "wrong answer"),
        ("", "wrong answer"),
        ("!3?", "3"),
        (".,3", "3"),
        ("3!,", "3"),
    ],
)
def test_official_counting_reads(response: str, prediction: str) -> None:
    assert official_counting(response, "7").prediction == prediction


def test_marks_are_stripped_one_after_the_other_in_the_official_order() -> None:
    # The filter's space shields the left end; on the right '!,' loses both, ',!' keeps its comma.
    assert official_counting("abc 12!,", "12") == ("12", True)
    assert official_counting("three,!", "3").prediction == "wrong answer"


def test_correct_is_string_equality_with_gt() -> None:
    assert official_counting("3", " 3 ").correct
    assert not official_counting("3.0", "03").correct
    assert official_counting("nothing", "Wrong Answer").correct


def test_an_answer_our_parser_calls_unparsed_still_counts_officially() -> None:
    ours = score("counting", "3 or 4", {"gt": "3"})
    assert (ours.status, ours.score) == ("ambiguous", 0.0)
    assert official_counting("3 or 4", "3").correct
    result = corpus_score("counting", [("3 or 4", {"gt": "3"})])
    assert (result.score, result.score_official, result.unparsed) == (0.0, 1.0, 1)


def test_word2number_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for response in ("two", "thousand two", "million million", "", "point"):
        official_counting(response, "2")
    assert capsys.readouterr() == ("", "")


NUMBER_WORDS = "two ten twenty hundred thousand million billion point zero and - 3 ² ٣ x .".split()  # noqa: SIM905


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(NUMBER_WORDS)).map(" ".join)), st.text(min_size=1))
def test_no_response_crashes_an_official_scorer(response: str, gt: str) -> None:
    assert isinstance(official_counting(response, gt).prediction, str)
    assert official_contains(response, gt) in (True, False)
    counts = official_listing(response, gt)
    assert 0 <= counts.recalled <= counts.relevant
    assert counts.generated >= 1


def test_more_digits_than_python_reads_crash_nothing() -> None:
    assert official_counting("9" * 5000, "9" * 5000).correct


def test_an_unscored_doc_is_left_out_and_counted() -> None:
    rows = [
        ("cat", {"gt": "cat"}),
        (unscored_response("truncated image"), {"gt": "cat"}),
        ("", {"gt": "cat"}),
    ]
    result = corpus_score("common", rows)
    assert (result.n, result.unscored, result.unparsed) == (2, 1, 1)
    assert (result.score, result.score_official) == (0.5, 0.5)
    assert result.statuses == {"parsed": 1, "empty": 1}


@pytest.mark.parametrize("kind", ["counting", "listing", "common", "oddone"])
def test_no_scored_doc_gives_no_score_not_zero(kind: str) -> None:
    result = corpus_score(kind, [(unscored_response("no image"), {"gt": "3"})])
    assert (result.n, result.unscored, result.score, result.score_official) == (0, 1, None, None)


def test_listing_reports_micro_f1_with_precision_and_recall_of_both_rules() -> None:
    rows = [("cat, dog", {"gt": "cat, dog"}), ("horse", {"gt": "cat, dog"})]
    result = corpus_score("listing", rows)
    assert (result.precision, result.recall) == (2 / 3, 2 / 4)
    assert result.score == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert (result.precision_official, result.recall_official) == (1 / 3, 1 / 4)
    assert result.class_accuracy is None


def test_several_counts_have_class_accuracy_and_no_official_score() -> None:
    rows = [("dog: 2, car: 1", {"gt": "dog: 2, car: 1"}), ("dog: 2, car: 5", {"gt": "dog: 2, car: 1"})]
    result = corpus_score("counting", rows)
    assert (result.score, result.class_accuracy, result.score_official) == (0.5, 0.75, None)
    assert result.precision is None


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"Unknown task 'countin'\. Did you mean 'counting'"):
        corpus_score("countin", [])


def test_read_jsonl_takes_numbers_and_lists_as_gt(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [{"response": "3", "gt": 3, "id": 7}, {"response": "cat", "gt": ["cat", "dog"]}]
    path.write_text("\ufeff" + json.dumps(rows[0]) + "\r\n\n" + json.dumps(rows[1]) + "\n", encoding="utf-8")
    assert read_jsonl(path) == [("3", {"gt": "3", "id": 7}), ("cat", {"gt": "cat, dog"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ('{"response": "a", "gt": ' + "9" * 5000 + "}", "line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object with response and gt, got list"),
        ("{}", "line 2: lacks response and gt; keys there: none"),
        ('{"response": "a"}', "line 2: lacks gt; keys there: response"),
        ('{"response": null, "gt": "3"}', "line 2: response must be a string, got null"),
        ('{"response": 3, "gt": "3"}', "line 2: response must be a string, got int"),
        ('{"response": "3", "gt": ""}', "line 2: gt is empty"),
        ('{"response": "3", "gt": []}', "line 2: gt is empty"),
        ('{"response": "3", "gt": [""]}', "line 2: gt must be"),
        ('{"response": "3", "gt": null}', "line 2: gt must be .*, got null"),
        ('{"response": "3", "gt": true}', "line 2: gt must be .*, got bool"),
        ('{"response": "3", "gt": 3.0}', "line 2: gt must be .*, got float"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"response": "3", "gt": 3}\n' + line + "\n")
    with pytest.raises(UserError, match=rf"bad\.jsonl, {message}") as caught:
        read_jsonl(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_empty_or_no_text_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.jsonl: cannot be read"):
        read_jsonl(tmp_path / "no.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_jsonl(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(UserError, match="holds no lines"):
        read_jsonl(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"response": "\xe9", "gt": 3}\n')
    with pytest.raises(UserError, match=r"latin\.jsonl, line 1: not UTF-8 text"):
        read_jsonl(tmp_path / "latin.jsonl")
