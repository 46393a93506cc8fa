"""The folder of a site: what builds write there, keep and remove."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leaderboard.site import VERSION
from mimic_eval.records import UserError
from mimic_eval.records.folders import is_abandoned, write_atomically

_MARK, _WRITING, _PARTS = "data/site.json", "data/writing.txt", "data/parts.json"
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
        self.changed = False
        self._marked = False
        self._written: set[str] = set()
        self._folders: set[Path] = set()
        self._parts: dict[str, Any] = {}
        self._parts_before: dict[str, Any] = _parts(out / _PARTS)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the site, unless it holds this already."""
        if not self._marked:  # first, so that a build that was stopped can go on
            self._marked = True
            self._mark(self._earlier or frozenset())
        self.keep(name)
        self._write(name, content if isinstance(content, bytes) else content.encode(errors="replace"))

    def holds(self, name: str, content: str) -> bool:
        """Whether a file of the site holds this."""
        return self._holds(name, content.encode(errors="replace"))

    def _holds(self, name: str, data: bytes) -> bool:
        path = self.out / name
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data

    @property
    def would_change(self) -> bool:
        """Whether something was written by now, or would be removed, were the first page the last file."""
        ends = {_MARK, _PARTS, "index.html", "data/built.json"}
        return self.changed or self._earlier is None or bool(self._earlier - self._written - ends)

    def _write(self, name: str, data: bytes) -> None:
        path = self.out / name
        if self._holds(name, data):
            return
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        self.changed = True
        with (self.out / _WRITING).open("a", encoding="utf-8") as begun:
            begun.write(f"{name}\n")
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(data)
        new.replace(path)  # so that no file is ever half written

    def _mark(self, files: Iterable[str]) -> None:
        """List files as the site's."""
        record = {"version": VERSION, "made_by": _MADE_BY, "files": sorted({*files, _MARK})}
        data = f"{json_text(record)}\n".encode()
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

    def unchanged(self, part: str, inputs: Any) -> Any:
        """The note of a part that an earlier build made of the same inputs, whose files it keeps; or None.

        Args:
            part: its name.
            inputs: all that its files are made from, as JSON; the source of our code is added.
        """
        record = self._parts_before.get(part)
        if not isinstance(record, dict) or record.get("inputs") != self._inputs(inputs):
            return None
        files = record["files"]
        if any(self.digest(name) != digest for name, digest in files.items()):
            return None
        self._written.update(files)
        self._parts[part] = record
        return record["note"]

    def made(self, part: str, inputs: Any, files: Iterable[str], note: Any) -> None:
        """Record what a part was made from, for `unchanged`.

        Args:
            part: its name.
            inputs: as there.
            files: that were written or kept for it.
            note: what a later build needs to know of it, as JSON; not None.
        """
        digests = {name: self.digest(name) for name in files}
        self._parts[part] = {"inputs": self._inputs(inputs), "files": digests, "note": note}

    def _inputs(self, inputs: Any) -> str:
        return hashlib.sha256(f"{self.code} {json_text(inputs)}".encode()).hexdigest()

    def write_json(self, name: str, record: Any) -> None:
        """Write a record; the same record gives the same bytes."""
        self.write(name, json_text(record) + "\n")

    def write_script(self, name: str, record: Any) -> None:
        """Write a record that a page opened from disk may load too: JSON as the argument of one call.

        It is ASCII without ``<``, so no text in it can end the string or the script.
        """
        self.write(name, script_bytes(name, record))

    def read_json(self, name: str) -> Any:
        """A record that `write_json` wrote, or None."""
        try:
            return json.loads((self.out / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def read_script(self, name: str) -> Any:
        """A record that `write_script` wrote, or None if there is none of this version."""
        try:
            record = json.loads((self.out / name).read_text(encoding="utf-8").split("\n")[1])
        except (OSError, ValueError, IndexError, RecursionError):
            return None
        return record if isinstance(record, dict) and record.get("version") == VERSION else None

    def finish(self) -> None:
        """Remove what an earlier build wrote and this one did not, and list what this one wrote."""
        self.write_json(_PARTS, {"version": VERSION, "parts": self._parts})
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


def _parts(path: Path) -> dict[str, Any]:
    """What the last build recorded of its parts; nothing if it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        parts = record["parts"] if record["version"] == VERSION else {}
        return {name: part for name, part in parts.items() if _is_part(part)}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def _is_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and set(part) == {"inputs", "files", "note"}
        and isinstance(part["files"], dict)
        and all(_OURS.fullmatch(name) for name in part["files"])
    )


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


def script_bytes(name: str, record: Any) -> bytes:
    """What `Site.write_script` writes."""
    key = name.removeprefix("data/").removesuffix(".js")
    return f"mimicData({json.dumps(key)},\n{json_text(record)}\n);\n".encode()


def json_text(record: Any) -> str:
    """A record as JSON without spaces and without ``<``; the same record gives the same text."""
    return json.dumps(record, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _code() -> str:
    """Of the source that makes records and pages, so that no build takes what other code made."""
    import leaderboard
    import mimic_eval.records
    import mimic_eval.viewer
    import stats

    digest = hashlib.sha256(str(VERSION).encode())
    for package in (leaderboard, stats, mimic_eval.records, mimic_eval.viewer):
        for file in sorted(Path(package.__path__[0]).rglob("*")):
            if file.suffix in (".py", ".j2", ".css", ".js"):
                digest.update(file.read_bytes())
    return digest.hexdigest()
