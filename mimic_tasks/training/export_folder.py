"""The folder of an export: locked while it is written, and never written by two different commands."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, task_kinds
from mimic_eval.records.folders import check_path, differences, filled
from mimic_tasks.training.exported import ARGUMENTS, INDEXES, MANIFEST, SUFFIXES
from mimic_tasks.training.journal import ExportJournal

JOURNAL = "checked.jsonl"


class ExportFolder:
    """The folder, while this process has it."""

    def __init__(self, out: Path, journal: ExportJournal) -> None:
        self.out = out
        self.journal = journal

    @property
    def complete(self) -> bool:
        """All files are written; the index is the last one."""
        return any((self.out / index).is_file() for index in INDEXES)

    def require(self, key: str, value: Mapping[str, Any]) -> None:
        """Refuse to resume what another command began.

        Raises:
            UserError: naming each argument that differs.
        """
        begun = self._begun()
        if begun is None or begun.get(key) == json.loads(json.dumps(value)):
            return
        now, before = json.loads(json.dumps(value)), begun.get(key) or {}
        if key == "arguments":
            changed = differences(before, now)
        else:
            names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
            changed = ", ".join(f"the content of {name}" for name in names)
        raise UserError(
            f"--out {self.out} holds an export that differs in {changed}: give the same command again, "
            "choose another folder, or remove it"
        )

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Note what is written here."""
        if self._begun() is None:
            self.write(ARGUMENTS, [json.dumps(identity, indent=1), "\n"])

    def write(self, name: str, texts: Iterable[str]) -> None:
        """Write a file, which has its name only once it is complete."""
        partial = self.out / f"{name}.partial"
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(texts)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self.out / name)
        finally:
            partial.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove all that another command would write otherwise; the cached checks of pictures stay."""
        for name in _file_names():
            (self.out / name).unlink(missing_ok=True)

    def _begun(self) -> dict[str, Any] | None:
        try:
            begun = json.loads((self.out / ARGUMENTS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            begun = None
        if not isinstance(begun, dict):
            raise UserError(f"{self.out / ARGUMENTS} is not what an export writes: choose another --out")
        return begun


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[ExportFolder]:
    """Lock a folder for an export.

    A block that the user's request fails in leaves nothing but the cached checks of pictures, for any
    command to resume from; a process killed in it leaves the folder to the same command.

    Args:
        out: a folder that is missing, empty, or an export's.

    Raises:
        UserError: it holds something else, cannot be written, or another process has it.
    """
    made = _make(out)
    try:
        journal = ExportJournal(out / JOURNAL)
    except OSError as error:
        raise UserError(f"--out {out!s:.200}: cannot be written ({error.strerror})") from error
    folder = ExportFolder(out, journal)
    try:
        yield folder
    finally:
        if not (out / JOURNAL).stat().st_size:
            (out / JOURNAL).unlink()
        journal.close()
        if made:
            with contextlib.suppress(OSError):  # it holds something
                out.rmdir()


def _make(out: Path) -> bool:
    """Make the folder; whether it is new."""
    try:
        str(out).encode()  # as the mixture names it
        check_path(out)
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        entries = os.listdir(out)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--out {out!s:.200}: cannot be written ({error})") from error
    if entries and not {JOURNAL, ARGUMENTS} & set(entries):
        raise filled(out)
    return made


def _file_names() -> list[str]:
    samples = [f"{kind}{suffix}" for kind in task_kinds() for suffix in SUFFIXES]
    names = [*INDEXES, MANIFEST, *samples, ARGUMENTS]
    return [*(f"{name}.partial" for name in names), *names]
