"""A run's files: written by upstream into a temporary folder, checked, then moved to their folder at once.

Upstream names files by the second, writes the results before the samples and only logs a failure: two runs
that start together lose one or mix their samples, a full disk leaves half a file, a killed run a folder that
no reader takes. Here the samples get their names first and the results last, each only a name that is free.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from leaderboard.runs import RESULTS, UNFINISHED

_DATE = "%Y%m%d_%H%M%S"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class NotWritten(Exception):
    """The files of a run could not be written. The message gives the reason."""


class NewFolder:
    """A folder that one command has for itself, made when its first results are written.

    Of several processes only the one that writes makes it.

    Args:
        wanted: its path; with ``-2``, ``-3``, ... at its end if another command has that.
    """

    def __init__(self, wanted: Path) -> None:
        self.wanted = wanted
        self._made: Path | None = None

    def made(self) -> Path:
        """The folder; the same at every call."""
        for number in count(1):
            if self._made is not None:
                break
            path = self.wanted.with_name(f"{self.wanted.name}-{number}") if number > 1 else self.wanted
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                self._made = path
        assert self._made is not None
        return self._made


class Staged:
    """The files of one evaluation.

    Args:
        output_path: where the user wants them.
        new: the command's default folder, if the user gave none.
    """

    def __init__(self, output_path: str, new: NewFolder | None = None) -> None:
        self.output_path = Path(output_path)
        self._new = new
        self.folder: Path | None = None
        self.logged: list[str] = []

    def make(self) -> Path:
        """The folder for upstream to write to.

        Raises:
            NotWritten: it cannot be made.
        """
        if self.folder is None:
            with _saying():
                if self._new is not None:
                    self.output_path = self._new.made()
                self.output_path.mkdir(parents=True, exist_ok=True)
                self.folder = Path(tempfile.mkdtemp(prefix=".run_", suffix=UNFINISHED, dir=self.output_path))
        return self.folder

    def tracker(self, upstream: type[Any]) -> type[Any]:
        """Upstream's `EvaluationTracker`, writing to the folder."""
        staged = self

        class Tracker(upstream):  # type: ignore[misc]
            def __init__(self, **arguments: Any) -> None:
                super().__init__(**{**arguments, "output_path": None})

            def save_results_aggregated(self, **given: Any) -> None:
                self.output_path = str(staged.make())
                names = self.general_config_tracker  # of pretrained=../x the folder would be outside
                parts = (names.model_name_sanitized or "").split("/")
                names.model_name_sanitized = "/".join(part for part in parts if part not in ("", ".", ".."))
                with staged._listening():
                    super().save_results_aggregated(**given)

            def save_results_samples(self, **given: Any) -> None:
                with staged._listening():
                    super().save_results_samples(**given)

        return Tracker

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Upstream logs the exceptions of its writing, and continues."""
        from loguru import logger

        sink = logger.add(
            lambda line: self.logged.append(str(line).strip()), format="{message}", level="INFO"
        )
        try:
            yield
        finally:
            logger.remove(sink)

    def publish(self, results: Mapping[str, Any], samples: Mapping[str, Sequence[Any]] | None) -> Path:
        """Check the files and give them their names; if another run has these, those of a later second.

        Args:
            results: upstream's.
            samples: of each task, or None if not logged.

        Returns:
            The results file.

        Raises:
            NotWritten: a file is missing or incomplete, or cannot be moved. No file remains.
        """
        assert self.folder is not None
        try:
            with _saying():
                written = next(self.folder.rglob(f"*{RESULTS}"), None)
                if written is None or not _is_json(written):
                    raise NotWritten(self._reason())
                files = {}
                for task, rows in (samples or {}).items():
                    file = written.with_name(f"{_date(written)}_samples_{task}.jsonl")
                    if rows and (not file.is_file() or _lines(file) != len(rows)):
                        raise NotWritten(self._reason())
                    if rows:
                        files[f"_samples_{task}.jsonl"] = file
                files[RESULTS] = written  # the last: with it the run is complete
                return self._put(written.parent.relative_to(self.folder), _date(written), files)
        finally:
            self.discard()

    def _put(self, model: Path, date: str, files: Mapping[str, Path]) -> Path:
        folder = self.output_path / model
        folder.mkdir(parents=True, exist_ok=True)
        for file in files.values():
            _sync(file)
        first = date
        while True:
            if date != first:
                _set_date(files[RESULTS], date)
            done: list[Path] = []
            try:
                for name, file in files.items():
                    _put_new(file, folder / f"{date}{name}")
                    done.append(folder / f"{date}{name}")
            except OSError as error:
                for path in done:
                    path.unlink()
                if not isinstance(error, FileExistsError):
                    raise
                date = (datetime.strptime(date, _DATE) + timedelta(seconds=1)).strftime(_DATE)
            else:
                return done[-1]

    def _reason(self) -> str:
        reasons = [line for line in self.logged if "Error" in line or "errno" in line.lower()]
        free = shutil.disk_usage(self.output_path).free
        return reasons[-1] if reasons else "no space left" if free < 2**16 else "they are not complete"

    def discard(self) -> None:
        """Remove what has not got its name."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


@contextlib.contextmanager
def _saying() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{error.strerror or error}") from error


def _put_new(file: Path, path: Path) -> None:
    """Give a file a second name that nobody has; where there are no links, claim the name first."""
    try:
        os.link(file, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("x").close()
        shutil.copyfile(file, path.with_name(f".{path.name}.tmp"))
        os.replace(path.with_name(f".{path.name}.tmp"), path)


def _date(results: Path) -> str:
    return results.name.removesuffix(RESULTS)


def _set_date(results: Path, date: str) -> None:
    content = json.loads(results.read_text(encoding="utf-8"))
    text = json.dumps({**content, "date": date}, indent=2, ensure_ascii=False)
    results.write_text(text, encoding="utf-8")
    _sync(results)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _lines(file: Path) -> int:
    """Lines that are not cut off."""
    with file.open("rb") as opened:
        return sum(line.endswith(b"\n") for line in opened)


def _sync(file: Path) -> None:
    """To the disk: some file systems report only now that they are full."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
