"""English plurals of class names: rules of spelling, and the words that they do not fit."""

import re
from functools import lru_cache

from mimic_tasks.scoring.words import PLURALS

_SAME = (
    "people men women children mice lice geese feet teeth dice deer sheep moose swine salmon trout cattle "
    "police furniture luggage baggage jewelry jewellery cutlery machinery scenery equipment butter money "
    "rice data media bacteria wildlife"
)
"""Words that are plurals or have none."""

_RULES = tuple(
    (re.compile(pattern, re.I), ending)
    for pattern, ending in (
        (rf"^({'|'.join(_SAME.split())})$", r"\1"),
        (r"(fish|craft)$", r"\1"),
        (r"(p)erson$", r"\1eople"),
        (r"(child)$", r"\1ren"),
        (r"^(ox)$", r"\1en"),
        (r"^(d)ie$", r"\1ice"),
        (r"(m)ouse$", r"\1ice"),
        (r"^(l)ouse$", r"\1ice"),
        (r"(?<!mon)(g)oose$", r"\1eese"),
        (r"(f)oot$", r"\1eet"),
        (r"(t)ooth$", r"\1eeth"),
        (r"(?<!hu)(?<!ger)(?<!otto)(?<!cai)(?<!sha)(?<!talis)(m)an$", r"\1en"),
        (r"(cal|hal|el|wol|scar|whar|dwar|lea|loa|shea|thie)f$", r"\1ves"),
        (r"(kni|li|wi)fe$", r"\1ves"),
        (r"((?:tomat|potat|torped|mosquit|tornad|volcan|buffal|flaming|mang|carg|domin)o)$", r"\1es"),
        (r"^(halo|hero|echo)$", r"\1es"),
        (r"(stomach|monarch)$", r"\1s"),
        (r"(quiz)$", r"\1zes"),
        (r"((?:^|[^aeiou]|qu))y$", r"\1ies"),
        (r"(^(?:gas|lens|bias|atlas|canvas|iris|ibis|mantis|trellis|rhinoceros)|us|ss|x|z|ch|sh)$", r"\1es"),
        (r"(s)$", r"\1"),  # "heels" is a plural already
        (r"$", "s"),
    )
)
"""(pattern, what replaces it): the first that matches."""


@lru_cache(maxsize=8192)
def plural(name: str) -> str:
    """The English plural of a class name: `knife` -> `knives`, `person` -> `people`, `skis` -> `skis`."""
    head, _, last = name.rpartition(" ")
    if last.lower() in PLURALS:
        return f"{head} {PLURALS[last.lower()]}".strip()
    if not re.fullmatch(r"[A-Za-z]+", last):
        return f"{name}s"
    pattern, ending = next(rule for rule in _RULES if rule[0].search(last))
    return f"{head} {pattern.sub(ending, last, count=1)}".strip()
