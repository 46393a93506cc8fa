"""The pages of a board's docs: question, pictures, and the answer of every entry, 20 docs a page."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from markupsafe import Markup

from leaderboard.site.answers import DocAnswer
from leaderboard.site.controls import control_of
from leaderboard.site.doc_rows import answer_rows
from leaderboard.site.task_docs import CONTROLS, DocFacts
from leaderboard.site.workers import in_processes
from mimic_eval.records import order_text
from mimic_eval.viewer import DocPicture, PictureView, Thumbnail, make_thumbnail, view_picture

PER_PAGE = 20

_BATCH, _MANY = 32, 16
"""Docs whose pictures are in memory at a time; pictures from which on several processes are faster."""


class StoredDoc(Protocol):
    """A doc as its task folder holds it."""

    @property
    def content_hash(self) -> str:
        """A hash of its query."""

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
    """A source of docs with their pictures: a task folder."""

    @property
    def fingerprint(self) -> str:
        """A hash of its docs and pictures."""

    def find(self, hashes: frozenset[str]) -> Iterable[StoredDoc]:
        """The docs with these content hashes, in the folder's order."""


@dataclass(frozen=True)
class BoardDoc:
    """A doc of a board; `pictures` is None if the build was not given its data.

    `right` of `n` answers score 1; `rows` are theirs, as HTML.
    """

    anchor: str
    number: int
    question: str
    gt: str
    controls: tuple[tuple[str, str], ...]
    image_ids: tuple[str, ...]
    orders: tuple[str, ...]
    pictures: tuple[PictureView, ...] | None
    rows: Markup
    right: int
    n: int


def anchor(doc: str) -> str:
    """The id of a doc on its page, from its key."""
    return "d" + hashlib.sha256(doc.encode()).hexdigest()[:12]


def page_of(board: str, index: int) -> str:
    """The page of a board's doc, by the doc's index in the board."""
    return f"docs/{board}-{index // PER_PAGE + 1}.html"


def board_docs(
    docs: Sequence[DocFacts],
    answers: Sequence[tuple[Markup, Mapping[str, Sequence[DocAnswer]]]],
    pictures: Mapping[str, tuple[PictureView, ...]],
    questions: Mapping[str, tuple[str, str]],
) -> list[BoardDoc]:
    """The docs of a page.

    Args:
        docs: in the page's order.
        answers: of each entry its `name_cell` and its answers by doc.
        pictures: by content hash, of the docs whose data the build was given.
        questions: question and truth as those data have them.
    """
    return [_board_doc(facts, answers, pictures, questions) for facts in docs]


def _board_doc(
    facts: DocFacts,
    answers: Sequence[tuple[Markup, Mapping[str, Sequence[DocAnswer]]]],
    pictures: Mapping[str, tuple[PictureView, ...]],
    questions: Mapping[str, tuple[str, str]],
) -> BoardDoc:
    rows = [(name, answer) for name, by_doc in answers for answer in by_doc.get(facts.doc, ())]
    orders = tuple(order_text(order) for order in facts.orders if order)
    base = facts.doc.split("~")[0]
    question, gt = questions.get(base, (facts.question, facts.gt))
    return BoardDoc(
        anchor=anchor(facts.doc),
        number=facts.number,
        question=question,
        gt=gt,
        controls=tuple(
            (control_of(key, facts.kind).title, facts.controls[key])
            for key in CONTROLS
            if key in facts.controls
        ),
        image_ids=tuple(facts.image_ids),
        orders=orders,
        pictures=pictures.get(base),
        rows=answer_rows(rows, orders),
        right=sum(answer.score == 1 for _, answer in rows),
        n=len(rows),
    )


class Album:
    """The site's pictures: each is decoded and written once, as a JPEG that we encode.

    Args:
        known: of an earlier build: width, height and the file's SHA-256 by picture, or the reason why it
            cannot be shown.
        digest: the SHA-256 of a file of the site, or None if there is none.
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

    def show_all(self, docs: Iterable[StoredDoc]) -> Iterator[tuple[StoredDoc, tuple[PictureView, ...]]]:
        """The pictures of each doc. New ones are decoded in all cores, those of a few docs at a time."""
        docs = iter(docs)
        while batch := list(islice(docs, _BATCH)):
            new = {self.key_of(picture): picture for doc in batch for picture in doc.pictures}
            new = {key: picture for key, picture in new.items() if self._is_new(key)}
            made = in_processes(make_thumbnail, [one.decode for one in new.values()], least=_MANY)
            for key, thumbnail in zip(new, made, strict=True):
                self.used[key] = self._written(thumbnail, _file_of(key))
            yield from ((doc, self._show(doc)) for doc in batch)

    def _is_new(self, key: str) -> bool:
        if key in self.used:
            return False
        known = self._known.get(key)
        if isinstance(known, str) or (isinstance(known, list) and known[2:] == [self._digest(_file_of(key))]):
            self.used[key] = known
        return key not in self.used

    def _show(self, doc: StoredDoc) -> tuple[PictureView, ...]:
        n = len(doc.pictures)
        return tuple(self._picture(i, n, picture) for i, picture in enumerate(doc.pictures, 1))

    def key_of(self, picture: DocPicture) -> str:
        """What a picture is named by, in `used` and in its file's name."""
        return picture.sha256[:24]

    def _picture(self, position: int, n: int, picture: DocPicture) -> PictureView:
        key = self.key_of(picture)
        entry = self.used[key]
        size = entry if isinstance(entry, str) else (entry[0], entry[1])
        return view_picture(picture, position=position, n=n, source=_file_of(key), size=size)

    def _written(self, thumbnail: Thumbnail | str, file: str) -> list[int | str] | str:
        if isinstance(thumbnail, str):
            return thumbnail
        self._write(file, thumbnail.jpeg)
        return [thumbnail.width, thumbnail.height, hashlib.sha256(thumbnail.jpeg).hexdigest()]


def _file_of(key: str) -> str:
    return f"images/{key}.jpg"
