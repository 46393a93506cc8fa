"""From run folders to the site's files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leaderboard.diagnosis.drawing import render_csv, render_svg
from leaderboard.diagnosis.shown import Shown, read_shown
from leaderboard.reported import OVERVIEW, checked_rows, printed_table
from leaderboard.runs import has_results
from leaderboard.site import VERSION, tables
from leaderboard.site.boards import Board, pairs_record, summarize_board
from leaderboard.site.doc_index import doc_index
from leaderboard.site.documents import PER_PAGE, Album, DocSource, anchor, board_docs, page_of
from leaderboard.site.entries import Entry, EvaluatedRun, entries_of
from leaderboard.site.lookalikes import skeleton
from leaderboard.site.looks import key_of, number_looks
from leaderboard.site.pages import MENU, STUDIES, WHY, Pages
from leaderboard.site.ranks import PairTest
from leaderboard.site.results import HUMAN, DocAnswer, DocFacts, TaskResult
from leaderboard.site.store import Site, read_answers, read_pieces
from leaderboard.site.views import (
    DRAWN,
    entry_index,
    model_record,
    summarize_model,
    summarize_overview,
    summarize_robustness,
    summarize_task,
)
from leaderboard.studies.output import study_folders, write_into_site
from mimic_eval.records import BENCHMARK_MEASURES, UserError, task_kinds


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
) -> Built:
    """Build the site, or renew it.

    Args:
        given: folders of runs; studies of `mimic reproduce` in them have pages of their own.
        out: the site's folder.
        sources: where docs' pictures are looked up, by content hash; the first that has a doc counts.
        title: of the site.
        diagnoses: folders of `mimic diagnose` and of its comparisons, for the page *Why*.

    Raises:
        UserError: a folder without runs or with broken ones, no task to show, two submissions of one name, or
            an `out` that is not ours.
    """
    _check_names(given)
    shown = list({one.id: one for one in map(read_shown, diagnoses)}.values())
    studies = study_folders(folder.folder for folder in given if folder.submission is None)
    site = Site(out)
    try:
        return _build(site, given, sources, title, shown, studies)
    except BaseException:
        site.give_up()
        raise


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
) -> Built:
    dated: list[tuple[str, EvaluatedRun]] = []
    notes: list[str] = []
    for folder in given:
        if any(study.is_relative_to(folder.folder) for study in studies) and not has_results(folder.folder):
            continue  # a study of attention alone
        for piece, left_out in read_pieces(site, folder.folder, folder.submission):
            dated.append((piece.facts.date, piece))
            notes += left_out
    if not dated:
        folders = " ".join(str(folder.folder) for folder in given)
        if studies:
            raise UserError(
                f"{folders}: a leaderboard needs runs with scores beside a study of attention; the "
                f"study's own page is {studies[0] / 'index.html'}"
            )
        raise UserError(
            f"{folders}: its runs evaluated no MIMIC task, and no other with a score for each doc"
        )
    dated.sort(key=lambda pair: pair[0])
    entries = _with_looks(site, _with_people(site, entries_of([piece for _, piece in dated])))
    extra = [page for page, wanted in ((WHY, diagnoses), (STUDIES, studies)) if wanted]
    pages = Pages(title, menu=(*MENU[:-1], *extra, MENU[-1]))
    album = _Pictures(site, sources)
    boards = [_build_board(site, pages, entries, board, album) for board in _boards_of(entries)]
    order = (*task_kinds(), *BENCHMARK_MEASURES, "")
    boards.sort(key=lambda board: (board.data, board.permuted, order.index(board.kind), board.task))
    _write_pages(site, pages, entries, boards, tuple(dict.fromkeys(notes)))
    _write_why(site, pages, diagnoses)
    write_into_site(studies, pages, site.write)
    album.finish()
    site.finish()
    docs = sum(board.docs for board in boards)
    return Built(site.out / "index.html", len(entries), len(boards), docs, tuple(dict.fromkeys(notes)))


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
                docs = frozenset(doc.doc for doc in read_answers(site, result.id)[0])
                boards[result.board] = (result.task, result.data, docs)

    def seated(result: TaskResult) -> TaskResult:
        docs = {doc.doc for doc in read_answers(site, result.id)[0]}
        fitting = [
            (len(all_docs), board)
            for board, (task, data, all_docs) in boards.items()
            if (task, data) == (result.task, result.data) and docs <= all_docs
        ]
        return replace(result, board=max(fitting)[1]) if fitting else result

    return [
        replace(entry, results=tuple(map(seated, entry.results))) if entry.kind == HUMAN else entry
        for entry in entries
    ]


def _with_looks(site: Site, entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the looks that the last build gave them, and new ones with looks of their own."""
    known = (site.read_script("data/looks.js") or {}).get("looks", {})
    looks = number_looks(entries, known if isinstance(known, dict) else {})
    site.write_script("data/looks.js", {"version": VERSION, "looks": looks})
    return [replace(entry, look=looks[key_of(entry)]) for entry in entries]


