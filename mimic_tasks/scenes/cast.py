"""Which classes a scene shows: those that have a glyph, in themes that scenes share."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from mimic_eval.records import UserError, nearest
from mimic_tasks.coco_classes import COCO_CLASSES

_CLASSES_A_SCENE = (0.35, 0.45, 0.2)  # probability of one, two, three
_SCENES_A_THEME = 16


@dataclass(frozen=True)
class Cast:
    """Which classes a scene shows: one entry an object, and the class of the extra small object if any."""

    large: tuple[str, ...]
    small: str | None


def scene_classes() -> tuple[str, ...]:
    """The COCO classes that have a glyph, by rising COCO id."""
    names = {entry.name.removesuffix(".png") for entry in (files("mimic_tasks") / "glyphs").iterdir()}
    return tuple(c.name for c in COCO_CLASSES if glyph_file(c.name) in names)


def selected_classes(classes: Sequence[str] | None) -> tuple[str, ...]:
    available = scene_classes()
    if classes is None:
        return available
    for name in classes:
        if name not in available:
            raise UserError(nearest("class", name, available))
    if not classes:
        raise UserError("--classes must name at least one class")
    return tuple(name for name in available if name in classes)


def theme_rng(seed: int) -> np.random.Generator:
    # [seed] would be the stream of [seed, 0], which is the first scene's: NumPy pads seeds with zeros.
    return np.random.default_rng([seed, 0, 1])


def draw_themes(
    rng: np.random.Generator, names: Sequence[str], *, n: int, use_all: bool
) -> list[tuple[str, ...]]:
    """Sets of two to four classes, one for every 16 scenes, from random partitions of the classes.

    A small run shows few classes, each often, because Common needs a class in many pictures.
    """
    wanted = max(2, n // _SCENES_A_THEME)
    themes: list[tuple[str, ...]] = []
    while len(themes) < wanted:
        order = [names[i] for i in rng.permutation(len(names))]
        partition = []
        while order:
            sizes = [k for k in (2, 3, 4) if k <= len(order) and len(order) - k != 1]
            length = int(rng.choice(sizes)) if sizes else len(order)
            partition.append(tuple(order[:length]))
            order = order[length:]
        themes += partition
    return themes if use_all else themes[:wanted]


def draw_cast(
    rng: np.random.Generator,
    themes: Sequence[tuple[str, ...]],
    usage: Counter[str],
    *,
    objects: tuple[int, int],
    small_share: float,
) -> Cast:
    """Choose the least used theme and its least used classes, and split the objects over them.

    `usage` (scenes that show a class) is updated.
    """
    count = int(rng.integers(objects[0], objects[1] + 1))
    kinds = min(count, 1 + int(rng.choice(3, p=_CLASSES_A_SCENE)))
    theme = min(themes, key=lambda t: sum(usage[name] for name in t) / len(t))
    shuffled = [theme[i] for i in rng.permutation(len(theme))]
    chosen = sorted(shuffled, key=lambda name: usage[name])[:kinds]
    usage.update(chosen)
    cuts = sorted(rng.permutation(count - 1)[: len(chosen) - 1] + 1)
    parts = np.diff([0, *cuts, count])
    large = [name for name, part in zip(chosen, parts, strict=True) for _ in range(part)]
    small = theme[int(rng.integers(len(theme)))] if rng.random() < small_share else None
    return Cast(tuple(large), small)


def glyph_file(name: str) -> str:
    return name.replace(" ", "_")
