"""What a parser read in an answer, as the site's pages of docs show it."""

import json

import pytest

from leaderboard.site.texts import readable


@pytest.mark.parametrize(
    ("stored", "text"),
    [
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
    ],
)
def test_an_answer_is_words(stored: str, text: str) -> None:
    """A list of names read `["\\"apple\\"", "\\"donut\\""]` before."""
    assert readable(stored) == text
