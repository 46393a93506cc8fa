"""What a build keeps between runs: each results file read once, named by what it holds."""

import hashlib
import json
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Any

from leaderboard.runs import read_run, results_files
from leaderboard.site import VERSION
from leaderboard.site.entries import Piece, RunFacts, run_facts
from leaderboard.site.results import Answer, DocFacts, TaskResult, summarize_results
from mimic_eval.records import UserError

_MARK = "data/site.json"


class Site:
    """A site's folder: writes only what changed, remembers what was written, removes the rest.

    Args:
        out: the folder.

    Raises:
        UserError: it is a file, or holds something that no build of ours wrote.
    """

    def __init__(self, out: Path) -> None:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file: name a folder")
        if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
            raise UserError(f"--out {out} holds something else than a leaderboard: choose an empty folder")
        self.out = out
        self.code = _code()
        self._marked = False
        self._written: set[Path] = set()
        self._folders: set[Path] = set()

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the site, unless it holds this already."""
        if not self._marked:  # first, so that a build that was stopped can go on
            self._marked = True
            self.write_json(_MARK, {"version": VERSION, "made_by": "mimic leaderboard build"})
        path = self.keep(name)
        data = content if isinstance(content, bytes) else content.encode("utf-8", errors="replace")
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        path.write_bytes(data)

    def keep(self, name: str) -> Path:
        """A file of the site that stays as it is."""
        path = self.out / name
        self._written.add(path)
        return path

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
        """A record that `write_script` wrote; None if there is none of this version."""
        try:
            record = json.loads((self.out / name).read_text(encoding="utf-8").split("\n")[1])
        except (OSError, ValueError, IndexError):
            return None
        return record if isinstance(record, dict) and record.get("version") == VERSION else None

    def finish(self) -> None:
        """Remove what this build did not write."""
        for path in sorted(self.out.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in self._written:
                path.unlink()


def read_pieces(
    site: Site, folder: Path, submission: dict[str, str] | None = None
) -> Iterator[tuple[Piece, list[str]]]:
    """The results files in a folder and below it, oldest first, each with notes on what was left out.

    A file that an earlier build has read is not read again. One run's samples are in memory at a time.

    Raises:
        UserError: no results there, or a broken file.
    """
    for path in results_files(folder):
        fingerprint = _fingerprint(path, site.code)
        name = f"data/runs/{fingerprint[:16]}.js"
        held = site.read_script(name)
        if held is None or held["fingerprint"] != fingerprint or not _complete(site, held):
            held = _read(site, path, path.relative_to(folder).as_posix(), fingerprint)
            site.write_script(name, held)
        site.keep(name)
        results = [TaskResult.from_record(own) for own in held["results"]]
        for own in results:
            site.keep(f"data/answers/{own.id}.js")
        if results:
            yield Piece(RunFacts(*held["facts"]), results, submission), held["notes"]
        elif held["notes"]:
            raise UserError(held["notes"][0])


def _complete(site: Site, held: dict[str, Any]) -> bool:
    return all((site.out / f"data/answers/{own['id']}.js").is_file() for own in held["results"])


def _read(site: Site, path: Path, source: str, fingerprint: str) -> dict[str, Any]:
    run = read_run(path)
    logged, notes = summarize_results(run, fingerprint)
    try:
        facts = run_facts(run, source)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not in lmms-eval's form ({error!r})") from error
    for own in logged:
        record = {"version": VERSION, "docs": own.docs, "answers": own.answers}
        site.write_script(f"data/answers/{own.result.id}.js", record)
    return {
        "version": VERSION,
        "fingerprint": fingerprint,
        "facts": facts,
        "notes": notes,
        "results": [own.result.record() for own in logged],
    }


def read_answers(site: Site, result: str) -> tuple[list[DocFacts], list[Answer]]:
    """The docs and answers behind a result."""
    record = site.read_script(f"data/answers/{result}.js")
    return [DocFacts(*own) for own in record["docs"]], [Answer(*own) for own in record["answers"]]


def _json(record: Any) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _fingerprint(path: Path, code: str) -> str:
    """Of a results file, the samples beside it, and the code that reads them."""
    digest = hashlib.sha256(code.encode())
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
