"""What the filters of doc pages and of head to head know of each doc of a board, in one small file."""

from collections.abc import Mapping, Sequence
from typing import Any

from leaderboard.site import VERSION
from leaderboard.site.answers import DocAnswer
from leaderboard.site.boards import Board
from leaderboard.site.task_docs import DocFacts
from mimic_eval.viewer import PictureView

_TRUTH_NAMES_CLASSES = ("listing", "common", "oddone")

ByEntry = Sequence[tuple[str, str, Mapping[str, Sequence[DocAnswer]]]]
"""Of each entry its id, its label and its answers by doc."""


def doc_index(
    board: Board,
    docs: Sequence[DocFacts],
    where: Mapping[str, str],
    answers: ByEntry,
    pictures: Mapping[str, Sequence[PictureView]],
    texts: Mapping[str, tuple[str, str]],
) -> dict[str, Any]:
    """The docs of a board, each with its page, its classes, its pictures and a mark for each entry.

    Args:
        board: the board.
        docs: in the order of their pages.
        where: the page of each and its place there, by doc.
        answers: of the entries.
        pictures: by content hash, of the docs whose data the build was given.
        texts: question and truth as those data have them.
    """
    files: dict[str, int] = {}
    rows = []
    for facts in docs:
        base = facts.doc.split("~")[0]
        views = pictures.get(base, ())
        question, gt = texts.get(base, (facts.question, facts.gt))
        rows.append(
            [
                facts.doc,
                facts.number,
                question,
                gt,
                facts.controls.get("n_images", ""),
                where[facts.doc],
                _classes(facts.kind, gt, views),
                [files.setdefault(view.source, len(files)) for view in views if view.source],
                "".join(_mark(by_doc.get(facts.doc, ())) for _, _, by_doc in answers),
            ]
        )
    entries = [[entry, label] for entry, label, _ in answers]
    return {"version": VERSION, "title": board.title, "entries": entries, "images": list(files), "docs": rows}


def _classes(kind: str, gt: str, views: Sequence[PictureView]) -> list[str]:
    """The classes that a doc asks about: those of its target boxes, else those that its truth names."""
    boxed = {box.label for view in views for box in view.boxes if box.target}
    return sorted(boxed or ({*gt.split(", ")} - {""} if kind in _TRUTH_NAMES_CLASSES else ()))


def _mark(answers: Sequence[DocAnswer]) -> str:
    """Of an entry: ``1`` if all answers are right, ``0`` none, ``p`` partly, ``u`` unscored, ``-`` none."""
    if len(answers) == 1:  # of nearly all tasks
        score = answers[0].score
        return "u" if score is None else "1" if score == 1 else "0" if score == 0 else "p"
    scores = [answer.score for answer in answers]
    if None in scores:
        return "u"
    if not scores:
        return "-"
    total = sum(score or 0.0 for score in scores)
    return "1" if total == len(scores) else "0" if total == 0 else "p"
