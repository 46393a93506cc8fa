"""When a site was last changed, and by what it and its runs were made."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import NamedTuple

from leaderboard.site.entries import Entry
from mimic_eval.records import UserError

_MADE_BY = ("mimic-eval", "lmms-eval")
_SHOWN = 4


class BuiltBy(NamedTuple):
    """What the first page says of the build; `runs` are the versions that runs were made by."""

    date: str
    version: str
    runs: tuple[str, ...]


def date_of_build(earlier: str | None) -> str:
    """The date that a build writes: of SOURCE_DATE_EPOCH if that is set, else the earlier one, else today.

    Args:
        earlier: of an earlier build that made the same files, or None if something changed.

    Raises:
        UserError: SOURCE_DATE_EPOCH is not a number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch:
        try:
            return datetime.fromtimestamp(int(epoch), UTC).date().isoformat()
        except (ValueError, OverflowError, OSError) as error:
            raise UserError(
                f"SOURCE_DATE_EPOCH must be seconds since 1970, as 1767225600; got {epoch!r:.40}"
            ) from error
    return earlier or datetime.now(UTC).date().isoformat()


def earlier_date(record: object) -> str | None:
    """The date in the record of an earlier build, or None."""
    text = record.get("date") if isinstance(record, dict) else None
    try:
        return date.fromisoformat(text).isoformat() if isinstance(text, str) else None
    except ValueError:
        return None


def built_by(day: str, entries: Sequence[Entry]) -> BuiltBy:
    """What the first page says, of all versions at most four."""
    versions: dict[str, None] = {}
    for entry in entries:
        for run in entry.runs:
            named = [f"{name} {run.versions[name]}" for name in _MADE_BY if name in run.versions]
            if named:
                versions[", ".join(named)] = None
    listed = sorted(versions)
    more = [f"{len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return BuiltBy(day, version("mimic-eval"), (*listed[:_SHOWN], *more))
