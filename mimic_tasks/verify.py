"""Checking a finished doc against the rules of METHODS 2, from its stored columns alone.

Written apart from the planners on purpose: it knows neither the pool nor how a doc was drawn. The rules of
one kind of task are in its `TaskSpec`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from mimic_eval.records import Box
from mimic_tasks.planning.controls import LEAST_CONFUSABLE_SIZE, Controls
from mimic_tasks.task_spec import Doc, outside, spec_of


class WrongDoc(AssertionError):
    """A doc breaks a rule of its task. This is a defect of ours, never of the user's data."""


def verify_doc(kind: str, doc: Doc, *, areas: Sequence[int] | None = None) -> None:
    """Check one doc.

    Args:
        kind: the task.
        doc: its columns (METHODS 13).
        areas: pixels of each of its pictures, in which the boxes lie; without them Odd-One's threshold of
            1 % is not checked.

    Raises:
        WrongDoc: naming the rule and the doc.
    """
    for satisfied, rule in (*_common_rules(doc), *spec_of(kind).verify(doc, areas)):
        if not satisfied:
            raise WrongDoc(f"{doc['id']}: {rule}")


def _common_rules(doc: Doc) -> Iterator[tuple[bool, str]]:
    """The rules of all kinds of tasks."""
    images: Sequence[Sequence[Box]] = doc["boxes"]
    targets, n = list(doc["targets"]), doc["n_images"]
    yield len(images) == n == len(doc["image_ids"]), "n_images is the number of images"
    yield len(set(doc["image_ids"])) == n, "all images differ"
    hidden = (b for boxes in images for b in boxes if b["class"] in targets and (b["small"] or b["crowd"]))
    yield next(hidden, None) is None, "every target is large and no crowd"
    with_target = sum(any(name in counts for name in targets) for counts in class_counts(doc))
    yield with_target == doc["spread"], "spread is the number of images with a target"
    yield doc["distractors"] == n - doc["spread"], "distractors = N - spread"


def class_counts(doc: Doc) -> list[Counter[str]]:
    """The boxes of each class in each image of a doc."""
    return [Counter(box["class"] for box in boxes) for boxes in doc["boxes"]]


def confusable_classes(doc: Doc) -> list[str]:
    """The classes beside the targets that have a box, in whatever form, in exactly all images but one.

    Args:
        doc: its columns (METHODS 13); `boxes`, `targets` and `n_images` are looked at.

    Returns:
        Class names, alphabetical.
    """
    images: Sequence[Sequence[Box]] = doc["boxes"]
    images_with = Counter(name for boxes in images for name in {box["class"] for box in boxes})
    return sorted(
        name
        for name, count in images_with.items()
        if count == doc["n_images"] - 1 and name not in doc["targets"]
    )


def verify_controls(kind: str, doc: Doc, controls: Controls) -> None:
    """Check that a doc, right by `verify_doc`, satisfies the controls of its task.

    `hard` is left out: the columns do not hold the classes' super-categories.

    Args:
        kind: the task.
        doc: its columns (METHODS 13).
        controls: what was requested.

    Raises:
        WrongDoc: naming the option and the doc.
    """

    spec = spec_of(kind)
    faults = [
        *([f"{kind} needs at least {spec.minimum_images} images"] * (doc["n_images"] < spec.minimum_images)),
        *outside("n-images", doc["n_images"], controls.n_images),
        *spec.control_faults(doc, controls),
    ]
    if faults:
        raise WrongDoc(f"{doc['id']}: {faults[0]}")


def confusable_faults(doc: Doc, controls: Controls) -> Iterator[str]:
    """What a doc has that ``--confusable`` does not allow, one sentence each."""
    yield from outside("confusable", len(confusable_classes(doc)), controls.confusable)
    if controls.confusable and doc["n_images"] < LEAST_CONFUSABLE_SIZE:
        yield f"--confusable needs at least {LEAST_CONFUSABLE_SIZE} images"
