"""Checking a finished doc against the rules of METHODS 2, from its stored columns alone.

Written apart from the planners on purpose: it knows neither the pool nor how a doc was drawn.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mimic_eval.records import Box
from mimic_tasks.planning.controls import MINIMUM_SIZE, Controls, Range


class WrongDoc(AssertionError):
    """A doc breaks a rule of its task. This is a defect of ours, never of the user's data."""


def verify_doc(kind: str, doc: Mapping[str, Any], *, areas: Sequence[int] | None = None) -> None:
    """Check one doc.

    Args:
        kind: the task.
        doc: its columns (METHODS 13).
        areas: pixels of each of its pictures, in which the boxes lie; without them Odd-One's threshold of
            1 % is not checked.

    Raises:
        WrongDoc: naming the rule and the doc.
    """
    images: Sequence[Sequence[Box]] = doc["boxes"]
    targets: list[str] = list(doc["targets"])
    shown = [Counter(box["class"] for box in boxes) for boxes in images]
    n = doc["n_images"]

    def require(condition: bool, rule: str) -> None:
        if not condition:
            raise WrongDoc(f"{doc['id']}: {rule}")

    def visible(classes: Sequence[str]) -> bool:
        return not any(
            box["class"] in classes and (box["small"] or box["crowd"]) for boxes in images for box in boxes
        )

    require(len(images) == n == len(doc["image_ids"]), "n_images is the number of images")
    require(len(set(doc["image_ids"])) == n, "all images differ")
    require(visible(targets), "every target is large and no crowd")
    with_target = sum(any(name in counts for name in targets) for counts in shown)
    require(with_target == doc["spread"], "spread is the number of images with a target")
    require(doc["distractors"] == n - doc["spread"], "distractors = N - spread")
    if kind == "counting":
        totals = {name: sum(counts[name] for counts in shown) for name in targets}
        require(len(targets) == doc["k"] and all(totals.values()), "each of the k classes has an instance")
        gt = ", ".join(f"{name}: {total}" for name, total in totals.items())
        require(doc["gt"] == (gt if len(targets) > 1 else str(totals[targets[0]])), "gt is the count")
    elif kind == "listing":
        require(doc["gt"] == ", ".join(sorted(targets)), "gt lists the targets in alphabetical order")
    elif kind == "common":
        everywhere = [name for name in shown[0] if all(name in counts for counts in shown)]
        require(everywhere == [doc["gt"]] == targets, "exactly one class is in every image")
    else:
        images_with = Counter(name for counts in shown for name in counts)
        require(2 * images_with[doc["gt"]] < n, "the answer is in fewer than half of the images")
        for rule, seen in _seen_at_thresholds(images, areas):
            count = Counter(name for names in seen for name in names)
            rare = [name for name in count if 2 * count[name] <= n]
            require(
                rare == [doc["gt"]] == targets, f"only the answer is in half of the images or fewer{rule}"
            )


def _seen_at_thresholds(
    images: Sequence[Sequence[Box]], areas: Sequence[int] | None
) -> Iterator[tuple[str, list[set[str]]]]:
    """The classes of each picture at each threshold of METHODS 2, with its name for a message."""
    yield "", [{box["class"] for box in boxes} for boxes in images]
    yield " (from 5 % of the picture)", [{b["class"] for b in boxes if not b["small"]} for boxes in images]
    if areas is not None:
        yield (
            " (from 1 % of the picture)",
            [
                {b["class"] for b in boxes if 100 * b["width"] * b["height"] >= area}
                for boxes, area in zip(images, areas, strict=True)
            ],
        )


def confusable_classes(doc: Mapping[str, Any]) -> list[str]:
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


def verify_controls(kind: str, doc: Mapping[str, Any], controls: Controls) -> None:
    """Check that a doc, right by `verify_doc`, is one that the controls of its task ask for.

    `hard` is left out: the columns do not hold the classes' super-categories.

    Args:
        kind: the task.
        doc: its columns (METHODS 13).
        controls: what was asked.

    Raises:
        WrongDoc: naming the option and the doc.
    """

    def require(option: str, value: int, asked: Range | None) -> None:
        if asked and not asked.low <= value <= asked.high:
            raise WrongDoc(f"{doc['id']}: --{option} {asked} was asked, the doc has {value}")

    if doc["n_images"] < MINIMUM_SIZE[kind]:
        raise WrongDoc(f"{doc['id']}: {kind} needs at least {MINIMUM_SIZE[kind]} images")
    require("n-images", doc["n_images"], controls.n_images)
    if kind == "counting":
        require("spread", doc["spread"], controls.spread)
        require("distractors", doc["distractors"], controls.distractors)
        require("k", doc["k"], Range(controls.k, controls.k))
        if doc["split"] not in (
            ("balanced", "unbalanced") if controls.split == "both" else (controls.split,)
        ):
            raise WrongDoc(f"{doc['id']}: --split {controls.split} was asked, the doc is {doc['split']}")
        if doc["split"] == "balanced":
            counts = [int(part.rpartition(": ")[2]) for part in doc["gt"].split(", ")]
            require("total", sum(counts), controls.total)
    elif kind == "listing":
        require("listed", len(doc["targets"]), controls.listed)
        category = doc.get("category")
        if controls.category not in (None, category):
            raise WrongDoc(f"{doc['id']}: --category {controls.category} was asked, the doc has {category}")
    else:
        if kind == "oddone":
            require("minority", doc["spread"], controls.minority)
        require("confusable", len(confusable_classes(doc)), controls.confusable)
        if controls.confusable and doc["n_images"] < 3:
            raise WrongDoc(f"{doc['id']}: --confusable needs at least 3 images")
