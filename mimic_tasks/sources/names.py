"""When two class names mean one class: spellings of one word, and words that our readers take for one."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from mimic_tasks.scoring.plurals import plural
from mimic_tasks.scoring.vocabulary import COCO_CLASSES, find_mentions

_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_\-\u2010-\u2015]+(?=[^\W_])")
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:[ _-][^\W\d_]+)*")
_ALSO_PLURAL = frozenset({"glass", "spectacle", "short", "scale", "good", "arm", "custom", "cloth", "clothe"})
"""Words whose plural is another thing (`glass`, `glasses`)."""
_SHORTEST_WORD = 3


def spelling_key(name: str) -> str:
    """What spellings of one name share: case, spaces, hyphens and underscores do not count, signs do."""
    return _BETWEEN_WORDS.sub("", unicodedata.normalize("NFKC", name).casefold().strip(" _")) or name


def same_spelling(names: Sequence[str]) -> list[int]:
    """For each name the position of the first that is the same word but for spelling or number.

    `Dog`, `dogs` and `dog` are one word, so are `traffic_light` and `traffic light`.
    """
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        first.setdefault(spelling_key(name), i)
    group = [first[spelling_key(name)] for name in names]
    for i, name in enumerate(names):
        last = _BETWEEN_WORDS.split(name)[-1].casefold()
        if group[i] == i and len(last) >= _SHORTEST_WORD and last not in _ALSO_PLURAL:
            for several in (plural(_BETWEEN_WORDS.sub(" ", name)), f"{name}s"):
                low, high = sorted((group[i], group[first.get(spelling_key(several), i)]))
                group = [low if at == high else at for at in group]
    return group


def synonyms(names: Iterable[str]) -> dict[str, list[str]]:
    """The names, by a class of COCO, that are words for it: `sofa` and `couch` are, `puppy` is no `dog`.

    Only classes with two names or more.
    """
    heads: dict[str, list[str]] = {}
    for name in names:
        head = _head(name)
        if head is not None:
            heads.setdefault(head, []).append(name)
    return {head: words for head, words in heads.items() if len(words) > 1}


def _head(name: str) -> str | None:
    """The class of COCO that a name is another word for. A narrower word names it, but is not named by it."""
    if not _PLAIN_WORDS.fullmatch(name):
        return None
    if name in COCO_CLASSES:
        return name
    head = _named(name, COCO_CLASSES)
    return head if head is not None and _named(head, (name,)) == name else None


def _named(text: str, classes: tuple[str, ...]) -> str | None:
    """The class that a text names and nothing else."""
    mentions = find_mentions(text, classes)
    alone = len(mentions) == 1 and (mentions[0].start, mentions[0].end) == (0, len(text))
    return mentions[0].class_name if alone else None