def _boards_of(entries: Sequence[Entry]) -> list[str]:
    return sorted({result.board for entry in entries for result in entry.results})


def _build_board(site: Site, pages: Pages, entries: Sequence[Entry], name: str, album: "_Pictures") -> Board:
    """Rank a board and write all that needs its answers, which are then let go."""
    answers: dict[str, list[DocAnswer]] = {}
    docs: list[DocFacts] = []
    for entry in entries:
        for result in entry.results:
            if result.board == name:
                docs_of_run, answers[result.id] = read_answers(site, result.id)
                docs = docs_of_run if len(docs_of_run) > len(docs) else docs
    docs.sort(key=lambda facts: (facts.number, facts.doc))
    earlier = site.read_script(f"data/boards/{name}.js") or {}
    board = summarize_board(
        entries, name, answers, *(_known(earlier, which) for which in ("known", "known_flips"))
    )
    site.write_json(f"data/boards/{name}.json", board.record())
    made = {
        "known": [list(test) for test in board.tests],
        "known_flips": [list(test) for test in board.flips],
    }
    site.write_script(f"data/boards/{name}.js", {**pairs_record(board), **made})
    _write_docs(site, pages, board, docs, answers, album)
    return board


def _known(earlier: dict[str, Any], which: str) -> dict[tuple[str, str], PairTest]:
    """The paired tests of the last build: results are named by what they hold, so their tests stay true."""
    tests = [PairTest(*test) for test in earlier.get(which, ())]
    return {(test.a, test.b): test for test in tests}


class _Pictures:
    """The pictures of docs, from the folders given, and what an earlier build knew of them."""

    def __init__(self, site: Site, sources: Iterable[DocSource]) -> None:
        self._site, self._sources = site, tuple(sources)
        known = (site.read_script("data/pictures.js") or {}).get("pictures", {})
        self._album = Album(known, site.digest, site.write)

    def of(self, hashes: frozenset[str]) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
        """Pictures, and question with truth, of the docs that the folders have, by content hash."""
        pictures: dict[str, Any] = {}
        questions: dict[str, tuple[str, str]] = {}
        for source in self._sources:
            for doc in source.find(hashes - pictures.keys()):
                pictures[doc.content_hash] = self._album.show(doc)
                questions[doc.content_hash] = (doc.question, doc.gt)
        return pictures, questions

    def finish(self) -> None:
        """Keep what was learnt, and the files that pages show."""
        self._site.write_script("data/pictures.js", {"version": VERSION, "pictures": self._album.used})
        for key, entry in self._album.used.items():
            if isinstance(entry, list):
                self._site.keep(f"images/{key}.jpg")


