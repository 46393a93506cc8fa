"""The wordings of the questions, several for each task, and the frame around them (METHODS 2, 2.1).

The texts are frozen: a snapshot in the tests makes every change of one visible.
"""

from collections.abc import Sequence
from random import Random

WORDINGS: dict[str, tuple[str, ...]] = {
    "counting": (
        "How many {things} are there in total across all the images? Answer with a single number.",
        "Count the {things} in all of these images together. What is the total? Answer with a number only.",
        "Looking at every image, what is the total number of {things}? Reply with one number.",
    ),
    "counting_several": (
        "How many of each of these are there in total across all the images: {classes}? Answer as {form}.",
        "Count each of the following over all the images together: {classes}. Answer as {form}.",
    ),
    "listing": (
        'Which object classes of the category "{category}" can be seen in these images? '
        "Answer with their names only, separated by commas.",
        'List every object class of the category "{category}" that appears in at least one of the images. '
        "Give only the names, separated by commas.",
        'Looking at all the images, name all the object classes of the category "{category}" that you see. '
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


def draw_question(kind: str, rng: Random, *, classes: Sequence[str] = (), category: str | None = None) -> str:
    """One of the task's wordings, filled in.

    Args:
        kind: the task.
        rng: draws the wording.
        classes: the asked classes in the asked order (Counting).
        category: the asked super-category (Listing).
    """
    if kind != "counting":
        return rng.choice(WORDINGS[kind]).format(category=category)
    if len(classes) == 1:
        from mimic_tasks.scoring.plurals import plural

        return rng.choice(WORDINGS["counting"]).format(things=plural(classes[0]))
    form = ", ".join(f"{name}: number" for name in classes)
    return rng.choice(WORDINGS["counting_several"]).format(classes=", ".join(classes), form=form)


def framed(question: str) -> str:
    """The text a model gets after the images."""
    return f"Question: {question}\nAnswer:"


def framed_official(kind: str, question: str) -> str:
    """The official release's text for its own questions (METHODS 2.1)."""
    if kind == "listing":
        return f"Question: {question}. Please provide the list of category names directly.\nAnswer:"
    return framed(question)


def max_new_tokens(kind: str, k: int = 1) -> int:
    """The official release's budget: 16 tokens, Listing 32, and 12 more for each further class of k."""
    return 32 if kind == "listing" else 16 + 12 * (k - 1)
