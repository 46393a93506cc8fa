"""Class names as models write them: plurals, COCO synonyms, and where a text mentions a class.

Matching is by whole words, never by substring, so `carrot` is not a car and `cattle` is not a cat
(METHODS 2.1, defect b). Words that could mean several classes or none (glass, bag, computer) are left out.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from mimic_tasks import coco_classes

COCO_CLASSES = tuple(row.name for row in coco_classes.COCO_CLASSES)
"""The 80 object classes of MS-COCO, in the order of its category ids."""

_SAME_AS = {
    "person": "human, human being",
    "bicycle": "bike, pushbike",
    "car": "automobile",
    "motorcycle": "motorbike",
    "airplane": "plane, aeroplane, aircraft",
    "train": "locomotive",
    "truck": "lorry",
    "traffic light": "stoplight, traffic signal, traffic lamp",
    "fire hydrant": "hydrant",
    "backpack": "rucksack, knapsack",
    "umbrella": "parasol",
    "handbag": "purse",
    "tie": "necktie",
    "frisbee": "flying disc, flying disk",
    "skis": "ski",
    "sports ball": "ball, sport ball",
    "baseball bat": "bat",
    "baseball glove": "baseball mitt, mitt",
    "tennis racket": "racket, racquet, tennis racquet",
    "wine glass": "wineglass",
    "donut": "doughnut",
    "couch": "sofa, settee",
    "potted plant": "plant, houseplant, pot plant",
    "dining table": "table, dining room table, dinner table",
    "tv": "television, television set, tv set, tv monitor, monitor",
    "laptop": "laptop computer",
    "mouse": "computer mouse",
    "remote": "remote control, remote controller, tv remote, television remote, tv remote control",
    "keyboard": "computer keyboard",
    "cell phone": "phone, mobile phone, smartphone, cellular phone, telephone",
    "microwave": "microwave oven",
    "oven": "stove",
    "sink": "washbasin",
    "refrigerator": "fridge",
    "scissors": "scissor",
    "teddy bear": "teddy, stuffed bear, toy bear, plush bear",
    "hair drier": "hair dryer, blow dryer, blow drier",
}
"""Other words for the same class."""

_KINDS_OF = {
    "person": "man, woman, boy, girl, child, kid, baby, toddler, infant, teenager, adult, lady, gentleman, "
    "guy, pedestrian, cyclist, skier, snowboarder, skateboarder, surfer, tennis player, baseball player, "
    "soccer player, football player, basketball player",
    "bicycle": "mountain bike",
    "car": "taxi, sedan, suv",
    "motorcycle": "moped, dirt bike, motor scooter",
    "airplane": "jet, airliner, jetliner, biplane",
    "bus": "minibus, schoolbus",
    "truck": "pickup, fire engine, firetruck",
    "boat": "ship, sailboat, canoe, kayak, ferry, yacht, rowboat, speedboat, motorboat",
    "bird": "duck, goose, swan, seagull, gull, pigeon, parrot, penguin, owl, eagle, sparrow, chicken",
    "cat": "kitten, kitty",
    "dog": "puppy",
    "horse": "pony, foal",
    "sheep": "lamb",
    "cow": "cattle, bull, calf, ox",
    "handbag": "shoulder bag, tote bag",
    "tie": "bow tie",
    "suitcase": "luggage",
    "sports ball": "basketball, football, volleyball",
    "cup": "mug, teacup",
    "sandwich": "hamburger, burger, cheeseburger",
    "orange": "tangerine, clementine",
    "cake": "cupcake, cheesecake, carrot cake",
    "chair": "armchair, stool, wheelchair",
    "toilet": "urinal, toilet bowl, toilet seat",
    "cell phone": "iphone",
    "potted plant": "flowerpot",
}
"""Narrower words: each is one of the class, but the class is more."""

_TRAPS = (
    "cable car, car seat, train car, bus stop, bus station, train station, train track, dog food, cat food, "
    "dog house, bird house, bird cage, bird feeder, prairie dog, toilet paper, table tennis, table cloth, "
    "flower bed, ski slope, ski pole, ski lift, ski resort, jet ski, orange juice, apple juice, "
    "orange color, orange colour, orange and white, orange and black, white and orange, black and orange"
)
"""Phrases that hold a class's word but mean none of the classes (or the colour)."""

_PLURALS = {
    "skis": "skis",
    "scissors": "scissors",
    "people": "people",
    "broccoli": "broccoli",
    "luggage": "luggage",
    "gentleman": "gentlemen",
}
"""Last words that `inflect` gets wrong or that have no plural of their own."""

