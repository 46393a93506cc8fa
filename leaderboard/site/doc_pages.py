"""The files of a board that hold its docs: pages, the data of head to head, an example for the overview."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from leaderboard.site import VERSION
from leaderboard.site.answers import DocAnswer
from leaderboard.site.boards import Board, BoardScores, pairs_record
from leaderboard.site.doc_index import doc_index
from leaderboard.site.doc_rows import name_cell
from leaderboard.site.documents import PER_PAGE, Album, DocSource, anchor, board_docs, page_of
from leaderboard.site.pages import Pages
from leaderboard.site.store import Site
from leaderboard.site.task_docs import DocFacts
from leaderboard.site.workers import in_processes
from mimic_eval.viewer import PictureView

_FEW = (2, 4)
"""Images of a doc that is shown as an example, if one has so many."""


_MANY_ROWS = 10_000
"""Answers to the docs of a board from which on several processes are faster."""


@dataclass(frozen=True)
class Example:
    """A doc that shows what a task asks.

    Attributes:
        question: as stored.
        gt: the right answer.
        page: where it stands, below the site.
        pictures: file, width and height of each image, in the doc's order.
    """

    question: str
    gt: str
    page: str
    pictures: tuple[tuple[str, int, int], ...]


class Views(NamedTuple):
    """Docs of the folders by content hash: their pictures, question with truth, and the pictures' keys."""

    pictures: dict[str, tuple[PictureView, ...]]
    texts: dict[str, tuple[str, str]]
    keys: set[str]


class Pictures:
    """The pictures of docs, from the folders given, and what an earlier build knew of them."""

    def __init__(self, site: Site, sources: Iterable[DocSource]) -> None:
        self._site, self._sources = site, tuple(sources)
        self._known = (site.read_script("data/pictures.js") or {}).get("pictures", {})
        self._album = Album(self._known, site.digest, site.write)

    @property
    def fingerprints(self) -> list[str]:
        """Of the folders."""
        return [source.fingerprint for source in self._sources]

    def of(self, hashes: frozenset[str]) -> "Views":
        """What the folders have of the docs with these content hashes."""
        views = Views({}, {}, set())
        for source in self._sources:
            for doc, pictures in self._album.show_all(source.find(hashes - views.pictures.keys())):
                views.pictures[doc.content_hash] = pictures
                views.texts[doc.content_hash] = (doc.question, doc.gt)
                views.keys.update(map(self._album.key_of, doc.pictures))
        return views

    def keep(self, keys: Iterable[str]) -> bool:
        """Pictures that stay as an earlier build wrote them; False if it does not know one of them."""
        keys = list(keys)
        self._album.used.update({key: self._known[key] for key in keys if key in self._known})
        return all(key in self._known for key in keys)

    def finish(self) -> None:
        """Keep what was learnt, and the files that pages show."""
        self._site.write_script(
            "data/pictures.js", {"version": VERSION, "pictures": dict(sorted(self._album.used.items()))}
        )
        for key, entry in self._album.used.items():
            if isinstance(entry, list):
                self._site.keep(f"images/{key}.jpg")


