"""What people exported from review pages: scored like a model's answers, and set against the truth.

One exported file is one person: a run folder in lmms-eval's form, so that every report takes it as a
model's. Docs whose truth people do not share are listed in the form that `--exclude-docs` reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mimic_eval.records import CONTROL_COLUMNS, Sample, UserError, announce_run
from mimic_tasks import lmms_hooks
from mimic_tasks.stored_docs import read_docs, task_files, task_kind
from mimic_tasks.task_spec import spec_of

MODEL = "human"
"""The model's name in a person's run."""

_MOST_FILE_BYTES = 50_000_000
_MOST_CHARACTERS = 1000
_COLUMNS = ("question", "gt", "task", "content_hash", *CONTROL_COLUMNS)


@dataclass(frozen=True)
class PersonAnswer:
    """A person's answer to one doc; `response` is empty where the person could not tell."""

    task: str
    content_hash: str
    response: str
    cannot_tell: bool
    note: str


@dataclass(frozen=True)
class Answers:
    """One exported file."""

    path: Path
    reviewer: str
    answers: tuple[PersonAnswer, ...]


@dataclass(frozen=True)
class Doubt:
    """A doc whose truth at least half of the people who answered it do not share.

    Attributes:
        task: with its prefix, ``mimic_counting``.
        content_hash: of the doc.
        question: as people read it.
        gt: the truth.
        answers: reviewer, answer (``cannot tell`` if so), note, of all who answered.
        people: how many answered.
        differing: how many of them were not right, those who could not tell among them.
    """

    task: str
    content_hash: str
    question: str
    gt: str
    answers: tuple[tuple[str, str, str], ...]
    people: int
    differing: int

    @property
    def reason(self) -> str:
        """One line for the list of excluded docs."""
        given = "; ".join(
            f"{name}: {answer}{f' ({note})' if note else ''}" for name, answer, note in self.answers
        )
        return f"{self.differing} of {self.people} people differ from the truth '{self.gt}': {given}"


def read_answers(path: Path) -> Answers:
    """One exported file.

    Raises:
        UserError: it cannot be read, or is no export of a review page.
    """
    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise UserError(f"{path}: is larger than any review ({path.stat().st_size} bytes)")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(data, dict) or data.get("kind") != "mimic-review" or data.get("format") != 1:
        raise UserError(f"{path}: is no export of a page of `mimic review page` (format 1)")
    reviewer, rows = data.get("reviewer"), data.get("answers")
    if not (
        isinstance(reviewer, str) and reviewer.strip() and reviewer.isprintable() and len(reviewer) <= 60
    ):
        raise UserError(f"{path}: `reviewer` must be a name of 1-60 printable characters")
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: holds no answers")
    answers = tuple(_answer(path, i, row) for i, row in enumerate(rows, 1))
    hashes = [one.content_hash for one in answers]
    if len(set(hashes)) < len(hashes):
        raise UserError(f"{path}: answers a doc twice")
    return Answers(path, reviewer.strip(), answers)


def _answer(path: Path, number: int, row: Any) -> PersonAnswer:
    if not isinstance(row, dict):
        raise UserError(f"{path}: answer {number} is not an object")
    texts = [row.get(name, "") for name in ("task", "content_hash", "response", "note")]
    if not all(isinstance(text, str) and len(text) <= _MOST_CHARACTERS for text in texts):
        raise UserError(f"{path}: answer {number}: task, content_hash, response and note must be short texts")
    doubtful = row.get("cannot_tell", False)
    if not isinstance(doubtful, bool):
        raise UserError(f"{path}: answer {number}: cannot_tell must be true or false")
    if not doubtful and not texts[2].strip():
        raise UserError(f"{path}: answer {number}: response is empty; leave out docs that were not answered")
    return PersonAnswer(texts[0], texts[1], "" if doubtful else texts[2], doubtful, texts[3])


def score_answers(people: Sequence[Answers], folder: Path, out: Path) -> tuple[list[Path], list[Doubt]]:
    """Write one run folder for each person, and find the docs whose truth is in doubt.

    Args:
        people: exported files, each reviewer's name once.
        folder: the task folder that the review page was made from.
        out: a new or empty folder; gets a folder for each person.

    Returns:
        The run folders, and the docs in doubt in the order of the task folder.

    Raises:
        UserError: two files of one reviewer; an answer to a doc that is not in `folder`; `out` holds files.
    """
    names = [person.reviewer for person in people]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two files have the reviewer '{name}': give each person a name of one file")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists and is not empty: choose another folder")
    docs = _docs(folder, {one.content_hash for person in people for one in person.answers})
    for person in people:
        foreign = [one.content_hash for one in person.answers if one.content_hash not in docs]
        if foreign:
            raise UserError(
                f"{person.path}: {len(foreign)} of {len(person.answers)} answers are to docs that are not "
                f"in {folder} (content hash {foreign[0]:.16}); give the folder that the page was made from"
            )
    right: dict[str, list[tuple[Answers, PersonAnswer, bool]]] = {}
    written = []
    for person in people:
        samples = [(one, _sample(person.reviewer, one, *docs[one.content_hash])) for one in person.answers]
        for one, (_, sample) in samples:
            right.setdefault(one.content_hash, []).append((person, one, sample.score == 1))
        written.append(_write_run(out, person, folder, [sample for _, sample in samples]))
    doubts = [
        _doubt(task, doc, right[key])
        for key, (task, _, doc) in docs.items()
        if 2 * sum(not is_right for _, _, is_right in right[key]) >= len(right[key])
    ]
    return written, doubts


