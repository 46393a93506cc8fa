"""What builds cache of runs: each results file is read once, and named by its content."""

import hashlib
import sys
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

from leaderboard.runs import RunWithoutScores, read_run, results_files
from leaderboard.site import VERSION
from leaderboard.site.answers import DocAnswer
from leaderboard.site.entries import EvaluatedRun, RunFacts, run_facts
from leaderboard.site.results import DocFacts, TaskResult, summarize_results
from leaderboard.site.store import Site, json_text, script_bytes
from leaderboard.site.texts import printable
from leaderboard.site.workers import in_processes
from mimic_eval.records import UserError

_WORTH = 12
"""Runs to read from which on several processes are faster."""


class _ResultsFile(NamedTuple):
    """A results file: where it is, below which folder, and its fingerprint."""

    path: Path
    folder: Path
    fingerprint: str

    @property
    def name(self) -> str:
        """Of the site's record of it."""
        return f"data/runs/{self.fingerprint[:32]}.js"


def read_pieces(
    site: Site, folder: Path, submission: dict[str, str] | None = None
) -> Iterator[tuple[EvaluatedRun, list[str]]]:
    """The results files in a folder and below it, oldest first, each with notes on what was left out.

    A file that an earlier build has read is not read again. Of a run only its record stays in memory.

    Raises:
        UserError: no results there, or a broken file.
    """
    sender = (submission or {}).get("name", "")
    files = [
        _ResultsFile(path, folder, _fingerprint(path, site.code, sender)) for path in results_files(folder)
    ]
    known = {file: record for file in files if (record := _known(site, file))}
    fresh = in_processes(_read, [file for file in files if file not in known], least=_WORTH)
    for file in files:
        record = known.get(file)
        if record is None:
            made = next(fresh)
            if isinstance(made, str):
                print(f"skipped: {made}", file=sys.stderr)
                continue
            record, answers = made
            for name, data in answers.items():
                site.write(name, data)
            site.write_script(file.name, record)
        site.keep(file.name)
        results = [TaskResult.from_record(result) for result in record["results"]]
        for name in record["answers"]:
            site.keep(name)
        if results:
            yield EvaluatedRun(RunFacts(*record["facts"]), results, submission), record["notes"]
        elif record["notes"]:
            raise UserError(record["notes"][0])


def _known(site: Site, file: _ResultsFile) -> dict[str, Any] | None:
    """The record of an earlier build, if every file of answers is as it was written."""
    record: dict[str, Any] | None = site.read_script(file.name)
    if record is None or record.get("fingerprint") != file.fingerprint:
        return None
    return record if all(site.digest(name) == digest for name, digest in record["answers"].items()) else None


def _answers(result: str) -> str:
    """The file of a result's answers."""
    return f"data/answers/{result}.js"


def _docs(docs: str) -> str:
    """The file of the docs that results have in common, by their hash."""
    return f"data/facts/{docs}.js"


def _read(file: _ResultsFile) -> tuple[dict[str, Any], dict[str, bytes]] | str:
    """The record of a results file and its files of docs and answers, or why it is passed over."""
    try:
        run = read_run(file.path)
    except RunWithoutScores as reason:
        return str(reason)
    logged, notes = summarize_results(run, file.fingerprint)
    try:
        facts = run_facts(run, file.path.relative_to(file.folder).as_posix())
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{file.path} is not in lmms-eval's form ({error!r})") from error
    answers: dict[str, bytes] = {}
    for one in logged:
        docs = hashlib.sha256(json_text(one.docs).encode()).hexdigest()[:32]
        for name, made in (
            (_docs(docs), {"version": VERSION, "docs": one.docs}),
            (_answers(one.result.id), {"version": VERSION, "docs": docs, "answers": one.answers}),
        ):
            answers[name] = script_bytes(name, made)
    record = {
        "version": VERSION,
        "fingerprint": file.fingerprint,
        "answers": {name: hashlib.sha256(data).hexdigest() for name, data in answers.items()},
        "facts": facts,
        "notes": [printable(note) for note in notes],
        "results": [one.result.record() for one in logged],
    }
    return record, answers


def read_answers(site: Site, result: str) -> list[DocAnswer]:
    """The answers behind a result."""
    return [DocAnswer(*row) for row in site.read_script(_answers(result))["answers"]]


def read_docs(site: Site, result: str) -> list[DocFacts]:
    """The docs behind a result."""
    docs = site.read_script(_answers(result))["docs"]
    return [DocFacts(*row) for row in site.read_script(_docs(docs))["docs"]]


def _fingerprint(path: Path, code: str, sender: str) -> str:
    """Of a results file, the samples beside it, the code that reads them, and the submission's name.

    So a copy that another person submits is a separate result.
    """
    digest = hashlib.sha256(f"{code} {sender}".encode())
    start = path.name.removesuffix("_results.json")
    samples = sorted(path.parent.glob(f"{escape(start)}_samples_*.jsonl"))
    for file in (path, *samples):
        digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
