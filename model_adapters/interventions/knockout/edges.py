"""Edges of attention as a user writes them: ``QUERY>KEY`` joined by ``+`` (METHODS 5, knockout)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mimic_eval.records import UserError, nearest

TEXTS = ("prefix", "between", "question", "last", "answer")
"""Groups of text: before the first image; between images; after the last one; the last token of that, which
predicts the first generated token; generated tokens."""
IMAGE, TARGET, DISTRACTOR, OTHER, LATER = "image", "target", "distractor", "other", "later"
FORM = (
    "`QUERY>KEY`, several joined by `+`; groups `prefix`, `image`, `between`, `question`, `last`, `answer`; "
    "some images: `image[target]`, `image[distractor]`, `image[2]` (from 1); with an image as QUERY also "
    "`other` and `later` (images) as KEY"
)
_ORDER = {"prefix": 0, IMAGE: 1, "between": 1, "question": 2, "last": 3, "answer": 4}
_ROLE = re.compile(r"image\[(.*)\]")


@dataclass(frozen=True)
class Group:
    """One side of an edge.

    Attributes:
        name: one of `TEXTS`, `IMAGE`, or as a key `OTHER` or `LATER`.
        role: of images: `TARGET`, `DISTRACTOR`, a number from 1, or None for all.
    """

    name: str
    role: str | int | None = None

    def __str__(self) -> str:
        """As the user writes it."""
        return self.name if self.role is None else f"{self.name}[{self.role}]"

    def images(self, roles: Sequence[bool] | None, count: int) -> list[int]:
        """The images that it names.

        Args:
            roles: whether each image is a target; None unless the group asks.
            count: of the doc's images.
        """
        if self.role is None:
            return list(range(count))
        if isinstance(self.role, int):
            return [self.role - 1] if self.role <= count else []
        return [m for m, target in enumerate(roles or ()) if target == (self.role == TARGET)]


@dataclass(frozen=True)
class Edge:
    """Rows of `query` do not see keys of `key`; a token always sees itself."""

    query: Group
    key: Group

    def __str__(self) -> str:
        """As the user writes it."""
        return f"{self.query}>{self.key}"

    @property
    def needs_roles(self) -> bool:
        """Whether the doc's boxes say which images are meant."""
        return any(isinstance(group.role, str) for group in (self.query, self.key))


def parse_edges(text: str) -> tuple[Edge, ...]:
    """The edges that a text names, each once.

    Args:
        text: ``QUERY>KEY`` joined by ``+``.

    Raises:
        UserError: another form, an unknown group, or an edge that no model has.
    """
    edges = []
    for part in text.replace(" ", "").split("+"):
        sides = part.split(">")
        if len(sides) != 2:
            raise UserError(
                f"edges must read QUERY>KEY, several joined by +; '{part}' does not (in a shell, put quotes "
                "around the value of --model_args: > writes a file)"
            )
        edges.append(Edge(_group(sides[0], part), _group(sides[1], part)))
    for edge in edges:
        _check(edge)
    return tuple(dict.fromkeys(edges))


def _group(word: str, part: str) -> Group:
    if word in (*TEXTS, IMAGE, OTHER, LATER):
        return Group(word)
    if match := _ROLE.fullmatch(word):
        role = match[1]
        if role.isascii() and role.isdecimal():
            if not int(role):
                raise UserError(f"edges={part}: images are numbered from 1, got {word}")
            return Group(IMAGE, int(role))
        if role in (TARGET, DISTRACTOR):
            return Group(IMAGE, role)
        roles = nearest("role of images", role, (TARGET, DISTRACTOR))
        raise UserError(f"edges={part}: {roles} Or a number from 1: image[2].")
    head, bracket, _ = word.partition("[")
    if bracket and head in (*TEXTS, OTHER, LATER):
        raise UserError(f"edges={part}: only image takes a role in brackets, got {word}")
    raise UserError(f"edges={part}: {nearest('group', word, (*TEXTS, *_IMAGES))}")


_IMAGES = (IMAGE, f"image[{TARGET}]", f"image[{DISTRACTOR}]", "image[2]", OTHER, LATER)


def _check(edge: Edge) -> None:
    """Refuse what no model has, whatever its base mask."""
    if edge.query.name in (OTHER, LATER):
        raise UserError(f"edges={edge}: {edge.query} is a KEY only, of an image as QUERY: image>{edge.query}")
    if edge.key.name in (OTHER, LATER) and edge.query.name != IMAGE:
        raise UserError(f"edges={edge}: {edge.key} needs an image as QUERY, got {edge.query}")
    if edge.query == edge.key == Group("last"):
        raise UserError(f"edges={edge} blocks nothing: last is one token, and a token always sees itself")
    if edge.key.name == "answer" and edge.query.name != "answer":
        raise UserError(f"edges={edge} can never exist: no token of the prompt sees generated tokens")


def needs_later_keys(edge: Edge) -> bool:
    """Whether all of an edge's keys come after its rows, so that a causal decoder has none of it."""
    query, key = edge.query, edge.key
    if key.name == LATER:
        return True
    if key.name == OTHER:
        return query.role == 1
    if isinstance(query.role, int) and isinstance(key.role, int):
        return key.role > query.role
    return _ORDER[query.name] < _ORDER[key.name]
