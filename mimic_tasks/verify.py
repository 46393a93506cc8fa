"""Checking a finished doc against the rules of METHODS 2, from its stored columns alone.

Written apart from the planners on purpose: it knows neither the pool nor how a doc was drawn.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_eval.records import Box


class WrongDoc(AssertionError):
    """A doc breaks a rule of its task. This is a defect of ours, never of the user's data."""


def verify_doc(kind: str, doc: Mapping[str, Any]) -> None:
    """Check one doc.

    Args:
        kind: the task.
        doc: its columns (METHODS 13).

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
        rare = [name for name, count in images_with.items() if 2 * count <= n]
        require(rare == [doc["gt"]] == targets, "exactly one class is not in more than half of the images")
        require(2 * images_with[doc["gt"]] < n, "the answer is in fewer than half of the images")
