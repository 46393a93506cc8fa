"""Our reading of answers to public benchmarks: a letter where it is unambiguous, an option's text."""

import pytest

from mimic_tasks.benchmarks.choices import open_truth, options_in, read_choice, read_open

OPTIONS = ("a red car", "the dog", "none of the above", "a dog house")


@pytest.mark.parametrize(("response", "letter"), [
    ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("B)", "B"), ("**B**", "B"), ("[B]", "B"),
    ("Option B", "B"), ("option (b)", "B"), ("B. the dog", "B"), ("B: the dog", "B"), ("(B) the dog", "B"),
    ("The answer is B.", "B"), ("The correct answer is (B).", "B"), ("Answer: B", "B"), ("answer:B", "B"),
    ("Final Answer: **B**", "B"), ("I would choose B because A is wrong. Answer: B", "B"),
    ("A dog is here, so the answer is B", "B"), ("I think B", "B"), ("It is B, not clear", "B"),
    ("A dog sits there", "B"), ("A is right", "A"), ("B seems right", "B"), ("B because A cat is there", "B"),
    ("the dog", "B"), ("The Dog.", "B"), ("It shows the dog", "B"), ("It is a dog house", "D"),
    ("a red car", "A"), ("None of the above", "C"), ("\n B \n", "B"), ("D", "D"),
    ("The first option is A or B. The final answer is B", "B"),
])  # fmt: skip
def test_a_letter_or_an_options_text_is_read(response: str, letter: str) -> None:
    assert read_choice(response, OPTIONS).value == letter


@pytest.mark.parametrize(("response", "status"), [
    ("", "empty"), ("   ", "empty"), ("A and B", "ambiguous"), ("(A) or (B)", "ambiguous"),
    ("A bird sits there", "unparsed"), ("A or maybe C", "ambiguous"), ("I see it", "unparsed"),
    ("E", "unparsed"), ("cat", "unparsed"),
    ("the dog or a red car", "ambiguous"), ("not the dog", "unparsed"), ("Answer: unknown", "unparsed"),
    ("Beautiful", "unparsed"), ("ABCD", "unparsed"), ("It isn't the dog", "unparsed"),
])  # fmt: skip
def test_what_is_ambiguous_or_no_option_is_not_read(response: str, status: str) -> None:
    read = read_choice(response, OPTIONS)
    assert (read.value, read.status) == (None, status)


def test_options_that_are_images_have_no_text() -> None:
    """The word "image" was the text of the only option that is an image."""
    assert read_choice("this image", ("<image>", "none")).value is None
    assert read_choice("none", ("<image>", "none")).value == "B"


@pytest.mark.parametrize(("text", "options"), [
    ("A: a cat\nB: a dog\nC: a bird", ("a cat", "a dog", "a bird")),
    ("Which?\n(A) left\n(B) right\nAnswer", ("left", "right")),
    ("Which?\nA. left \n B. right", ("left", "right")),
    ("A. Look at this.\nThen:\nA. one\nB. two", ("one", "two")),
    ("A small dog\nB movie", ()), ("A. only one", ()), ("", ()),
])  # fmt: skip
def test_options_are_found_in_a_text(text: str, options: tuple[str, ...]) -> None:
    assert options_in(text) == options


@pytest.mark.parametrize(("response", "truth", "right"), [
    ("3", "3", True), ("3.0", "3", True), ("There are 3 dogs.", "3", True), ("3 or 4", "3", False),
    ("13", "3", False), ("1,000", "1000", True), ("I count 2 and 1. Final Answer: 3", "3", True),
    ("Cat", "cat", True), ("a cat", "cat", True), ("It is a cat.", "cat", True), ("cattle", "cat", False),
    ("not a cat", "cat", False), ("", "cat", False), ("the answer is On Cats", "On Cats", True),
    ("one two three four five six seven eight nine ten cat", "cat", False), ("dog", "cat", False),
])  # fmt: skip
def test_open_answers_are_compared_by_their_words(response: str, truth: str, right: bool) -> None:
    value = read_open(response, truth).value
    assert (value is not None and value == open_truth(truth)) is right
