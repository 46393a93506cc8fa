"""PQA and Retrieval: answers as models write them, read as a person would, and truths in other orders."""

import itertools
import json
import random
import time
from collections.abc import Callable

import pytest

from mimic_eval.records import UserError
from mimic_tasks.scoring import score
from mimic_tasks.scoring.positions import PQA, RETRIEVAL

LIST = {"gt": "yes, no, yes", "targets": ["dog"], "n_images": 3}
WHICH = {"gt": "3", "targets": ["dog"], "n_images": 4}

RIGHT_LISTS = (
    "yes, no, yes", "Yes, No, Yes.", "yes no yes", "yes / no / yes", "Yes; No; Yes", "yes\nno\nyes",
    "Yes. No. Yes.",
    "- Yes\n- No\n- Yes", "**Yes**, **No**, **Yes**", "[yes, no, yes]", "(yes, no, yes)", "Yes, no, and yes.",
    "1. Yes 2. No 3. Yes", "1. Yes\n2. No\n3. Yes", "(1) Yes (2) No (3) Yes", "1: yes, 2: no, 3: yes",
    "1-yes, 2-no, 3-yes", "Image 1: yes\nImage 2: no\nImage 3: yes", "Image1: Yes Image2: No Image3: Yes",
    "Image #1: Yes; Image #2: No; Image #3: Yes", "First image: Yes\nSecond image: No\nThird image: Yes",
    "Image one: yes. Image two: no. Image three: yes.", "First: yes, second: no, third: yes",
    "| Image | Dog |\n|---|---|\n| 1 | Yes |\n| 2 | No |\n| 3 | Yes |",
    '["yes","no","yes"]', "[true, false, true]", "[1, 0, 1]", '{"1":"yes","2":"no","3":"yes"}',
    '{"3": "yes", "2": "no", "1": "yes"}',
    '```json\n{"image 1": true, "image 2": false, "image 3": true}\n```',
    '[{"image":1,"answer":"yes"},{"image":2,"answer":"no"},{"image":3,"answer":"yes"}]',
    '{"answers": ["Yes","No","Yes"]}', "Y, N, Y", "True, False, True", "\u2705 \u274c \u2705",
    "\u662f\u3001\u5426\u3001\u662f",
    "<think>no, no, no</think>yes, no, yes", "\\boxed{yes, no, yes}", "Sure! yes, no, yes",
    "The answers are: yes, no, yes.", "Image 1: Yes\nImage 2: Yes\nImage 3: no\nFinal answer: yes, no, yes",
    "yes, no, yes\n\nImage 1 shows a brown dog, image 2 a cat.",
    "Yes, there are dogs in the first image. No, none in the second. Yes, there is one in the third.",
    "1. Yes, there is a dog.\n2. No dogs here.\n3. Yes, two dogs.",
    "1. There is a dog.\n2. No dogs here.\n3. Two dogs.",
    "Image 1 - Yes, there is a dog.\nImage 2 - No, there are no dogs.\nImage 3 - Yes, there are 2 dogs.",
    "There is a dog in image 1 and image 3, but not in image 2.", "Only images 1 and 3 show dogs.",
    "Images 1 and 3 show dogs, while image 2 does not.", "Only image 2 does not show any dogs.",
    "The first image shows a dog, the second does not, and the third does.",
    "Image 1 shows a dog. Image 2 shows a cat. Image 3 shows two dogs.",
    "Image 2 has no dogs, the others do.", "No dogs are visible in image 2. The others show dogs.",
    "Yes for image 1, no for image 2, yes for image 3", "Yes (image 1), no (image 2), yes (image 3)",
)  # fmt: skip

OTHER_LISTS = {
    "yes, yes, yes": "yes, yes, yes",
    "No, no, no": "no, no, no",
    "Yes, all images show dogs.": "yes, yes, yes",
    "All of them": "yes, yes, yes",
    "None of the images show any dogs.": "no, no, no",
    "There are no dogs in any of the images.": "no, no, no",
    "Image 1: yes, image 2: yes": "yes, yes, ?",
    "Image 2 shows no dog.": "?, no, ?",
}

UNREAD_LISTS = {
    "yes": "unparsed",
    "yes, no": "unparsed",
    "yes, no, yes, no": "unparsed",
    "Yes, there are dogs.": "unparsed",
    "Image 4: yes": "unparsed",
    "Image 1: Yes, Image 1: No": "unparsed",
    "dog, cat, dog": "unparsed",
    "3": "unparsed",
    "I cannot tell.": "refused",
    "": "empty",
}

