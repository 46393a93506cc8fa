"""The doc viewer: what each doc shows and asks, and what every entry answered, a page of docs at a time."""

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from leaderboard.site.results import CONTROLS, Answer, DocFacts

PER_PAGE = 20
THUMBNAIL = 320
"""The longer side of a picture, in pixels."""


class DocPicture(Protocol):
    """A picture of a doc."""

    @property
    def sha256(self) -> str:
        """Of its bytes."""

    @property
    def image_id(self) -> str:
        """Its id in the source."""

    @property
    def boxes(self) -> Sequence[Mapping[str, Any]]:
        """Every annotated box, as in METHODS 13."""

    @property
    def decode(self) -> Callable[[], Any]:
        """Gives the picture as PIL's RGB image; raises ValueError with the reason if it is broken."""


class StoredDoc(Protocol):
    """A doc as its task folder holds it."""

    @property
    def content_hash(self) -> str:
        """What it asks, as one hash."""

    @property
    def question(self) -> str:
        """As stored."""

    @property
    def gt(self) -> str:
        """As stored."""

    @property
    def pictures(self) -> Sequence[DocPicture]:
        """In the doc's order."""


class DocSource(Protocol):
    """Where docs with their pictures are found: a task folder."""

    def find(self, hashes: frozenset[str]) -> Iterable[StoredDoc]:
        """The docs with these content hashes, in the folder's order."""


@dataclass(frozen=True)
class ShownPicture:
    """A picture on a page; `file` below the site, or the `reason` why there is none."""

    image_id: str
    file: str | None
    reason: str | None
    width: int
    height: int
    alt: str
    boxes: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ShownAnswer:
    """What one entry answered in one image order."""

    entry: str
    label: str
    said: Answer


@dataclass(frozen=True)
class ShownDoc:
    """A doc of a board; `pictures` None: its data were not given. `right` of `n` answers score 1."""

    anchor: str
    number: int
    question: str
    gt: str
    controls: tuple[tuple[str, str], ...]
    image_ids: tuple[str, ...]
    orders: tuple[str, ...]
    pictures: tuple[ShownPicture, ...] | None
    answers: tuple[ShownAnswer, ...]
    right: int
    n: int


def anchor(doc: str) -> str:
    """The id of a doc on its page, from its key."""
    return "d" + hashlib.sha256(doc.encode()).hexdigest()[:12]


def page_of(board: str, place: int) -> str:
    """The viewer's page of the doc at a place of its board."""
    return f"docs/{board}-{place // PER_PAGE + 1}.html"


def shown_docs(
    docs: Sequence[DocFacts],
    answers: Sequence[tuple[str, str, Mapping[str, Sequence[Answer]]]],
    pictures: Mapping[str, tuple[ShownPicture, ...]],
    questions: Mapping[str, tuple[str, str]],
) -> list[ShownDoc]:
    """The docs of a page.

    Args:
        docs: in the page's order.
        answers: of each entry its id, its label and its answers by doc.
        pictures: of the docs whose data were given, by content hash.
        questions: question and truth as those data have them.
    """
    found = []
    for own in docs:
        said = tuple(
            ShownAnswer(entry, label, answer)
            for entry, label, by_doc in answers
            for answer in by_doc.get(own.doc, ())
        )
        base = own.doc.split("~")[0]
        question, gt = questions.get(base, (own.question, own.gt))
        found.append(
            ShownDoc(
                anchor=anchor(own.doc),
                number=own.number,
                question=question,
                gt=gt,
                controls=_controls(own),
                image_ids=tuple(own.image_ids),
                orders=tuple(", ".join(str(i + 1) for i in order) for order in own.orders if order),
                pictures=pictures.get(base),
                answers=said,
                right=sum(answer.said.score == 1 for answer in said),
                n=len(said),
            )
        )  # fmt: skip
    return found


def _controls(doc: DocFacts) -> tuple[tuple[str, str], ...]:
    return tuple((name, doc.controls[key]) for key, name in CONTROLS.items() if key in doc.controls)


class Album:
    """The site's pictures: each is decoded and written once, as a JPEG of our own making.

    Args:
        known: of an earlier build: width, height and the file's SHA-256 by picture, or the reason why it
            cannot be shown.
        digest: the SHA-256 of a file of the site, None if there is none.
        write: writes a file of the site.
    """

    def __init__(
        self,
        known: Mapping[str, Any],
        digest: Callable[[str], str | None],
        write: Callable[[str, bytes], None],
    ) -> None:
        self._known = dict(known)
        self._digest, self._write = digest, write
        self.used: dict[str, Any] = {}

    def show(self, doc: StoredDoc) -> tuple[ShownPicture, ...]:
        """The doc's pictures, written if they are new."""
        n = len(doc.pictures)
        return tuple(self._picture(i, n, own) for i, own in enumerate(doc.pictures, 1))

    def _picture(self, place: int, n: int, own: DocPicture) -> ShownPicture:
        key = own.sha256[:24]
        file = f"images/{key}.jpg"
        if key not in self.used:
            known = self._known.get(key)
            shown_before = isinstance(known, list) and known[2:] == [self._digest(file)]
            self.used[key] = known if shown_before or isinstance(known, str) else self._decoded(own, file)
        held = self.used[key]
        counts: dict[str, int] = {}
        for box in own.boxes:
            name = f"{box['class']}{' (target)' if box['target'] else ''}"
            counts[name] = counts.get(name, 0) + 1
        seen = ", ".join(f"{count} {name}" for name, count in counts.items()) or "no annotated object"
        alt = f"Image {place} of {n}: {seen}"
        if isinstance(held, str):
            return ShownPicture(own.image_id, None, held, 0, 0, alt, ())
        return ShownPicture(own.image_id, file, None, held[0], held[1], alt, tuple(map(_box, own.boxes)))

    def _decoded(self, own: DocPicture, file: str) -> list[int | str] | str:
        try:
            image = own.decode()
        except ValueError as error:
            return str(error)
        width, height = image.size
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.info.clear()  # a comment of the source would be written again
        out = io.BytesIO()
        image.save(out, "JPEG", quality=82)
        self._write(file, out.getvalue())
        return [width, height, hashlib.sha256(out.getvalue()).hexdigest()]


def _box(box: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: round(float(box[name]), 1) for name in ("x", "y", "width", "height")}
    flags = {name: bool(box[name]) for name in ("target", "small", "crowd")}
    return {"label": str(box["class"]), **numbers, **flags}