_WORD = re.compile(r"[^\W_]+")
_JOINER = re.compile(r"[ \t_\-\u2010\u2011]*\Z")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "`": "'"})
_CUE = re.compile(
    r"\b(?:no|not|without|neither|nor|never|none|nothing|cannot|zero|0|isnt|arent|dont|doesnt)\b|\b\w+n't\b",
    re.I,
)
_SCOPE_END = re.compile(
    r"[.,;:!?()\n]|\b(?:but|only|just|except|besides|instead|rather|other than|apart from|is|are|was|were|"
    r"its?|it's|that|which|while|whereas|because|doubt|sure|certain)\b",
    re.I,
)
_OR = re.compile(r"\s*,?\s*(?:(?:or|nor|and/or)\s+(?:(?:an?|any|the)\s+)?|and\s+(?:any\s+)?)\Z", re.I)
_COMMA = re.compile(r"\s*,\s*(?:any\s+)?\Z", re.I)
_AFTERWARDS = re.compile(
    r"\s+(?:(?:is|are|was|were)(?:\s+not|n't)\s+(?:present|visible|there|shown|seen|found|in any)\b"
    r"|(?:do|does)(?:\s+not|n't)\s+appear\b|(?:is|are)\s+(?:absent|missing)\b)"
    r"(?![^.;\n]{0,80}\b(?:others?|rest|most|all|every|some|each|remaining)\b)",
    re.I,
)
_SCOPE_WORDS = 6


class Mention(NamedTuple):
    """One place in a text that names a class: text[start:end], said or denied ("no cat")."""

    class_name: str
    start: int
    end: int
    negated: bool


def class_key(name: str) -> str:
    """What makes two spellings one name: case, spaces, hyphens and underscores do not count."""
    return "".join(_WORD.findall(name.casefold()))


@lru_cache(maxsize=8192)
def plural(name: str) -> str:
    """The English plural of a class name: `knife` -> `knives`, `person` -> `people`, `skis` -> `skis`."""
    head, _, last = name.rpartition(" ")
    if last.lower() in _PLURALS:
        return f"{head} {_PLURALS[last.lower()]}".strip()
    if not re.fullmatch(r"[A-Za-z]+", last):
        return f"{name}s"
    many = str(_engine().plural_noun(last))
    if last.endswith("s") and many == f"{last}s":
        many = last  # "heels" is plural already; inflect says "heelss"
    return f"{head} {many}".strip()


def doc_classes(doc: Mapping[str, Any], gt_classes: Iterable[str] = ()) -> tuple[str, ...]:
    """The vocabulary of a doc: COCO's classes and the doc's own (`gt_classes`, `targets`, `boxes`).

    Where the doc has its own word for one of COCO's classes (`Couch`, `Mobile phone`), the doc's stands.

    Args:
        doc: may hold `targets` (list of names) and `boxes` (list of dicts with the key "class").
        gt_classes: the class names in the doc's ground truth.

    Returns:
        Distinct names, COCO's first; a tuple, so that equal vocabularies share one cached table.
    """
    own = {str(name) for name in gt_classes}
    own.update(str(name) for name in _listed(doc, "targets"))
    for boxes in _listed(doc, "boxes"):  # one list for each image, or one flat list
        for box in boxes if isinstance(boxes, list | tuple) else (boxes,):
            if isinstance(box, Mapping) and "class" in box:
                own.add(str(box["class"]))
    return _with_coco(frozenset(own - _COCO_SET))


def find_mentions(text: str, classes: tuple[str, ...]) -> tuple[Mention, ...]:
    """Where `text` names a class of `classes`, in reading order, longest name first (`hot dog` is no dog).

    Case, plurals, COCO synonyms and hyphens, underscores or missing spaces between the words of a name do
    not matter (`hot-dog`, `cell_phone`, `teddybear`). A mention is `negated` where the text denies it:
    "no cat", "there isn't a cat", "neither cats nor dogs", "the cat is not present".

    Args:
        text: any string.
        classes: the vocabulary, as from `doc_classes`; a name in it beats a synonym of another.

    Returns:
        Mentions that do not overlap; `class_name` is spelled as in `classes`.
    """
    table, widest = _table(classes)
    text = text.translate(_APOSTROPHES)
    words = [(match.group().casefold(), match.start(), match.end()) for match in _WORD.finditer(text)]
    found: list[tuple[str, int, int]] = []
    place = 0
    while place < len(words):
        width, name = _longest(words, place, text, table, widest)
        if name is not None:
            found.append((name, words[place][1], words[place + width - 1][2]))
        place += width
    found = [item for i, item in enumerate(found) if not _is_colour(text, found, i)]
    return _with_negation(text, found)


def _longest(
    words: list[tuple[str, int, int]], place: int, text: str, table: Mapping[str, str | None], widest: int
) -> tuple[int, str | None]:
    """(words taken, class or None) of the longest phrase at `place`; (1, None) where there is none."""
    best: tuple[int, str | None] = (1, None)
    joined = ""
    for width in range(1, min(widest, len(words) - place) + 1):
        word, start, _ = words[place + width - 1]
        if width > 1 and not _JOINER.match(text, words[place + width - 2][2], start):
            break
        joined += word
        if joined in table:
            best = (width, table[joined])
    return best


