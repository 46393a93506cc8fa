"""Where each record of a large JSON list or JSONL file lies, so that a sample is read when it is needed."""

import json
import os
import re
import stat
from array import array
from codecs import getincrementaldecoder
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mimic_eval.records import UserError
from mimic_eval.records.reading import one_line

_CHUNK = 1 << 22
_MAX_RECORD = 1 << 26
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")


class RecordIndex(NamedTuple):
    """The place of each record: its first byte, its length in bytes, and its line from 1."""

    offsets: "array[int]"
    lengths: "array[int]"
    lines: "array[int]"

    def add(self, offset: int, length: int, line: int) -> None:
        """Append a record."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.lines.append(line)


def index_records(path: Path) -> RecordIndex:
    """Find the records of a file; 16 bytes of memory for each.

    Args:
        path: ``.jsonl``, one record a line (empty lines are left out), or ``.json``, one list of records.
            UTF-8, with or without a byte order mark, any line ends.

    Raises:
        UserError: it cannot be read, is no such JSON, or holds no record.
    """
    index = RecordIndex(array("Q"), array("I"), array("I"))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: is not a file")
        with path.open("rb") as file:
            start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
            first = _first(file, start)
            file.seek(start)
            lines = path.suffix == ".jsonl"
            if first == b"":
                raise UserError(f"{path}: is empty")
            if lines and first == b"[":
                raise UserError(
                    f"{path}: holds a JSON list, not one sample a line: its name must end in .json"
                )
            if not lines and first == b"{":
                raise UserError(
                    f"{path}: is not a list of samples ([...]); if it holds one sample a line, its name must "
                    "end in .jsonl"
                )
            if lines:
                _index_lines(file, start, index)
            else:
                _List(file, start, path).read_into(index)
    except (OSError, ValueError) as error:
        raise UserError(f"{path!s:.200}: cannot be read ({one_line(error)})") from error
    if not index.offsets:
        raise UserError(f"{path}: holds no sample")
    return index


def _first(file: BinaryIO, start: int) -> bytes:
    """The first byte that is not space."""
    file.seek(start)
    while chunk := file.read(_CHUNK):
        if text := chunk.lstrip(b" \t\r\n"):
            return text[:1]
    return b""


def _index_lines(file: BinaryIO, offset: int, index: RecordIndex) -> None:
    for number, line in enumerate(file, 1):
        if not line.isspace():
            index.add(offset, len(line), number)
        offset += len(line)


class _List:
    """Reads a JSON list a chunk at a time."""

    def __init__(self, file: BinaryIO, offset: int, path: Path) -> None:
        self._file, self._path = file, path
        self._decode = getincrementaldecoder("utf-8")().decode
        self._text, self._at = "", 0
        self._offset, self._line = offset, 1
        self._ended = False

    def read_into(self, index: RecordIndex) -> None:
        """Add every record of the list."""
        scan = json.JSONDecoder().raw_decode
        self._punctuation("[")
        if self._next() == "]":
            self._pass(1)
        else:
            while True:
                self._next()
                end = self._value(scan)
                offset, line = self._offset, self._line
                self._pass(end - self._at)
                index.add(offset, self._offset - offset, line)
                if self._punctuation(",]") == "]":
                    break
        if self._next():
            raise self._broken("something follows the list")

    def _value(self, scan: "object") -> int:
        """Where the value that begins here ends."""
        size = _CHUNK
        while True:
            try:
                end = scan(self._text, self._at)[1]  # type: ignore[operator]
            except RecursionError as error:
                raise self._broken("it is nested too deeply") from error
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos + 16 > len(self._text)
                if self._ended or not cut or len(self._text) - self._at > _MAX_RECORD:
                    raise self._broken(error.msg, at=error.pos) from error
            except ValueError as error:  # a number of too many digits
                raise self._broken(one_line(error)) from error
            else:
                if end < len(self._text) or self._ended:
                    return int(end)
            self._fill(size)
            size *= 2

    def _fill(self, size: int) -> None:
        data = self._file.read(size)
        self._ended = len(data) < size
        try:
            self._text = self._text[self._at :] + self._decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise UserError(f"{self._path}: is not UTF-8 ({one_line(error)})") from error
        self._at = 0

    def _next(self) -> str:
        """The next character that is not space, '' at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._pass(match.end() - self._at if match else 0)
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._fill(_CHUNK)

    def _punctuation(self, valid: str) -> str:
        character = self._next()
        if not character or character not in valid:
            raise self._broken(f"expected {' or '.join(valid)}" if character else "it ends too early")
        self._pass(1)
        return character

    def _pass(self, characters: int) -> None:
        text = self._text[self._at : self._at + characters]
        self._at += characters
        self._offset += len(text) if text.isascii() else len(text.encode())
        self._line += text.count("\n")

    def _broken(self, reason: str, *, at: int | None = None) -> UserError:
        line = self._line + (self._text.count("\n", self._at, at) if at is not None else 0)
        return UserError(f"{self._path}: line {line}: is not JSON ({reason})")
