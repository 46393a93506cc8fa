"""From run folders to the site's files."""

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from leaderboard.diagnosis.drawing import render_csv, render_svg
from leaderboard.diagnosis.shown import Shown, read_shown
from leaderboard.reported import OVERVIEW, checked_rows, printed_table
from leaderboard.runs import has_results, results_files
from leaderboard.site import VERSION, tables
from leaderboard.site.boards import Board, BoardScores, Known, summarize_board
from leaderboard.site.dated import built_by, date_of_build, earlier_date
from leaderboard.site.doc_pages import Example, Pictures, write_docs
from leaderboard.site.documents import DocSource, page_of
from leaderboard.site.entries import Entry, EvaluatedRun, entries_of
from leaderboard.site.lookalikes import skeleton
from leaderboard.site.looks import key_of, number_looks
from leaderboard.site.overview import Overview, summarize_overview
from leaderboard.site.pages import MENU, STUDIES, WHY, Pages
from leaderboard.site.pieces import read_answers, read_docs, read_pieces
from leaderboard.site.ranks import PairTest
from leaderboard.site.results import HUMAN, TaskResult
from leaderboard.site.shared import NAME, checked_url, share_picture
from leaderboard.site.slugs import Wanted, slugs
from leaderboard.site.store import Site, json_text
from leaderboard.site.views import (
    DRAWN,
    entry_index,
    model_record,
    summarize_model,
    summarize_robustness,
    summarize_task,
)
from leaderboard.site.workers import in_processes
from leaderboard.studies.output import study_folders, write_into_site
from mimic_eval.records import BENCHMARK_MEASURES, UserError, task_kinds

_MANY_ENTRIES = 24
"""Entries from which on several processes are faster."""


@dataclass(frozen=True)
class RunFolder:
    """A folder of runs, and who sent it if it is a submission."""

    folder: Path
    submission: dict[str, str] | None = None


@dataclass(frozen=True)
class Built:
    """What was built: counts for the command to print."""

    index: Path
    entries: int
    boards: int
    docs: int
    notes: tuple[str, ...]


def build_site(
    given: Sequence[RunFolder],
    out: Path,
    *,
    sources: Iterable[DocSource],
    title: str,
    diagnoses: Sequence[Path] = (),
    url: str = "",
) -> Built:
    """Build the site, or renew it.

    Args:
        given: folders of runs; studies of `mimic reproduce` in them have pages of their own.
        out: the site's folder.
        sources: where docs' pictures are looked up, by content hash; the first that has a doc counts.
        title: of the site.
        diagnoses: folders of `mimic diagnose` and of its comparisons, for the page *Why*.
        url: where the site will be; pages then name their address and a picture, for links to them.

    Raises:
        UserError: a folder without runs or with broken ones, no task to show, two submissions of one name, an
            `out` that is not ours, a wrong `url` or SOURCE_DATE_EPOCH.
    """
    url = checked_url(url)
    date_of_build(None)
    _check_names(given)
    shown = list({one.id: one for one in map(read_shown, diagnoses)}.values())
    studies = study_folders(folder.folder for folder in given if folder.submission is None)
    site = Site(out)
    collecting = gc.isenabled()
    gc.disable()  # of the many samples none is part of a cycle
    try:
        return _build(site, given, sources, title, shown, studies, url)
    except BaseException:
        site.give_up()
        raise
    finally:
        if collecting:
            gc.enable()


def _check_names(given: Sequence[RunFolder]) -> None:
    folders: dict[str, Path] = {}
    for folder in given:
        name = skeleton((folder.submission or {}).get("name", ""))
        if name in folders:
            raise UserError(
                f"{folder.folder} and {folders[name]} are submissions with names that are equal or "
                "look alike: give only one, or rename one"
            )
        if name:
            folders[name] = folder.folder


