"""Scores of a task's docs: ours and the official ones side by side, unscored docs left out and counted."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, unscored_reason
from mimic_tasks.scoring.official import ListingCounts, official_listing_f1
from mimic_tasks.scoring.ours import ScoredAnswer, score
from mimic_tasks.task_spec import spec_of
from stats import f1_from_counts

Row = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CorpusScore:
    """Scores of one task over its docs; every ratio is within [0, 1], None where nothing defines it.

    `n`: docs scored; `unscored`: docs left out because they have no answer; `unparsed`: scored docs whose
    answer could not be read (wrong); `statuses`: docs by status. `score`: mean over docs, Listing: micro F1
    over the corpus. `score_official`: the same by the official rules, None if some docs have k > 1.
    `precision` to `recall_official`: Listing only. `class_accuracy`: mean over docs with k > 1 only.
    """

    kind: str
    n: int
    unscored: int
    unparsed: int
    statuses: dict[str, int]
    score: float | None
    score_official: float | None
    precision: float | None = None
    recall: float | None = None
    precision_official: float | None = None
    recall_official: float | None = None
    class_accuracy: float | None = None


def corpus_score(kind: str, rows: Iterable[Row]) -> CorpusScore:
    """Score all answers of a task, by our rules and by the official ones (METHODS 2.1).

    Args:
        kind: the task.
        rows: (response, doc) pairs; `doc` as for `mimic_tasks.scoring.score`. A response that marks an
            unscored doc (METHODS 13) is excluded and counted.

    Raises:
        UserError: an unknown kind; a gt that does not fit the kind.
    """
    spec = spec_of(kind)
    scored: list[ScoredAnswer] = []
    official: list[dict[str, Any]] = []
    unscored = 0
    for response, doc in rows:
        if unscored_reason(response) is not None:
            unscored += 1
            continue
        scored.append(score(kind, response, doc))
        official.append(spec.official(response, str(doc["gt"])) if spec.official else {})
    statuses: dict[str, int] = {}
    for one in scored:
        statuses[one.status] = statuses.get(one.status, 0) + 1
    n = len(scored)
    unparsed = n - statuses.get("parsed", 0)
    if spec.measure == "corpus_f1" and n:
        ours = f1_from_counts(
            sum(one.recalled or 0 for one in scored),
            sum(one.generated or 0 for one in scored),
            sum(one.relevant or 0 for one in scored),
        )
        theirs = official_listing_f1(ListingCounts(*item["counts"]) for item in official if item)
        return CorpusScore(
            kind,
            n,
            unscored,
            unparsed,
            statuses,
            ours.f1,
            theirs.f1 if all(official) else None,
            precision=ours.precision,
            recall=ours.recall,
            precision_official=theirs.precision if all(official) else None,
            recall_official=theirs.recall if all(official) else None,
        )
    return CorpusScore(
        kind,
        n,
        unscored,
        unparsed,
        statuses,
        _mean([one.score for one in scored]),
        _mean([item["score"] for item in official]) if all(official) else None,
        class_accuracy=_mean([one.class_accuracy for one in scored if one.class_accuracy is not None]),
    )


def read_jsonl(path: str | Path, *, kind: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Rows for `corpus_score` from a file of lines `{"response": str, "gt": str | int | list, ...}`.

    An integer gt becomes its string, a list of names is joined by `, `; blank lines are skipped. The other
    keys stay in the doc. With `kind`, each gt must be one that the task can have.

    Raises:
        UserError: naming file and line: no such file; not UTF-8; not JSON; not an object; a missing key; a
            response that is no string; a gt that is empty or of another type; a file that holds no lines.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            rows.append(_row(line, where))
            if kind is not None:
                _check_gt(kind, rows[-1][1], where)
    if not rows:
        raise UserError(f"{path}: holds no lines; expected one JSON object a line with response and gt")
    return rows


def _check_gt(kind: str, doc: Mapping[str, Any], where: str) -> None:
    try:
        score(kind, "", doc)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _row(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    try:
        doc = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(doc, dict):
        raise UserError(f"{where}: expected a JSON object with response and gt, got {type(doc).__name__}")
    missing = [key for key in ("response", "gt") if key not in doc]
    if missing:
        raise UserError(f"{where}: lacks {' and '.join(missing)}; keys there: {', '.join(doc) or 'none'}")
    response = doc.pop("response")
    if not isinstance(response, str):
        came = "null" if response is None else type(response).__name__
        raise UserError(f"{where}: response must be a string, got {came}")
    names = doc["gt"] if isinstance(doc["gt"], list) else []
    doc["gt"] = _gt(doc["gt"], where)
    if any(", " in name for name in names):
        doc.setdefault("targets", names)  # else their commas would cut them
    for key in ("targets", "boxes"):
        if not isinstance(doc.get(key, []), list):
            raise UserError(f"{where}: {key} must be a list, got {type(doc[key]).__name__}")
    return response, doc


def _gt(gt: object, where: str) -> str:
    if isinstance(gt, int) and not isinstance(gt, bool):
        return str(gt)
    if isinstance(gt, list) and all(isinstance(name, str) and name.strip() for name in gt):
        gt = ", ".join(gt)
    if not isinstance(gt, str):
        came = "null" if gt is None else type(gt).__name__
        raise UserError(f"{where}: gt must be a string, an integer or a list of non-empty names, got {came}")
    if not gt.strip():
        raise UserError(f"{where}: gt is empty")
    return gt


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
