"""What a build caches for later builds: each results file is read once, and named by its content."""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from glob import escape
from pathlib import Path
from typing import Any

from leaderboard.runs import RunWithoutScores, read_run, results_files
from leaderboard.site import VERSION
from leaderboard.site.entries import EvaluatedRun, RunFacts, run_facts
from leaderboard.site.results import DocAnswer, DocFacts, TaskResult, summarize_results
from leaderboard.site.texts import printable
from mimic_eval.records import UserError
from mimic_eval.records.folders import is_abandoned, write_atomically

_MARK, _WRITING = "data/site.json", "data/writing.txt"
_MADE_BY = "mimic leaderboard build"
_OURS = re.compile(r"([\w-][\w.-]*/){0,3}[\w-][\w.-]*")
"""Names of files as the site has them: below its folder, none hidden."""


class Site:
    """A site's folder: writes only what changed, and of an earlier build's files removes what is left over.

    ``data/site.json`` lists the files that builds wrote, and ``data/writing.txt``, while one runs, those that
    it has begun; no other file is ever removed. A build that is killed at any moment leaves what the next one
    takes over.

    Args:
        out: the folder.

    Raises:
        UserError: it is a file, or holds something that no build of ours wrote.
    """

    def __init__(self, out: Path) -> None:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file: name a folder")
        self._there = out.is_dir()
        self._earlier = _listed(out) if self._there and not _is_blank(out) else None
        self.out = out
        self.code = _code()
        self._marked = False
        self._written: set[str] = set()
        self._folders: set[Path] = set()

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the site, unless it holds this already."""
        if not self._marked:  # first, so that a build that was stopped can go on
            self._marked = True
            self._mark(self._earlier or frozenset())
        self.keep(name)
        self._write(name, content if isinstance(content, bytes) else content.encode(errors="replace"))

    def _write(self, name: str, data: bytes) -> None:
        path = self.out / name
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        with (self.out / _WRITING).open("a", encoding="utf-8") as begun:
            begun.write(f"{name}\n")
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(data)
        new.replace(path)  # so that no file is ever half written

    def _mark(self, files: Iterable[str]) -> None:
        """List files as the site's."""
        record = {"version": VERSION, "made_by": _MADE_BY, "files": sorted({*files, _MARK})}
        data = f"{_json(record)}\n".encode()
        path = self.out / _MARK
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)

    def keep(self, name: str) -> None:
        """A file of the site that stays as it is."""
        self._written.add(name)

    def digest(self, name: str) -> str | None:
        """The SHA-256 of a file of the site, or None if there is none."""
        path = self.out / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    def write_json(self, name: str, record: Any) -> None:
        """Write a record; the same record gives the same bytes."""
        self.write(name, _json(record) + "\n")

    def write_script(self, name: str, record: Any) -> None:
        """Write a record that a page opened from disk may load too: JSON as the argument of one call.

        It is ASCII without ``<``, so no text in it can end the string or the script.
        """
        key = name.removeprefix("data/").removesuffix(".js")
        self.write(name, f"mimicData({json.dumps(key)},\n{_json(record)}\n);\n")

    def read_script(self, name: str) -> Any:
        """A record that `write_script` wrote, or None if there is none of this version."""
        try:
            record = json.loads((self.out / name).read_text(encoding="utf-8").split("\n")[1])
        except (OSError, ValueError, IndexError, RecursionError):
            return None
        return record if isinstance(record, dict) and record.get("version") == VERSION else None

    def finish(self) -> None:
        """Remove what an earlier build wrote and this one did not, and list what this one wrote."""
        self._remove((self._earlier or frozenset()) - self._written - {_MARK})
        self._mark(self._written)
        (self.out / _WRITING).unlink(missing_ok=True)

    def give_up(self) -> None:
        """After a build that failed: a new site is removed, a renewed one lists the files of both builds."""
        if not self._marked:
            return
        if self._earlier is not None:
            self._mark(self._earlier | self._written)
            (self.out / _WRITING).unlink(missing_ok=True)
            return
        for names in (self._written, {_WRITING}, {_MARK}):  # the mark last: with it, the rest is ours
            self._remove(names)
        if not self._there and self.out.is_dir() and not any(self.out.iterdir()):
            self.out.rmdir()

    def _remove(self, names: Iterable[str]) -> None:
        home = self.out.resolve()
        for name in sorted(names, reverse=True):
            path = self.out / name
            if not path.parent.resolve().is_relative_to(home):
                continue  # a folder of the site was exchanged for a link
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.new").unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.out or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()