def _write_docs(
    site: Site,
    pages: Pages,
    board: Board,
    docs: Sequence[DocFacts],
    answers_of: dict[str, list[DocAnswer]],
    album: _Pictures,
) -> None:
    pictures, questions = album.of(frozenset(facts.doc.split("~")[0] for facts in docs))
    answers = []
    for standing in board.standings:
        by_doc: dict[str, list[DocAnswer]] = {}
        for answer in answers_of[standing.result.id]:
            by_doc.setdefault(answer.doc, []).append(answer)
        answers.append((standing.entry.id, standing.entry.label, by_doc))
    where = {facts.doc: f"{page_of(board.id, i)}#{anchor(facts.doc)}" for i, facts in enumerate(docs)}
    index = doc_index(board, docs, where, answers, pictures, questions)
    site.write_script(f"data/docs/{board.id}.js", index)
    total = -(-len(docs) // PER_PAGE)
    for number in range(1, total + 1):
        name = page_of(board.id, (number - 1) * PER_PAGE)
        docs_here = docs[(number - 1) * PER_PAGE : number * PER_PAGE]
        views = board_docs(docs_here, answers, pictures, questions)
        page = pages.render("docs", name, board=board, docs=views, number=number, total=total)
        site.write(name, page)


def _write_pages(
    site: Site, pages: Pages, entries: Sequence[Entry], boards: Sequence[Board], notes: Sequence[str]
) -> None:
    for name, text in pages.assets().items():
        site.write(name, text)
    overview = summarize_overview(entries, boards)
    site.write_json("data/overview.json", overview.record())
    site.write("csv/overview.csv", tables.overview_csv(overview))
    site.write("csv/reported.csv", tables.reported_csv())
    reported = [(table, checked_rows(table)) for table in map(printed_table, OVERVIEW)]
    site.write("index.html", pages.render("index", "index.html", page=overview, reported=reported))
    for board in boards:
        name = f"tasks/{board.id}.html"
        page = summarize_task(board)
        site.write(name, pages.render("task", name, page=page, first_page=page_of(board.id, 0), drawn=DRAWN))
        site.write(f"csv/{board.id}.csv", tables.board_csv(board))
        site.write(f"csv/{board.id}-pairs.csv", tables.pairs_csv(board, board.tests, board.ps))
        site.write(f"csv/{board.id}-controls.csv", tables.controls_csv(board))
    for entry in entries:
        name = f"models/{entry.id}.html"
        tasks = summarize_model(entry, boards)
        site.write(name, pages.render("model", name, entry=entry, tasks=tasks))
        site.write(f"csv/model-{entry.id}.csv", tables.model_csv(entry, tasks))
        site.write_json(f"data/models/{entry.id}.json", model_record(entry, tasks))
    robust = summarize_robustness(boards)
    site.write("csv/robustness.csv", tables.robustness_csv(robust))
    for task in robust:
        site.write(f"csv/{task.board.id}-places.csv", tables.places_csv(task))
        site.write(
            f"csv/{task.board.id}-flips.csv",
            tables.pairs_csv(task.board, task.board.flips, task.board.flip_ps),
        )
    for name, values in (
        ("tasks", {"boards": boards}),
        ("robustness", {"tasks": robust, "drawn": DRAWN}),
        ("pairs", {}),
        ("method", {"boards": boards, "entries": entries, "notes": notes}),
    ):
        site.write(f"{name}.html", pages.render(name, f"{name}.html", **values))
    site.write_script("data/index.js", entry_index(entries, boards))


def _write_why(site: Site, pages: Pages, diagnoses: Sequence[Shown]) -> None:
    """The page of the diagnosed runs, its figures and their numbers; none without a diagnosis."""
    if not diagnoses:
        return
    for one in diagnoses:
        for plot, _ in one.figures:
            site.write(f"why/{one.id}-{plot.name}.svg", render_svg(plot))
            site.write(f"csv/why-{one.id}-{plot.name}.csv", render_csv(plot))
    site.write("why.html", pages.render("why", "why.html", diagnoses=diagnoses))