RIGHT_IMAGES = (
    "3", "3.", "(3)", "**3**", "#3", "No. 3", "3/4", "3 of 4", "three", "third", "3rd", "[3]", "3\n3\n3",
    "Image 3", "image #3", "Image number 3", "img_3", "<image 3>", "Image-3", "Image: 3", "photo 3",
    "image three",
    "the third image", "the third one", "second to last", "the second-to-last image", "penultimate image",
    '{"image": 3}', '{"answer": 3}', "Answer: 3", "The answer is (3).", "\\boxed{3}", "Option 3", "It's 3",
    "3 because it has a dog", "3, which shows a dog", "3\n\nExplanation: the third image shows a dog.",
    "The dog is in image 3.", "There are 2 dogs in image 3.", "Image 3 has 2 dogs", "Image 3 of 4",
    "The number of that image is 3.", "Only one image shows a dog: image 3", "Image 3, not image 2.",
    "Image 3 shows a dog, images 1, 2 and 4 do not.", "Image 3 shows a dog, while the others do not.",
    "Unlike images 1, 2 and 4, image 3 shows dogs.", "No other image than image 3 shows a dog",
    "None of the images except image 3 show dogs", "Among the four images, only the third contains a dog.",
    "Image 1: no\nImage 2: no\nImage 3: yes\nImage 4: no", "no, no, yes, no",
    "1: cat, 2: car, 3: dog, 4: bus",
    "Image 1 shows a cat. Image 2 shows a car. Image 3 shows a dog. Image 4 shows a bus.",
    "In the first image there is a cat, in the second a car, in the third a dog, and in the fourth a bus.",
    "Image 3 shows a puppy", "<think>Image 1? Image 2?</think>3", "\u7b2c\u4e09\u5f20", "\u7b54\u6848\u662f3",
)  # fmt: skip

OTHER_IMAGES = {"4": "4", "the last image": "4", "first": "1", "Image 1 shows the dog": "1"}

UNREAD_IMAGES = {
    "7": "unparsed",
    "Image 7": "unparsed",
    "0": "unparsed",
    "-1": "unparsed",
    "3.5": "unparsed",
    "There are 3 dogs": "unparsed",
    "the middle one": "unparsed",
    "dog": "unparsed",
    "yes": "unparsed",
    "2 or 3": "ambiguous",
    "Image 2 or 3": "ambiguous",
    "Images 2 and 3": "ambiguous",
    "1, 2, 3, 4": "ambiguous",
    "Image 1: yes\nImage 2: no\nImage 3: yes\nImage 4: no": "ambiguous",
    "None of the images": "negated",
    "Not image 3": "negated",
    "Image 3 does not show a dog.": "negated",
    "I don't know": "refused",
    "": "empty",
}


@pytest.mark.parametrize("response", RIGHT_LISTS)
def test_a_right_list_is_read_however_it_is_written(response: str) -> None:
    scored = score("pqa", response, LIST)
    assert (scored.parsed, scored.status, scored.score) == ("yes, no, yes", "parsed", 1.0)
    assert (scored.further, scored.position_scores) == ({"exact_list": 1.0}, (1.0, 1.0, 1.0))