def _build(
    site: Site,
    given: Sequence[RunFolder],
    sources: Iterable[DocSource],
    title: str,
    diagnoses: Sequence[Shown],
    studies: Sequence[Path],
    url: str,
) -> Built:
    dated: list[tuple[str, EvaluatedRun]] = []
    notes: list[str] = []
    skipped: list[str] = []
    for folder in given:
        if any(study.is_relative_to(folder.folder) for study in studies) and not has_results(folder.folder):
            continue  # a study of attention alone
        for piece, left_out in read_pieces(site, folder.folder, folder.submission, skipped):
            dated.append((piece.facts.date, piece))
            notes += left_out
    if not dated:
        folders = " ".join(str(folder.folder) for folder in given)
        if studies:
            raise UserError(
                f"{folders}: a leaderboard needs runs with scores beside a study of attention; the "
                f"study's own page is {studies[0] / 'index.html'}"
            )
        raise UserError(f"{folders}: {_why_none(given, len(skipped))}")
    dated.sort(key=lambda pair: pair[0])
    entries = _with_looks(site, _with_people(site, entries_of([piece for _, piece in dated])))
    extra = [page for page, wanted in ((WHY, diagnoses), (STUDIES, studies)) if wanted]
    pages = Pages(title, menu=(*MENU[:-1], *extra, MENU[-1]), url=url, picture=NAME if url else "")
    pictures = Pictures(site, sources)
    names = _names_of_boards([piece for _, piece in dated], entries)
    made = [_build_board(site, pages, entries, key, names[key], pictures) for key in sorted(names)]
    boards, examples = [board for board, _ in made], {board.id: example for board, example in made}
    order = (*task_kinds(), *BENCHMARK_MEASURES, "")
    boards.sort(key=lambda board: (board.data, board.permuted, order.index(board.kind), board.task))
    overview = summarize_overview(entries, boards, examples)
    if url:
        site.write(NAME, share_picture(title, _shared(site, overview)))
    _write_pages(site, pages, entries, boards, overview, examples, tuple(dict.fromkeys(notes)))
    _write_why(site, pages, diagnoses)
    write_into_site(studies, pages, site.write)
    pictures.finish()
    _write_index(site, pages, entries, boards, overview)
    site.finish()
    docs = sum(board.docs for board in boards)
    return Built(site.out / "index.html", len(entries), len(boards), docs, tuple(dict.fromkeys(notes)))


def _why_none(given: Sequence[RunFolder], skipped: int) -> str:
    """Why no run can be shown; the reasons of the `skipped` ones are printed already."""
    nothing = "evaluated no MIMIC task, and no other with a score for each doc"
    if not skipped:
        return f"its runs {nothing}"
    total = sum(len(results_files(folder.folder)) for folder in given)
    if total == 1:
        return "its only run was skipped, see above"
    some = f"all {total} runs" if skipped == total else f"{skipped} of {total} runs"
    return f"{some} were skipped, see above{f'; the others {nothing}' if skipped < total else ''}"


