"""The page of a study as files: HTML, figures, CSV, JSON, Markdown; alone, or in a leaderboard."""

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from leaderboard.site.pages import Pages
from leaderboard.studies.records import study_csv
from leaderboard.studies.summary import PrintedNumber, ScoreTable, StudyPage, summarize_study
from leaderboard.studies.text import render_markdown
from mimic_eval.records.folders import write_atomically
from mimic_eval.studies import load_results
from mimic_eval.studies.results import RECORD

PAGE, FILES, TEXT = "index.html", "page/", "study.md"


def write_study(out: Path) -> StudyPage:
    """Write the page of a study into its own folder: ``index.html``, ``study.md`` and ``page/``.

    Raises:
        UserError: it holds no results of a study, or damaged ones.
    """
    page = summarize_study(load_results(out))
    pages = Pages(page.study.title, menu=(("Study", PAGE),))
    (out / FILES).mkdir(parents=True, exist_ok=True)

    def write(name: str, content: str | bytes) -> None:
        write_atomically(out / name, content if isinstance(content, bytes) else content.encode())

    for name in ("site.css", "tables.js"):
        write(name, pages.assets()[name])
    _write_files(page, FILES, write)
    write(TEXT, render_markdown(page))
    write(PAGE, render_page(pages, page, PAGE, FILES))
    return page


def study_folders(folders: Iterable[Path]) -> list[Path]:
    """The folders of `mimic reproduce` in some folders and below them."""
    found = {path.parent for folder in folders for path in folder.rglob(RECORD)}
    return sorted(found)


def write_into_site(
    folders: Iterable[Path], pages: Pages, write: Callable[[str, str | bytes], None]
) -> list[StudyPage]:
    """The pages of studies in a leaderboard: ``studies.html``, and one below ``studies/`` for each.

    Raises:
        UserError: a folder holds no results of a study.
    """
    shown = []
    for folder in folders:
        page = summarize_study(load_results(folder))
        digest = hashlib.sha256((folder / RECORD).read_bytes()).hexdigest()[:8]
        name = f"studies/{re.sub('[^a-z0-9]+', '-', page.study.id)}-{digest}"
        _write_files(page, f"{name}/", write)
        write(f"{name}.html", render_page(pages, page, f"{name}.html", f"../{name}/"))
        shown.append((f"{name}.html", page))
    if shown:
        write("studies.html", pages.render("studies", "studies.html", studies=shown))
    return [page for _, page in shown]


def _write_files(page: StudyPage, folder: str, write: Callable[[str, str | bytes], None]) -> None:
    for figure in page.figures:
        write(f"{folder}{figure.name}.svg", figure.svg())
        write(f"{folder}{figure.name}.csv", figure.csv)
    for label, pictures in page.maps:
        for picture in pictures:
            write(f"{folder}{map_name(label, picture)}", picture.read_bytes())
    write(f"{folder}study.csv", study_csv(page))


def map_name(label: str, picture: Path) -> str:
    """The file of a map."""
    return f"map-{re.sub('[^A-Za-z0-9]+', '-', label)}-{picture.name}"


def render_page(pages: Pages, page: StudyPage, name: str, files: str) -> str:
    """The page as HTML; `files` is where its figures are."""
    return pages.render(
        "study", name, page=page, files=files, map_name=map_name,
        verdicts_of=verdicts_of, table_note=partial(table_note, page),
    )  # fmt: skip


def verdicts_of(numbers: Iterable[PrintedNumber]) -> str:
    """How many numbers of a row got which verdict."""
    words = [
        "attainable as any number is"
        if one.check.verdict == "attainable" and one.check.chance == 1
        else one.check.verdict
        for one in numbers
        if one.check is not None
    ]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def table_note(page: StudyPage, table: ScoreTable) -> str:
    """What a reader must know of the reported numbers beside a table's scores."""
    found = [one for key in table.scores for one in table.differences.get(key, ())]
    if any(one.difference is not None for one in found):
        return (
            "Below a score: the reported number, and measured minus reported with the interval of the "
            "measurement; the reported number has none."
        )
    reasons = list(dict.fromkeys(one.why_not for one in found))
    if reasons and page.study.reported:
        return f"No difference to the reported numbers is given: {'; '.join(reasons)}."
    return ""
