"""Sources put together, so that one thing is there once: classes under one name, kinds, boxes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mimic_eval.records import UserError
from mimic_tasks.sources.base import Source
from mimic_tasks.sources.names import same_spelling, spelling_key, synonyms

SAME_BOX_IOU = 0.9
"""Boxes of a class that overlap this much are one object (METHODS 2)."""

REPEATED = "boxes left out, as another of their class covers the same place"
_NO_CATEGORY = ("none", "null")


def merge(sources: Sequence[Source]) -> Source:
    """Several sources, or one, as one: pictures are put one after the other.

    - **Ids.** Where two sources use the same image id, all ids become texts like ``2/17``: picture 17 of the
      second. Where one has numbers and another texts (COCO and OpenImages), all become texts.
    - **Names.** Spellings of a name (`Dog`, `dogs`, `dog`) are one class, called as the first of them. Other
      words for a class of COCO (`sofa`, `couch`) are one class too, unless a file has both: then each is
      taken for a kind of the other, so that where one is, the other is neither counted nor taken for absent.
    - **Kinds.** What one source says of the kinds of classes holds for all. A class that other classes have
      as their super-category is what they are kinds of; without any box (the root of an export) it is no
      class.
    - **Classes that a file lacks** may be in its pictures all the same (`Source.labelled`).
    - **Boxes.** Of boxes of a class with an IoU of 0.9 or more the first stays, a crowd if one of them is.

    Raises:
        UserError: a class has different super-categories.
    """
    sources = [_one_spelling(source) for source in _with_distinct_ids(sources)]
    apart = {word for source in sources for word in synonyms(source.classes)}
    source = _one_spelling(_joined(sources))
    return _with_warning(_without_repeats(_with_kinds(_one_word(source, apart))))


def _joined(sources: Sequence[Source]) -> Source:
    """The sources one after the other, each with the classes of its file."""
    if len(sources) == 1:
        return sources[0]
    images = np.cumsum([0, *(len(source.images) for source in sources)])[:-1]
    classes = np.cumsum([0, *(len(source.classes) for source in sources)])[:-1]
    notes: dict[str, int] = {}
    ancestors: dict[str, frozenset[str]] = {}
    for source in sources:
        for reason, count in source.notes:
            notes[reason] = notes.get(reason, 0) + count
        for name, above in source.ancestors.items():
            ancestors[name] = ancestors.get(name, frozenset()) | above
    return Source(
        name="+".join(dict.fromkeys(source.name for source in sources)),
        images=tuple(image for source in sources for image in source.images),
        classes=tuple(name for source in sources for name in source.classes),
        categories=tuple(category for source in sources for category in source.categories),
        image_index=np.concatenate([s.image_index + o for s, o in zip(sources, images, strict=True)]),
        class_index=np.concatenate([s.class_index + o for s, o in zip(sources, classes, strict=True)]),
        boxes=np.concatenate([s.boxes for s in sources]),
        crowd=np.concatenate([s.crowd for s in sources]),
        files=tuple(file for source in sources for file in source.files),
        notes=tuple(notes.items()),
        ancestors=ancestors,
        aliases={name: head for source in sources for name, head in source.aliases.items()},
        warnings=tuple(line for source in sources for line in source.warnings),
        labelled=tuple(
            part
            for source in sources
            for part in source.labelled or ((len(source.images), frozenset(source.classes)),)
        ),
    )


def _with_warning(source: Source) -> Source:
    """With a line on the classes that some of the files lack."""
    missing = sorted({name for _, names in lacking_classes(source) for name in names})
    if not missing:
        return source
    first = ", ".join(f"'{name}'" for name in missing[:3])
    line = (
        f"{len(missing)} of {len(source.classes)} classes are not in every annotation file ({first}...): "
        "pictures of a file without a class are not taken to lack it"
    )
    return replace(source, warnings=(*source.warnings, line))


def lacking_classes(source: Source) -> list[tuple[int, frozenset[str]]]:
    """How many pictures each annotation file has in turn, and which of the source's classes it lacks."""
    result = []
    for images, names in source.labelled:
        known = {source.aliases.get(name, name) for name in names}
        keys = {spelling_key(name) for name in known}
        lacking = (name for name in source.classes if name not in known and spelling_key(name) not in keys)
        result.append((images, frozenset(lacking)))
    return result


def _with_distinct_ids(sources: Sequence[Source]) -> Sequence[Source]:
    """The sources with ids of one type, all different."""
    ids = [image.image_id for source in sources for image in source.images]
    mixed = len({type(image_id) for image_id in ids}) > 1
    clash = len({str(image_id) for image_id in ids}) < len(ids)
    if not mixed and not clash:
        return sources
    return [
        replace(
            source,
            images=tuple(
                replace(image, image_id=f"{number}/{image.image_id}" if clash else str(image.image_id))
                for image in source.images
            ),
        )
        for number, source in enumerate(sources, 1)
    ]


def _one_spelling(source: Source) -> Source:
    """One class for all spellings of a name, one spelling for each super-category."""
    spelled: dict[str, str] = {}
    categories = [
        "" if spelling_key(category) in _NO_CATEGORY else spelled.setdefault(spelling_key(category), category)
        for category in source.categories
    ]
    return _merged(replace(source, categories=tuple(categories)), same_spelling(source.classes))


