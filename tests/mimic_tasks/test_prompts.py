"""Prompts are frozen: a change of one is a visible change here."""

from random import Random

import pytest

from mimic_tasks.prompts import framed, framed_official
from mimic_tasks.task_spec import spec_of

SNAPSHOT = {
    "counting": (
        "How many dogs are there in total across all the images? Answer with a single number.",
        "Count the dogs in all of these images together. What is the total? Answer with a number only.",
        "Looking at every image, what is the total number of dogs? Reply with one number.",
    ),
    "listing": (
        'Which object classes of the category "animal" can be seen in these images? '
        "Answer with their names only, separated by commas.",
        'List every object class of the category "animal" that appears in at least one of the images. '
        "Give only the names, separated by commas.",
        'Looking at all the images, name all the object classes of the category "animal" that you see. '
        "Separate the names by commas.",
    ),
    "common": (
        "Which object class is present in every one of these images? Answer with its name only.",
        "One object class appears in all of the images. Which one? Answer with its name only.",
        "Name the object class that all of these images have in common. Give only the name.",
    ),
    "oddone": (
        "Which object class is present in only a minority of these images, while every other object class is "
        "in most of them? Answer with its name only.",
        "One object class appears in fewer than half of the images, the others in more than half. Which one? "
        "Answer with its name only.",
        "Name the odd one out: the object class that only a minority of the images show. Give only the name.",
    ),
}
SEVERAL = (
    "How many of each of these are there in total across all the images: dog, car? "
    "Answer as dog: number, car: number.",
    "Count each of the following over all the images together: dog, car. Answer as dog: number, car: number.",
)


@pytest.mark.parametrize("kind", SNAPSHOT)
def test_the_wordings_of_a_task(kind: str) -> None:
    drawn = {spec_of(kind).question(Random(seed), classes=["dog"], category="animal") for seed in range(50)}
    assert drawn == set(SNAPSHOT[kind])
    assert len(spec_of(kind).wordings) == len(SNAPSHOT[kind])


def test_the_wordings_for_several_classes_name_them_in_the_asked_order() -> None:
    assert {spec_of("counting").question(Random(seed), classes=["dog", "car"]) for seed in range(50)} == set(
        SEVERAL
    )


def test_the_frames() -> None:
    assert framed("How many?") == "Question: How many?\nAnswer:"
    assert framed_official("counting", "How many?") == "Question: How many?\nAnswer:"
    assert framed_official("listing", "List them") == (
        "Question: List them. Please provide the list of category names directly.\nAnswer:"
    )


def test_the_token_budgets() -> None:
    assert [spec_of(kind).max_new_tokens() for kind in SNAPSHOT] == [16, 32, 16, 16]
    assert [spec_of("counting").max_new_tokens(k) for k in (1, 2, 5)] == [16, 28, 64]