FORMS: dict[str, Callable[[list[str]], str]] = {
    "list": lambda entries: f"The answer is: {', '.join(entries)}, respectively.",
    "rows": lambda entries: "\n".join(f"- **Image {i}:** {e.title()}" for i, e in enumerate(entries, 1)),
    "numbers": lambda entries: ", ".join(f"{i}: {e}" for i, e in enumerate(entries, 1)),
    "object": lambda entries: json.dumps({f"image_{i}": e for i, e in enumerate(entries, 1)}),
    "denials": lambda entries: " ".join(
        f"There is {'a' if e == 'yes' else 'no'} clock in image {i}." for i, e in enumerate(entries, 1)
    ),
    "sentences": lambda entries: " ".join(
        f"Image {i} {'shows' if e == 'yes' else 'does not show'} a clock." for i, e in enumerate(entries, 1)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_drawn_truths_are_read_in_every_form(form: str) -> None:
    draw = random.Random(form)
    for n in [2, 3, 4, 5, 6, 7, 8, 12] * 3:
        entries = [draw.choice(["yes", "no"]) for _ in range(n)]
        doc = {"gt": ", ".join(entries), "targets": ["clock"], "n_images": n}
        assert score("pqa", FORMS[form](entries), doc).score == 1, entries
        if entries.count("yes") == 1:
            which = {**doc, "gt": str(entries.index("yes") + 1)}
            assert score("retrieval", FORMS[form](entries), which).score == 1, entries


@pytest.mark.parametrize(("response", "parsed"), OTHER_LISTS.items())
def test_another_list_scores_the_share_of_its_right_entries(response: str, parsed: str) -> None:
    scored = score("pqa", response, LIST)
    entries = [float(a == b) for a, b in zip(parsed.split(", "), ["yes", "no", "yes"], strict=True)]
    assert (scored.parsed, scored.status, scored.score) == (parsed, "parsed", sum(entries) / 3)
    assert (scored.further["exact_list"], scored.position_scores) == (0.0, tuple(entries))


@pytest.mark.parametrize(("response", "status"), UNREAD_LISTS.items())
def test_a_list_that_cannot_be_read_is_wrong_at_every_position(response: str, status: str) -> None:
    scored = score("pqa", response, LIST)
    assert (scored.parsed, scored.status, scored.score) == (None, status, 0.0)
    assert scored.position_scores == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("response", RIGHT_IMAGES)
def test_the_right_image_is_read_however_it_is_named(response: str) -> None:
    scored = score("retrieval", response, WHICH)
    assert (scored.parsed, scored.status, scored.score) == ("3", "parsed", 1.0)
    assert scored.position_scores == (None, None, 1.0, None)


@pytest.mark.parametrize(("response", "parsed"), OTHER_IMAGES.items())
def test_another_image_is_wrong(response: str, parsed: str) -> None:
    scored = score("retrieval", response, WHICH)
    assert (scored.parsed, scored.status, scored.score) == (parsed, "parsed", 0.0)


@pytest.mark.parametrize(("response", "status"), UNREAD_IMAGES.items())
def test_an_answer_that_names_no_image_or_several_is_wrong(response: str, status: str) -> None:
    scored = score("retrieval", response, WHICH)
    assert (scored.parsed, scored.status, scored.score) == (None, status, 0.0)
    assert scored.position_scores == (None, None, 0.0, None)


def test_both_and_neither_are_lists_of_two() -> None:
    assert score("pqa", "Both", {"gt": "yes, yes"}).score == 1
    assert score("pqa", "Neither.", {"gt": "no, no"}).score == 1
    assert score("pqa", "Both", LIST).status == "unparsed"


def test_without_controls_a_number_is_read_and_last_is_not() -> None:
    assert score("retrieval", "image 12", {"gt": "12"}).score == 1
    assert score("retrieval", "the last image", {"gt": "12"}).parsed is None


@pytest.mark.parametrize(
    ("kind", "gt", "message"),
    [
        ("pqa", "maybe, no", "yes or no for each image"),
        ("pqa", "yes, ?", "yes or no for each image"),
        ("retrieval", "0", "the number of an image, from 1"),
        ("retrieval", "third", "the number of an image, from 1"),
        ("retrieval", "5", "the number of one of 4 images, got '5'"),
    ],
)
def test_a_wrong_truth_is_refused(kind: str, gt: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(kind, "1", {"gt": gt, "n_images": 4})


def test_truths_follow_the_order_and_answers_go_back() -> None:
    """By the definition: the m-th image of the prompt is the doc's image number order[m]."""
    truth = ["yes", "no", "no", "yes"]
    for order in itertools.permutations(range(4)):
        turned = PQA.in_order(", ".join(truth), order)
        assert turned.split(", ") == [truth[image] for image in order]
        assert PQA.as_stored(turned, order) == ", ".join(truth)
        for image in range(4):
            number = RETRIEVAL.in_order(str(image + 1), order)
            assert order[int(number) - 1] == image
            assert RETRIEVAL.as_stored(number, order) == str(image + 1)
    assert PQA.as_stored("yes, ?, no", (2, 0, 1)) == "?, no, yes"
    for positional, answer in ((PQA, "yes, no"), (RETRIEVAL, "4")):
        with pytest.raises(UserError, match="does not go with 3 images"):
            positional.in_order(answer, (0, 1, 2))


def test_the_best_constant_answer_by_hand() -> None:
    assert RETRIEVAL.constant([["1"], ["1"], ["2"]]) == pytest.approx(2 / 3)
    assert RETRIEVAL.constant([["1", "2"], ["2", "1"]]) == 0.5
    # of two images: "yes, no" is right in 3 of 4 entries; of three: "no, no, no" in 2 of 3
    docs = [["yes, no"], ["yes, yes"], ["no, no, yes"]]
    assert PQA.constant(docs) == pytest.approx((1.0 + 0.5 + 1.0) / 3)
    assert PQA.constant([["yes, no", "no, yes"]]) == 0.5


@pytest.mark.parametrize("unit", ["image 1 ", "( ", ". ", "-", "no ", "1. yes ", "images 1, 2 and ", '{"a":'])
def test_the_time_for_an_answer_grows_with_its_length_only(unit: str) -> None:
    """Quadratic steps took 400 seconds."""
    before = time.process_time()
    for kind, doc in (("pqa", LIST), ("retrieval", WHICH)):
        score(kind, (unit * 40_000)[:40_000], doc)
    assert time.process_time() - before < 5
