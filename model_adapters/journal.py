"""The answer journal: each answer is on the disk when `Journal.add` returns, and the next run reads it.

One folder for each identity (weights, settings, intervention), in it one append-only file for each process
that writes. So no process waits for another or spoils its lines, also on network file systems, and a killed
one leaves at most one line that is cut off. Each record names its identity: a file of another model's folder
gives no answers in this one.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import UserError, unscored_reason
from mimic_eval.records.folders import write_atomically
from model_adapters.disk import cache_root
from model_adapters.identity import canonical_hash, canonical_json

_FORMAT = 2
_CHECK = re.compile(rb'\{"check":"([0-9a-f]{16})",')
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_VERSIONS = ("code", "versions")  # of an identity: what a newer package changes


class Answer(NamedTuple):
    """What the model said to one doc.

    Attributes:
        text: the answer; empty if the model said nothing.
        output_tokens: how many tokens it made.
        record: sums of what the intervention did for this doc, JSON-able, or None if it has none.
        work: what the model read: ``passes``; over all of them ``prompt_tokens``, ``visual_tokens`` and
            ``causal_pairs`` (of a query and a key that causal attention has). None if it is not known.
    """

    text: str
    output_tokens: int
    record: dict[str, Any] | None
    work: dict[str, int] | None = None


def answers_folder() -> Path:
    """``answers`` in `cache_root`."""
    return cache_root() / "answers"


def answer_key(
    *, prompt: str, images: Sequence[str], generation: Mapping[str, Any], extra: Mapping[str, Any]
) -> str:
    """SHA-256 (hex) of what one answer depends on beside the journal's identity.

    Args:
        prompt: the text, chat template applied.
        images: `Picture.sha256` of each image in the order of the prompt.
        generation: the task's generation settings.
        extra: what else the answer depends on (relevance, the doc's seed).

    Raises:
        TypeError: a setting that has no JSON form.
    """
    return canonical_hash(
        {"prompt": prompt, "images": images, "generation": dict(generation), "extra": dict(extra)}
    )


class Journal:
    """The answers of one identity. Several processes may use one folder.

    Args:
        folder: of all journals, or None for `answers_folder`. Nothing is made in it before the first answer.
        identity: everything that all answers depend on; see `canonical_json`.
        rescan: seconds between two looks into the files of others.

    Attributes:
        folder: of this identity: ``identity.json`` and the answers' files.
        reused: how often `find` found an answer.
        added: how many answers `add` wrote.
        foreign: records of another identity, which are ignored.
        read_only: why nothing can be added, once `add` has met it, or None if it can be written.

    Raises:
        UserError: the folder cannot be read.
        TypeError: an identity that has no JSON form.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any], *, rescan: float = 1.0) -> None:
        self._identity = {"format": _FORMAT, "identity": dict(identity)}
        self._digest = canonical_hash(self._identity)[:32]
        self.folder = (folder or answers_folder()) / self._digest
        self.reused = 0
        self.added = 0
        self.foreign = 0
        self.read_only: str | None = None
        self._rescan = rescan
        self._answers: dict[str, Answer] = {}
        self._own: Path | None = None
        self._written: list[Path] = []
        self._read_to: dict[str, int] = {}  # bytes of complete lines, by file
        self._next_scan = 0.0
        self._cut_off: set[str] = set()  # files that end within a line
        self._bad_lines = 0
        self._read_new()

    @property
    def damaged(self) -> int:
        """Lines that were ignored: spoiled ones, and the last of a file while it is incomplete."""
        return self._bad_lines + len(self._cut_off)

    @property
    def stored(self) -> int:
        """Answers of this process on the disk, also if a signal came before they were counted in `added`."""
        return sum(path.read_bytes().count(b"\n") for path in self._written if path.is_file())

    def find(self, key: str) -> Answer | None:
        """The answer of a key, also if another process has added it meanwhile, or None if there is none.

        Raises:
            UserError: the folder cannot be read.
        """
        if key not in self._answers and time.monotonic() >= self._next_scan:
            self._read_new()
        answer = self._answers.get(key)
        self.reused += answer is not None
        return answer

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Store a batch of answers: they are on the disk when this returns.

        A folder that may only be read is no failure: `read_only` says why, and this run has the answers.

        Args:
            answers: by key.

        Raises:
            UserError: the folder cannot be written (disk full). What was written before stays.
            ValueError: the marker of an unscored doc, which is no answer.
            TypeError: a record that is not JSON-able.
        """
        if not answers:
            return
        for key, answer in answers.items():
            if unscored_reason(answer.text) is not None:
                raise ValueError(f"an unscored doc has no answer to keep: {key}")
        lines = [_line(self._digest, key, answer) for key, answer in answers.items()]
        with _saying("written", self.folder):
            try:
                self._write(b"".join(lines))
                self.added += len(answers)
            except OSError as error:
                if error.errno not in _READ_ONLY:
                    raise
                self.read_only = error.strerror or str(error)
        # As the file gives them back, so that a resumed run sees the same.
        self._answers.update(entry[1:] for line in lines if (entry := _entry(line[:-1])))

    def other_versions(self) -> int:
        """How many journals there are of the same model and settings by other versions of the packages.

        Folders that cannot be read are not counted.
        """
        own = _without_versions(self._identity)
        others = 0
        for path in self.folder.parent.glob("*/identity.json"):
            try:
                other = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            others += path.parent != self.folder and _without_versions(other) == own
        return others

    def _write(self, lines: bytes) -> None:
        own = self._own or self._new_file()
        self._own = None  # after a failure the file may end within a line, so the next batch gets another
        _append(own, lines)
        self._own = own

    def _new_file(self) -> Path:
        """This process's own file, empty; with the identity beside it."""
        _make_folder(self.folder)
        described = self.folder / "identity.json"
        if not described.exists():
            text = json.dumps(json.loads(canonical_json(self._identity)), indent=1)
            write_atomically(described, f"{text}\n".encode())
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
        path = self.folder / f"{host}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._written.append(path)
        path.open("xb").close()
        _sync_folder(self.folder)
        return path

    def _read_new(self) -> None:
        """Read what the files hold beyond what was read; of two answers to a key the first one stays."""
        with _saying("read", self.folder):
            try:
                names = sorted(name for name in os.listdir(self.folder) if name.endswith(".jsonl"))
            except FileNotFoundError:
                names = []
            for name in names:
                self._read_file(name)
        self._next_scan = time.monotonic() + self._rescan

    def _read_file(self, name: str) -> None:
        read_to = self._read_to.get(name, 0)
        path = self.folder / name
        if path.stat().st_size <= read_to:
            return
        with path.open("rb") as file:
            file.seek(read_to)
            *lines, rest = file.read().split(b"\n")
        for line in lines:
            entry = _entry(line)
            if entry is None:
                self._bad_lines += 1
            elif entry[0] != self._digest:
                self.foreign += 1
            else:
                self._answers.setdefault(*entry[1:])
        self._read_to[name] = read_to + sum(len(line) + 1 for line in lines)
        (self._cut_off.add if rest else self._cut_off.discard)(name)


