"""Docs that a build is to leave out, such as those whose truth people do not share (`mimic review`)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic_eval.records import TASKS, UserError

_MOST_BYTES = 1 << 26
_HASH = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"([a-z0-9]+)-[0-9]{6,}")


@dataclass(frozen=True)
class ExcludedDocs:
    """Docs by `content_hash` or `id`, each with the reason given, "" for none."""

    reasons: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, doc: Mapping[str, Any]) -> bool:
        return doc["content_hash"] in self.reasons or doc["id"] in self.reasons

    def record(self, doc: Mapping[str, Any]) -> dict[str, str]:
        """For the manifest."""
        reason = self.reasons.get(doc["content_hash"], "") or self.reasons.get(doc["id"], "")
        return {"id": doc["id"], "content_hash": doc["content_hash"], "reason": reason}


def read_excluded_docs(path: Path) -> ExcludedDocs:
    """A list of docs: lines, a JSON list, or `{"format": 1, "exclude": [{"content_hash", "reason"}, ...]}`.

    A line or an element of the list is a content hash or a doc's id; what follows a `#` is not looked at.

    Raises:
        UserError: the file cannot be read, or names something else than docs.
    """
    where = f"--exclude-docs {path}"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{where}: has {path.stat().st_size} bytes, more than any list of docs")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({error})") from error
    reasons: dict[str, str] = {}
    for number, entry in enumerate(_entries(text, where), 1):
        given = entry if isinstance(entry, dict) else {"content_hash": entry}
        name = given.get("content_hash") or given.get("id") or given.get("doc_id")
        reason = given.get("reason") or ""
        if not isinstance(name, str) or not (_HASH.fullmatch(name) or _is_id(name)):
            raise UserError(
                f"{where}: entry {number} must be a content hash (64 hex digits) or an id like "
                f"counting-000007, got {name!r:.80}"
            )
        reasons[name] = " ".join(str(reason).split())
    if not reasons:
        raise UserError(f"{where}: names no doc")
    return ExcludedDocs(reasons)


def _is_id(name: str) -> bool:
    """Whether a name is that of a doc, like ``counting-000007``."""
    parts = _ID.fullmatch(name)
    return parts is not None and parts[1] in TASKS


def _entries(text: str, where: str) -> list[Any]:
    if not text.lstrip().startswith(("{", "[")):
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return [line for line in lines if line]
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON ({error})") from error
    if isinstance(data, dict):
        if data.get("format") != 1 or not isinstance(data.get("exclude"), list):
            raise UserError(f'{where}: a mapping must be {{"format": 1, "exclude": [...]}}')
        data = data["exclude"]
    return list(data)