def write_docs(
    site: Site,
    pages: Pages,
    board: Board,
    answers: BoardScores,
    pictures: Pictures,
    more: Callable[[], Mapping[str, str]],
) -> Example | None:
    """Write what holds the docs of a board, unless an earlier build wrote it of the same inputs.

    Args:
        site: the site.
        pages: its templates.
        board: the board.
        answers: of its results.
        pictures: of docs.
        more: other files that follow from results, labels and tests of the board alone, by their names.

    Returns:
        The example, or None if the board has no doc.
    """
    part = f"docs {board.id}"
    shown = [
        (one.entry.id, one.entry.label, one.entry.look, one.result.id, one.score) for one in board.standings
    ]
    tests = [list(map(list, tests)) for tests in (board.tests, board.flips)]
    bases = [(one.entry.id, one.base.record()) for one in board.standings if one.base is not None]
    inputs = [pages.site, board.id, board.title, board.data, shown, tests, bases, pictures.fingerprints]
    note = site.unchanged(part, inputs)
    if note is not None and pictures.keep(note["pictures"]):
        return None if note["example"] is None else _example(note["example"])
    complete = max(board.standings, key=lambda one: (one.result.docs, one.result.id)).result.id
    docs = sorted(answers.docs(complete), key=lambda facts: (facts.number, facts.doc))
    where = {facts.doc: f"{page_of(board.id, i)}#{anchor(facts.doc)}" for i, facts in enumerate(docs)}
    views = pictures.of(frozenset(facts.doc.split("~")[0] for facts in docs))
    by_entry = [
        (one.entry.id, one.entry.label, _by_doc(answers.answers(one.result.id))) for one in board.standings
    ]
    scripts = {
        f"data/boards/{board.id}.js": pairs_record(board),
        f"data/docs/{board.id}.js": doc_index(board, docs, where, by_entry, views.pictures, views.texts),
    }
    for name, script in scripts.items():
        site.write_script(name, script)
    others = more()
    for name, text in others.items():
        site.write(name, text)
    files = [*scripts, *others, *_write_pages(site, pages, board, docs, by_entry, views)]
    example = _chosen(docs, views, where)
    images = {view.source for of_doc in views.pictures.values() for view in of_doc if view.source}
    note = {"pictures": sorted(views.keys), "example": None if example is None else asdict(example)}
    site.made(part, inputs, [*files, *sorted(images)], note)
    return example


def _example(record: dict[str, Any]) -> Example:
    pictures = tuple((str(file), int(width), int(height)) for file, width, height in record["pictures"])
    return Example(record["question"], record["gt"], record["page"], pictures)


def _chosen(
    docs: Sequence[DocFacts],
    views: Views,
    where: dict[str, str],
) -> Example | None:
    """The first doc with few images that can all be shown; else the first doc."""

    def fits(facts: DocFacts) -> bool:
        of_doc = views.pictures.get(facts.doc.split("~")[0], ())
        return _FEW[0] <= len(of_doc) <= _FEW[1] and all(view.width for view in of_doc)

    doc = next(filter(fits, docs), docs[0] if docs else None)
    if doc is None:
        return None
    base = doc.doc.split("~")[0]
    question, gt = views.texts.get(base, (doc.question, doc.gt))
    of_doc = views.pictures.get(base, ()) if fits(doc) else ()
    pictures = tuple((str(view.source), view.width, view.height) for view in of_doc)
    return Example(question, gt, where[doc.doc], pictures)


def _by_doc(answers: Iterable[DocAnswer]) -> dict[str, list[DocAnswer]]:
    by_doc: dict[str, list[DocAnswer]] = {}
    for answer in answers:
        by_doc.setdefault(answer.doc, []).append(answer)
    return by_doc


def _write_pages(
    site: Site,
    pages: Pages,
    board: Board,
    docs: Sequence[DocFacts],
    answers: Sequence[tuple[str, str, dict[str, list[DocAnswer]]]],
    views: Views,
) -> list[str]:
    total = -(-len(docs) // PER_PAGE)
    names = [page_of(board.id, (number - 1) * PER_PAGE) for number in range(1, total + 1)]
    named = [(name_cell(entry, label), by_doc) for entry, label, by_doc in answers]

    def rendered(number: int) -> str:
        docs_here = docs[(number - 1) * PER_PAGE : number * PER_PAGE]
        shown = board_docs(docs_here, named, views.pictures, views.texts)
        return pages.render("docs", names[number - 1], board=board, docs=shown, number=number, total=total)

    pages.load("docs")
    least = 1 if len(docs) * len(answers) > _MANY_ROWS else total + 1
    for name, page in zip(names, in_processes(rendered, range(1, total + 1), least=least), strict=True):
        site.write(name, page)
    return names
