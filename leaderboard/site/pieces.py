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
from leaderboard.site.results import TaskResult, summarize_results
from leaderboard.site.store import Site, script_bytes
from leaderboard.site.task_docs import DocFacts, SeenDocs
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
    site: Site, folder: Path, submission: dict[str, str] | None, skipped: list[str]
) -> Iterator[tuple[EvaluatedRun, list[str]]]:
    """The results files in a folder and below it, oldest first, each with notes on what was left out.

    A file that an earlier build has read is not read again. Of a run only its record stays in memory.

    Args:
        site: the site.
        folder: of runs.
        submission: who sent them, or None.
        skipped: changed in place: the reason of each run without scores, which is passed over.

    Raises:
        UserError: no results there, or a broken file.
    """
    sender = (submission or {}).get("name", "")
    files = [
        _ResultsFile(path, folder, _fingerprint(path, site.code, sender)) for path in results_files(folder)
    ]
    known = {file: record for file in files if (record := _known(site, file))}
    unknown = [file for file in files if file not in known]
    if unknown:
        import scipy.special  # noqa: F401 - before processes start: each would import it
    fresh = in_processes(_Reader().read, unknown, least=_WORTH)
    for file in files:
        record = known.get(file)
        if record is None:
            made = next(fresh)
            if isinstance(made, str):
                print(f"skipped: {made}", file=sys.stderr)
                skipped.append(made)
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


class _Reader:
    """Reads results files. Docs that runs have in common are described, and written, once."""

    def __init__(self) -> None:
        self._seen = SeenDocs()
        self._digests: dict[str, str] = {}

    def read(self, file: _ResultsFile) -> tuple[dict[str, Any], dict[str, bytes]] | str:
        """The record of a results file and its files of docs and answers, or why it is passed over.

        A file of docs that was returned before is not among the files.
        """
        try:
            run = read_run(file.path)
        except RunWithoutScores as reason:
            return str(reason)
        logged, notes = summarize_results(run, file.fingerprint, self._seen)
        try:
            facts = run_facts(run, file.path.relative_to(file.folder).as_posix())
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{file.path} is not in lmms-eval's form ({error!r})") from error
        files: dict[str, bytes] = {}
        for one in logged:
            docs = one.docs.digest
            if _docs(docs) not in self._digests:
                self._add(files, _docs(docs), {"docs": one.docs.facts})
            self._add(files, _answers(one.result.id), {"docs": docs, "answers": one.answers})
        names = [name for one in logged for name in (_docs(one.docs.digest), _answers(one.result.id))]
        record = {
            "version": VERSION,
            "fingerprint": file.fingerprint,
            "answers": {name: self._digests[name] for name in names},
            "facts": facts,
            "notes": [printable(note) for note in notes],
            "results": [one.result.record() for one in logged],
        }
        return record, files

    def _add(self, files: dict[str, bytes], name: str, record: dict[str, Any]) -> None:
        files[name] = script_bytes(name, {"version": VERSION, **record})
        self._digests[name] = hashlib.sha256(files[name]).hexdigest()


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