def _is_colour(text: str, found: list[tuple[str, int, int]], i: int) -> bool:
    """`orange` right before another name is its colour: "an orange cat"."""
    _, start, end = found[i]
    return (
        text[start:end].lower() == "orange" and i + 1 < len(found) and text[end : found[i + 1][1]].isspace()
    )


def _with_negation(text: str, found: list[tuple[str, int, int]]) -> tuple[Mention, ...]:
    gaps = [text[(found[i - 1][2] if i else 0) : start] for i, (_, start, _) in enumerate(found)]
    # Does a bare-comma chain from i end in "or"? Then "no cats, dogs, or birds" denies all three.
    ends_in_or = [False] * (len(found) + 1)
    for i in range(len(found) - 1, -1, -1):
        ends_in_or[i] = bool(_OR.match(gaps[i])) or (bool(_COMMA.match(gaps[i])) and ends_in_or[i + 1])
    mentions: list[Mention] = []
    for i, (name, start, end) in enumerate(found):
        negated = _denied(gaps[i]) or bool(_AFTERWARDS.match(text, end))
        if not negated and i and mentions[-1].negated:
            negated = ends_in_or[i]
        mentions.append(Mention(name, start, end, negated))
    return tuple(mentions)


def _denied(gap: str) -> bool:
    """Does the last negation in `gap`, the text before a mention, reach the mention?"""
    reach = None
    for cue in _CUE.finditer(gap):
        reach = gap[cue.end() :]
    return reach is not None and not _SCOPE_END.search(reach) and len(_WORD.findall(reach)) <= _SCOPE_WORDS


@lru_cache(maxsize=1024)
def _table(classes: tuple[str, ...]) -> tuple[dict[str, str | None], int]:
    """(class of each known phrase by its key, most words in a phrase); None marks a trap."""
    table: dict[str, str | None] = {}
    same = [_same_as(class_key(name)) for name in classes]
    kinds = [_words_of(_KINDS_OF, head) for head, _ in same]
    rounds: list[list[tuple[str, ...]]] = [
        [(name,) for name in classes],
        [(plural(name),) for name in classes],
        [words for _, words in same],
        kinds,
    ]
    for forms in rounds:
        for name, words in zip(classes, forms, strict=True):
            for word in words:
                for form in (word, plural(word)):
                    table.setdefault(class_key(form), name)
    for trap in _TRAPS.split(", "):
        for form in (trap, plural(trap)):
            table.setdefault(class_key(form), None)
    table.pop("", None)
    widest = max(len(_WORD.findall(name)) for name in (*classes, *_LONGEST_PHRASES))
    return table, widest + 1


@lru_cache(maxsize=8192)
def _same_as(key: str) -> tuple[str, tuple[str, ...]]:
    """(COCO class, all words for it) of the group that holds the word with this key, else ("", ())."""
    head = _group_of().get(key, "")
    return head, (
        (head, *_words_of(_SAME_AS, head), *(("persons",) if head == "person" else ())) if head else ()
    )


@lru_cache(maxsize=1024)
def _with_coco(own: frozenset[str]) -> tuple[str, ...]:
    keys = {class_key(name) for name in own}
    replaced = {_same_as(key)[0] for key in keys}
    kept = (name for name in COCO_CLASSES if name not in replaced)
    return (*kept, *sorted(own))


def _words_of(words: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(words[name].split(", ")) if name in words else ()


def _listed(doc: Mapping[str, Any], column: str) -> tuple[Any, ...]:
    values = doc.get(column)
    return tuple(values) if isinstance(values, list | tuple) else ()


@lru_cache(maxsize=1)
def _group_of() -> dict[str, str]:
    """{key of a word or its plural: the COCO class it is another word for}."""
    groups = {class_key(name): name for name in COCO_CLASSES}
    for name in COCO_CLASSES:
        for word in (name, *_words_of(_SAME_AS, name)):
            groups.setdefault(class_key(word), name)
            groups.setdefault(class_key(plural(word)), name)
    return groups


@lru_cache(maxsize=1)
def _engine() -> Any:
    import typeguard

    # inflect has each of its functions rewritten at import to check their arguments: two seconds of a start
    checked = typeguard.typechecked
    typeguard.typechecked = lambda function: function  # type: ignore[assignment]
    try:
        import inflect
    finally:
        typeguard.typechecked = checked

    return inflect.engine()


_COCO_SET = frozenset(COCO_CLASSES)
_LONGEST_PHRASES = (*_TRAPS.split(", "), "tv remote control")