def _with_people(site: Site, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with people's results on the boards of the models that got their docs and others.

    A person answers some docs of a task; the board with the most docs that holds all of them is taken.
    """
    if not any(entry.kind == HUMAN for entry in entries):
        return list(entries)
    boards: dict[str, tuple[str, str, frozenset[str]]] = {}
    for entry in entries:
        for result in entry.results if entry.kind != HUMAN else ():
            if result.board not in boards:
                docs = frozenset(doc.doc for doc in read_docs(site, result.id))
                boards[result.board] = (result.task, result.data, docs)

    def on_its_board(result: TaskResult) -> TaskResult:
        docs = {doc.doc for doc in read_docs(site, result.id)}
        fitting = [
            (len(all_docs), board)
            for board, (task, data, all_docs) in boards.items()
            if (task, data) == (result.task, result.data) and docs <= all_docs
        ]
        return replace(result, board=max(fitting)[1]) if fitting else result

    return [
        replace(entry, results=tuple(map(on_its_board, entry.results))) if entry.kind == HUMAN else entry
        for entry in entries
    ]


def _with_looks(site: Site, entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the looks that the last build gave them, and new ones with looks of their own."""
    known = (site.read_script("data/looks.js") or {}).get("looks", {})
    looks = number_looks(entries, known if isinstance(known, dict) else {})
    site.write_script("data/looks.js", {"version": VERSION, "looks": looks})
    return [replace(entry, look=looks[key_of(entry)]) for entry in entries]


def _names_of_boards(pieces: Iterable[EvaluatedRun], entries: Sequence[Entry]) -> dict[str, str]:
    """The name of each board's page, by the key that results have, oldest board first."""
    used = {result.board for entry in entries for result in entry.results}
    oldest = [result for piece in pieces for result in piece.results]
    shown = [result for entry in entries for result in entry.results]
    wanted = {}
    for result in (*oldest, *shown):
        if result.board in used and result.board not in wanted:
            limited = f" {result.docs} docs" if result.headline.docs > result.docs else ""
            text = f"{result.task.removeprefix('mimic_')} {result.data}{limited}"
            wanted[result.board] = Wanted(result.board, text)
    return slugs(list(wanted.values()))


def _build_board(
    site: Site, pages: Pages, entries: Sequence[Entry], key: str, name: str, pictures: Pictures
) -> tuple[Board, Example | None]:
    """Rank a board and write all that needs its answers, which are then let go."""
    answers = BoardScores(partial(read_answers, site), partial(read_docs, site))
    tests = f"data/tests/{key}.js"
    earlier = site.read_script(tests) or {}
    known = Known(_known(earlier, "scores"), _known(earlier, "flips"))
    board = summarize_board(entries, key, name, answers, known)
    made = {"scores": [*board.tests, *board.base_tests], "flips": board.flips}
    site.write_script(tests, {"version": VERSION, **made})
    site.write_json(f"data/boards/{name}.json", board.record())
    return board, write_docs(site, pages, board, answers, pictures, partial(_board_csv, board))


def _board_csv(board: Board) -> dict[str, str]:
    """The CSV files of a board, by their names."""
    name = f"csv/tasks/{board.id}"
    files = {
        f"{name}.csv": tables.board_csv(board),
        f"{name}.pairs.csv": tables.pairs_csv(board, board.tests, board.ps),
        f"{name}.controls.csv": tables.controls_csv(board),
    }
    if any(standing.result.robustness for standing in board.standings):
        files[f"{name}.flips.csv"] = tables.pairs_csv(board, board.flips, board.flip_ps)
    return files


def _known(earlier: dict[str, Any], which: str) -> dict[tuple[str, str], PairTest]:
    """The paired tests of the last build: results are named by what they hold, so their tests stay true."""
    tests = [PairTest(*test) for test in earlier.get(which, ())]
    return {(test.a, test.b): test for test in tests}


def _shared(site: Site, overview: Overview) -> list[bytes]:
    """The images of the first example, for the picture of a link."""
    pictures = overview.explained[0].example.pictures if overview.explained else ()
    return [(site.out / file).read_bytes() for file, _, _ in pictures]


def _write_index(
    site: Site, pages: Pages, entries: Sequence[Entry], boards: Sequence[Board], overview: Overview
) -> None:
    """The first page, last: its date is the earlier one if no other file changed, and it neither."""
    reported = [(table, checked_rows(table)) for table in map(printed_table, OVERVIEW)]
    count = {"entries": len(entries), "docs": sum(board.docs for board in boards)}

    def rendered(day: str) -> str:
        built = built_by(day, entries)
        return pages.render("index", "index.html", page=overview, reported=reported, built=built, count=count)

    record = "data/built.json"
    earlier = None if site.would_change else earlier_date(site.read_json(record))
    day = date_of_build(earlier)
    page = rendered(day)
    if earlier is not None and not site.holds("index.html", page):
        day = date_of_build(None)
        page = rendered(day)
    site.write("index.html", page)
    site.write_json(record, {"version": VERSION, "date": day})


def _write_pages(
    site: Site,
    pages: Pages,
    entries: Sequence[Entry],
    boards: Sequence[Board],
    overview: Overview,
    examples: Mapping[str, Example | None],
    notes: Sequence[str],
) -> None:
    for name, text in pages.assets().items():
        site.write(name, text)
    site.write_json("data/overview.json", overview.record())
    site.write("csv/overview.csv", tables.overview_csv(overview))
    site.write("csv/reported.csv", tables.reported_csv())
    for board in boards:
        name = f"tasks/{board.id}.html"
        page = summarize_task(board)
        site.write(
            name,
            pages.render(
                "task",
                name,
                page=page,
                first_page=page_of(board.id, 0),
                drawn=DRAWN,
                example=examples.get(board.id),
            ),
        )
    pages.load("model")
    for files in in_processes(partial(_files_of_entry, pages, boards), entries, least=_MANY_ENTRIES):
        for name, text in files.items():
            site.write(name, text)
    robust = summarize_robustness(boards)
    site.write("csv/robustness.csv", tables.robustness_csv(robust))
    for task in robust:
        site.write(f"csv/tasks/{task.board.id}.places.csv", tables.places_csv(task))
    for name, values in (
        ("tasks", {"boards": boards}),
        ("robustness", {"tasks": robust, "drawn": DRAWN}),
        ("pairs", {}),
        ("method", {"boards": boards, "entries": entries, "notes": notes}),
    ):
        site.write(f"{name}.html", pages.render(name, f"{name}.html", **values))
    site.write_script("data/index.js", entry_index(entries, boards))


def _files_of_entry(pages: Pages, boards: Sequence[Board], entry: Entry) -> dict[str, str]:
    """The page of an entry and its numbers, by the files' names."""
    name, tasks = f"models/{entry.id}.html", summarize_model(entry, boards)
    return {
        name: pages.render("model", name, entry=entry, tasks=tasks),
        f"csv/models/{entry.id}.csv": tables.model_csv(entry, tasks),
        f"data/models/{entry.id}.json": json_text(model_record(entry, tasks)) + "\n",
    }


def _write_why(site: Site, pages: Pages, diagnoses: Sequence[Shown]) -> None:
    """The page of the diagnosed runs, its figures and their numbers; none without a diagnosis."""
    if not diagnoses:
        return
    for one in diagnoses:
        for plot, _ in one.figures:
            site.write(f"why/{one.id}-{plot.name}.svg", render_svg(plot))
            site.write(f"csv/why-{one.id}-{plot.name}.csv", render_csv(plot))
    site.write("why.html", pages.render("why", "why.html", diagnoses=diagnoses))