def _docs(folder: Path, wanted: set[str]) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Task, number in the task and columns of the docs with these content hashes."""
    docs: dict[str, tuple[str, int, dict[str, Any]]] = {}
    for name, file in task_files(folder).items():
        for i, doc in enumerate(read_docs(file, _COLUMNS)):
            if doc["content_hash"] in wanted:
                docs.setdefault(doc["content_hash"], (f"mimic_{name}", i, doc))
    return docs


def _sample(
    reviewer: str, one: PersonAnswer, task: str, number: int, doc: Mapping[str, Any]
) -> tuple[str, Sample]:
    """The task and the sample, as a run's hooks make it."""
    announce_run(checkpoint=reviewer, mask="none", layers="none", kind=MODEL)
    kind = task_kind(task.removeprefix("mimic_")) or ""
    sample = lmms_hooks.sample_of(kind, doc, one.response)
    review = {"cannot_tell": one.cannot_tell, "note": one.note}
    return task, replace(sample, doc_id=number, review=review)


def _row(sample: Sample) -> dict[str, Any]:
    """A line of a samples file, as lmms-eval writes it."""
    return {
        "doc_id": sample.doc_id,
        "target": sample.gt,
        "filtered_resps": [sample.response],
        **sample.to_json(),
    }


def _write_run(out: Path, person: Answers, folder: Path, samples: Sequence[tuple[str, Sample]]) -> Path:
    """Results and samples of one person, in the form of lmms-eval's files."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for task, sample in samples:
        by_task.setdefault(task, []).append(_row(sample))
    label = _label(folder)
    results: dict[str, Any] = {
        "results": {},
        "configs": {},
        "n-samples": {},
        "config": {"model": MODEL, "model_args": f"reviewer={person.reviewer}"},
        "mimic": {"run": {"checkpoint": person.reviewer, "mask": "none", "layers": "none", "kind": MODEL}},
    }
    for task, rows in sorted(by_task.items()):
        rows.sort(key=lambda row: int(row["doc_id"]))
        metric = spec_of(task_kind(task.removeprefix("mimic_")) or "").metric
        mean = lmms_hooks.aggregate_f1 if metric == "f1" else lmms_hooks.aggregate_exact_match
        names = [name for name in (metric, f"{metric}_official") if name in rows[0]]
        results["results"][task] = {
            "alias": task,
            **{f"{name},none": mean([row[name] for row in rows if name in row]) for name in names},
            "unscored,none": 0,
        }
        results["configs"][task] = {"metadata": {"label": label}}
        results["n-samples"][task] = {"original": len(rows), "effective": len(rows)}
    target = out / _slug(person.reviewer)
    target.mkdir(parents=True, exist_ok=True)
    date = datetime.now().strftime("%Y%m%d_%H%M%S")
    for task, rows in by_task.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (target / f"{date}_samples_{task}.jsonl").write_text(text, encoding="utf-8")
    text = json.dumps(results, ensure_ascii=False, indent=1)
    (target / f"{date}_results.json").write_text(text, encoding="utf-8")
    return target


def _label(folder: Path) -> str:
    """What the task folder calls its data, as a run's table shows it."""
    try:
        label = json.loads((folder / "manifest.json").read_bytes()).get("label")
    except (OSError, ValueError, AttributeError):
        label = None
    return label if isinstance(label, str) else folder.resolve().name


def _slug(name: str) -> str:
    """A folder's name for a person."""
    return "human-" + "".join(
        character if character.isalnum() or character in "-_." else "-" for character in name
    )


def _doubt(task: str, doc: Mapping[str, Any], given: Sequence[tuple[Answers, PersonAnswer, bool]]) -> Doubt:
    answers = tuple(
        (person.reviewer, "cannot tell" if one.cannot_tell else one.response, one.note)
        for person, one, _ in given
    )
    differing = sum(not is_right for _, _, is_right in given)
    return Doubt(task, doc["content_hash"], doc["question"], str(doc["gt"]), answers, len(given), differing)


def write_doubts(doubts: Sequence[Doubt], out: Path) -> Path:
    """Write the list that `--exclude-docs` reads."""
    file = out / "doubtful_docs.json"
    rows = [
        {"task": doubt.task, "content_hash": doubt.content_hash, "reason": doubt.reason} for doubt in doubts
    ]
    file.write_text(
        json.dumps({"format": 1, "exclude": rows}, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    return file
