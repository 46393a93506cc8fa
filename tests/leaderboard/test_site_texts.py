"""What a parser read in an answer, as the site's pages of docs show it."""

import json
from pathlib import Path
from typing import Any

import pytest

from leaderboard.site.texts import readable, unbroken
from tests.browsing import Visit

ANSWERS = [
    ('"giraffe"', "giraffe"),
    ("7", "7"),
    (json.dumps([json.dumps("apple"), json.dumps("donut")]), "apple, donut"),
    ("[]", "nothing"),
    (json.dumps({"dog": 2, "cat": None}), "dog: 2, cat: null"),
    ('["[\\"a\\"]"]', "a"),
    ('"cut in the mid', "cut in the mid"),
    (json.dumps([json.dumps(f"name {i}") for i in range(9)])[:40] + " …", "name 0, name 1, name 2 …"),
    ("[" * 5000, ""),
    ("no JSON", "no JSON"),
    ("", ""),
]


@pytest.mark.parametrize(("stored", "text"), ANSWERS)
def test_an_answer_is_words(stored: str, text: str) -> None:
    """A list of names read `["\\"apple\\"", "\\"donut\\""]` before."""
    assert readable(stored) == text


def test_a_range_of_layers_is_not_broken_and_a_label_stays_text() -> None:
    assert unbroken("m-7b · block 12-23, <b>") == 'm-7b · block <span class="nb">12-23</span>, &lt;b&gt;'
    assert unbroken("qwen2-7b-ov 2-7b") == "qwen2-7b-ov 2-7b"
    assert unbroken("embedded:qwen2_vl") == "embedded:<wbr>qwen2_<wbr>vl"


@pytest.mark.slow
def test_head_to_head_reads_answers_as_the_pages_of_docs_do(browser: Any, site: Path) -> None:
    visit = Visit(browser, site)
    page = visit.open("pairs.html")
    for stored, text in ANSWERS:
        assert page.evaluate("(stored) => window.mimicFilters.readable(stored)", stored) == text
    visit.close()
