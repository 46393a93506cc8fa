"""The table of a doc's answers, as HTML. Cells that many rows have in common are made once."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from leaderboard.site.answers import DocAnswer
from leaderboard.site.texts import readable, unbroken


def name_cell(entry: str, label: str) -> Markup:
    """The first cell of an entry's rows.

    Args:
        entry: its id.
        label: its label.
    """
    link = Markup('<th scope="row"><a href="../models/{}.html">{}</a></th>')
    return link.format(entry, unbroken(label))


def answer_rows(rows: Iterable[tuple[str, DocAnswer]], orders: Sequence[str]) -> Markup:
    """The rows of a doc's table.

    Args:
        rows: for each answer the entry's `name_cell` and the answer.
        orders: of the images, as texts; empty for a doc of one order, whose table has no such column.
    """
    cells = [f"<td>{escape(order)}</td>" for order in orders]
    parts = []
    for name, answer in rows:
        start, end = _answer_cells(
            answer.status, answer.score, answer.official, answer.response, answer.answer
        )
        order = ""
        if cells:
            order = cells[answer.order] if answer.order < len(cells) else "<td></td>"
        parts.append(f"{start}{name}{order}{end}")
    return Markup("".join(parts))


@lru_cache(maxsize=1 << 13)
def _answer_cells(
    status: str, score: float | None, official: float | None, response: str, answer: str
) -> tuple[str, str]:
    """A row before its name and after its order."""
    mark = "right" if score == 1 else "wrong" if score == 0 else ""
    read = readable(answer) if status == "parsed" else status
    end = Markup('<td class="answer">{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td></tr>\n')
    return f'<tr class="{mark}">', str(end.format(response, read, _percent(score), _percent(official)))


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.3g}"