def _is_blank(out: Path) -> bool:
    """A folder without files but those of a build that was killed before it wrote its first one."""
    return all(
        path.is_dir() if path == out / _MARK.split("/")[0] else is_abandoned(path)
        for folder in (out, (out / _MARK).parent)
        if folder.is_dir()
        for path in folder.iterdir()
    )


def _listed(out: Path) -> frozenset[str]:
    """The files that an earlier build wrote into a folder.

    Raises:
        UserError: no build of ours wrote it, or one that did not list its files.
    """
    try:
        mark = json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        mark = None
    if not isinstance(mark, dict) or mark.get("made_by") != _MADE_BY:
        raise UserError(f"--out {out} holds something else than a leaderboard: choose an empty folder")
    files = mark.get("files")
    if not isinstance(files, list) or not all(
        isinstance(name, str) and _OURS.fullmatch(name) for name in files
    ):
        raise UserError(
            f"--out {out}: {_MARK} does not list the site's files: remove the folder, or choose another"
        )
    try:
        begun = (out / _WRITING).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        begun = []
    return frozenset(files) | {name for name in begun if _OURS.fullmatch(name)}


def read_pieces(
    site: Site, folder: Path, submission: dict[str, str] | None = None
) -> Iterator[tuple[EvaluatedRun, list[str]]]:
    """The results files in a folder and below it, oldest first, each with notes on what was left out.

    A file that an earlier build has read is not read again. One run's samples are in memory at a time.

    Raises:
        UserError: no results there, or a broken file.
    """
    for path in results_files(folder):
        fingerprint = _fingerprint(path, site.code, (submission or {}).get("name", ""))
        name = f"data/runs/{fingerprint[:32]}.js"
        record = site.read_script(name)
        if record is None or record.get("fingerprint") != fingerprint or not _complete(site, record):
            try:
                record = _read(site, path, path.relative_to(folder).as_posix(), fingerprint)
            except RunWithoutScores as reason:
                print(f"skipped: {reason}", file=sys.stderr)
                continue
            site.write_script(name, record)
        site.keep(name)
        results = [TaskResult.from_record(result) for result in record["results"]]
        for result in results:
            site.keep(f"data/answers/{result.id}.js")
        if results:
            yield EvaluatedRun(RunFacts(*record["facts"]), results, submission), record["notes"]
        elif record["notes"]:
            raise UserError(record["notes"][0])


def _complete(site: Site, record: dict[str, Any]) -> bool:
    """Every file of answers is as it was written."""
    return all(site.digest(name) == digest for name, digest in record["answers"].items())


def _read(site: Site, path: Path, source: str, fingerprint: str) -> dict[str, Any]:
    run = read_run(path)
    logged, notes = summarize_results(run, fingerprint)
    try:
        facts = run_facts(run, source)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not in lmms-eval's form ({error!r})") from error
    names = [f"data/answers/{one.result.id}.js" for one in logged]
    for name, one in zip(names, logged, strict=True):
        site.write_script(name, {"version": VERSION, "docs": one.docs, "answers": one.answers})
    return {
        "version": VERSION,
        "fingerprint": fingerprint,
        "answers": {name: site.digest(name) for name in names},
        "facts": facts,
        "notes": [printable(note) for note in notes],
        "results": [one.result.record() for one in logged],
    }


def read_answers(site: Site, result: str) -> tuple[list[DocFacts], list[DocAnswer]]:
    """The docs and answers behind a result."""
    record = site.read_script(f"data/answers/{result}.js")
    return [DocFacts(*row) for row in record["docs"]], [DocAnswer(*row) for row in record["answers"]]


def _json(record: Any) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


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


def _code() -> str:
    """Of the source that makes records, so that no build takes what other code made."""
    import leaderboard
    import stats

    digest = hashlib.sha256(str(VERSION).encode())
    for package in (leaderboard, stats):
        for file in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
