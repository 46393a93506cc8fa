"""Which classes Counting and which categories Listing may name: what people count and say (METHODS 2).

The lists are exceptions: a class or category that is not in them is taken, so a data set with other names is
taken as it is. Names are compared without case, hyphens and underscores, in singular and plural.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mimic_eval.records import UserError, nearest
from mimic_tasks.sources.names import same_spelling

PROFILES = ("countable", "all")
DEFAULT_PROFILE = "countable"

_GROUPED_OR_SPLIT = (
    # COCO
    "banana, broccoli, carrot, orange, apple, book, dining table, bench, "
    # the same things in OpenImages, Objects365 and LVIS
    "table, coffee table, kitchen & dining room table, kitchen table, dinning table, desk, "
    "grape, strawberry, cherry, tomato, lemon, lime, pear, peach, potato, onion, pepper, bell pepper, "
    "cucumber, zucchini, mushroom, green bean, bean, pea, corn, lettuce, cabbage, green vegetables, "
    "vegetable, fruit, "
    "food, baked goods, bread, pastry, cookie, egg, french fries, fries, pasta, noodles, rice, salad, "
    "candy, flower, plant, houseplant, tree, palm tree, leaf, clothing, footwear, building, house, "
    "skyscraper, window, stairs, bookcase, shelf, cabinet/shelf, picture/frame, street lights, "
    "human hair, human eye, human ear, human hand, human arm, human leg, human head, human nose, human mouth"
)
_NOT_SAID = (
    # COCO
    "person, accessory, outdoor, kitchen, appliance, indoor, "
    # OpenImages' highest level
    "fashion accessory, kitchenware, home appliance, personal care, office supplies, bathroom accessory, "
    "plumbing fixture, human body, auto part, medical equipment, "
    # what exports write where there is no category
    "object, objects, other, others, thing, things, misc, miscellaneous, class, classes, default, unknown"
)


@dataclass(frozen=True)
class Profile:
    """What a profile leaves out of a source.

    Attributes:
        name: one of `PROFILES`.
        uncounted: classes that no question of Counting names.
        unlisted: super-categories that no question of Listing names.
    """

    name: str
    uncounted: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()


def make_profile(name: str, *, classes: Sequence[str], categories: Sequence[str]) -> Profile:
    """A profile over the names of a source.

    Raises:
        UserError: no such profile.
    """
    if name not in PROFILES:
        raise UserError(nearest("profile", name, PROFILES))
    if name == "all":
        return Profile(name)
    return Profile(
        name,
        uncounted=_among(classes, _GROUPED_OR_SPLIT),
        unlisted=_among(list(dict.fromkeys(category for category in categories if category)), _NOT_SAID),
    )


def _among(names: Sequence[str], listed: str) -> tuple[str, ...]:
    """Those that are spellings of a listed name."""
    exceptions = listed.split(", ")
    group = same_spelling([*exceptions, *names])[len(exceptions) :]
    return tuple(name for name, first in zip(names, group, strict=True) if first < len(exceptions))