def _one_word(source: Source, apart: Collection[str]) -> Source:
    """Other words for a class merged, or taken for kinds of each other where a file tells them apart."""
    position = {name: i for i, name in enumerate(source.classes)}
    into = list(range(len(source.classes)))
    ancestors = dict(source.ancestors)
    for head, words in synonyms(source.classes).items():
        if any(a in source.ancestors.get(b, ()) for a in words for b in words):
            continue  # the source says which is a kind of which
        for word in words:
            if head in apart:
                ancestors[word] = ancestors.get(word, frozenset()) | (set(words) - {word})
            else:
                into[position[word]] = position[words[0]]
    return _merged(replace(source, ancestors=ancestors), into)


def _merged(source: Source, into: Sequence[int]) -> Source:
    """The source with each class taken for the one at the position given, itself for most."""
    if list(into) == list(range(len(source.classes))):
        return source
    used = np.bincount(source.class_index, minlength=len(source.classes)) > 0
    heads = sorted(set(into))
    categories = [_category(source, [c for c, head in enumerate(into) if head == one], used) for one in heads]
    name_of = {name: source.classes[head] for name, head in zip(source.classes, into, strict=True)}
    aliases = dict(source.aliases) | {name: head for name, head in name_of.items() if name != head}
    by_key = {spelling_key(name): head for name, head in name_of.items()}
    new = np.array([heads.index(head) for head in into], dtype=np.int64)
    return replace(
        source,
        classes=tuple(source.classes[head] for head in heads),
        categories=tuple(categories),
        class_index=new[source.class_index],
        aliases={name: name_of.get(head, head) for name, head in aliases.items()},
        ancestors=_renamed(source.ancestors, by_key),
    )


def _category(source: Source, spellings: Sequence[int], used: npt.NDArray[np.bool_]) -> str:
    """The super-category of a class with several spellings; those without boxes count if no other has any."""
    given = {source.categories[c]: source.classes[c] for c in spellings if source.categories[c]}
    if len(given) > 1:
        given = {
            source.categories[c]: source.classes[c] for c in spellings if source.categories[c] and used[c]
        }
    if len(given) > 1:
        (one, first), (other, second) = list(given.items())[:2]
        raise UserError(
            f"{source.name}: '{first}' and '{second}' are one class, but one is a '{one}' and the other a "
            f"'{other}': build them apart, or make the annotation files agree"
        )
    return next(iter(given), "")


def _renamed(ancestors: Mapping[str, frozenset[str]], by_key: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """With the names that classes have now, by their spelling."""
    result: dict[str, frozenset[str]] = {}
    for name, above in ancestors.items():
        target = by_key.get(spelling_key(name), name)
        kinds = frozenset(by_key.get(spelling_key(a), a) for a in above) - {target}
        result[target] = result.get(target, frozenset()) | kinds
    return result


def _with_kinds(source: Source) -> Source:
    """Classes that are super-categories of others: above them, or no class if they have no box."""
    by_key = {spelling_key(name): c for c, name in enumerate(source.classes)}
    used = np.bincount(source.class_index, minlength=len(source.classes)) > 0
    above = {
        c: by_key[spelling_key(category)]
        for c, category in enumerate(source.categories)
        if category and by_key.get(spelling_key(category), c) != c
    }
    ancestors = dict(source.ancestors)
    for c in above:
        kinds, at = set(), c
        while at in above and above[at] not in kinds:
            at = above[at]
            kinds.add(at)
        names = frozenset(source.classes[k] for k in kinds if used[k] and k != c)
        if names:
            ancestors[source.classes[c]] = ancestors.get(source.classes[c], frozenset()) | names
    roots = {root for root in above.values() if not used[root]}
    stay = [c for c in range(len(source.classes)) if c not in roots]
    new = np.zeros(len(source.classes), dtype=np.int64)
    new[stay] = np.arange(len(stay))
    return replace(
        source,
        classes=tuple(source.classes[c] for c in stay),
        categories=tuple(source.categories[c] for c in stay),
        class_index=new[source.class_index],
        ancestors=ancestors,
    )


def _without_repeats(source: Source) -> Source:
    repeated = _repeats(source)
    if not repeated:
        return source
    crowd = source.crowd.copy()
    for a, first in repeated.items():
        crowd[first] |= crowd[a]
    stay = np.ones(len(crowd), dtype=bool)
    stay[list(repeated)] = False
    notes = dict(source.notes)
    notes[REPEATED] = notes.get(REPEATED, 0) + len(repeated)
    return replace(
        source,
        image_index=source.image_index[stay],
        class_index=source.class_index[stay],
        boxes=source.boxes[stay],
        crowd=crowd[stay],
        notes=tuple(notes.items()),
    )


def _repeats(source: Source) -> dict[int, int]:
    """Each annotation that repeats an earlier one, and that one. Boxes without an area repeat nothing."""
    group = source.image_index * len(source.classes) + source.class_index
    order = np.argsort(group, kind="stable")
    group, boxes = group[order], source.boxes[order]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    area = boxes[:, 2] * boxes[:, 3]
    pairs: list[tuple[int, int]] = []
    left = np.arange(len(order))
    for step in range(1, len(order)):
        left = left[left + step < len(order)]
        left = left[group[left] == group[left + step]]
        if not len(left):
            break
        other = left + step
        shared = np.minimum(high[left], high[other]) - np.maximum(low[left], low[other])
        inside = shared.clip(0).prod(axis=1)
        both = area[left] + area[other] - inside
        same = (both > 0) & (inside >= SAME_BOX_IOU * both)
        pairs += zip(order[left[same]].tolist(), order[other[same]].tolist(), strict=True)
    repeated: dict[int, int] = {}
    for first, again in sorted(pairs):
        if first not in repeated:
            repeated.setdefault(again, first)
    return repeated