def _without_versions(described: Any) -> str | None:
    """An identity as text, apart from the versions of packages, or None if it is none."""
    try:
        identity = described["identity"]
        return canonical_json({key: value for key, value in identity.items() if key not in _VERSIONS})
    except (KeyError, TypeError, AttributeError):
        return None


def _line(of: str, key: str, answer: Answer) -> bytes:
    """A JSON object on a line of ASCII; ``check`` is of all that follows it, ``of`` the identity's digest."""
    content = {"of": of, "key": key, "answer": answer._asdict()}
    rest = json.dumps(content, separators=(",", ":"))[1:]
    check = hashlib.sha256(rest.encode()).hexdigest()[:16]
    return f'{{"check":"{check}",{rest}\n'.encode()


def _entry(line: bytes) -> tuple[str, str, Answer] | None:
    """The identity, key and answer of a complete line, without its end; None if it is damaged."""
    start = _CHECK.match(line)
    if not start or hashlib.sha256(line[start.end() :]).hexdigest()[:16] != start[1].decode():
        return None
    entry = json.loads(line)
    return entry.get("of", ""), entry["key"], Answer(**entry["answer"])


def _append(path: Path, data: bytes) -> None:
    """Put data at a file's end, onto the disk."""
    with path.open("ab", buffering=0) as file:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; each is on the disk before anything is put in it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Put a folder's names onto the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _saying(what: str, folder: Path) -> Iterator[None]:
    """A failure of the file system, in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the answer journal {folder} cannot be {what} ({error.strerror or error}): free some space, set "
            "MIMIC_CACHE to a folder that can, or use journal=off"
        ) from error
