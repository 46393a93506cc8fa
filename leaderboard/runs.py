"""Reading what lmms-eval writes below --output_path: `<date>_results.json`, `<date>_samples_<task>.jsonl`."""

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic_eval.records import Sample, UserError, benchmark_of, task_kinds
from mimic_eval.records import read_samples as parsed

RESULTS = "_results.json"
UNFINISHED = ".unfinished"
"""The end of the name of a folder whose run has not moved its files yet."""
_BYPASS = "bypass,none"
"""The score 999 that upstream writes if it was not to score anything."""


class RunWithoutScores(UserError):
    """A run to pass over: its files are cut off, as upstream's command leaves them when it is killed, or it
    scored nothing (--predict_only)."""


@dataclass(frozen=True)
class Run:
    """One evaluation of one model.

    Attributes:
        name: where it was read from, for messages.
        results: upstream's results, with our part under `mimic` if our command wrote them.
        samples: the logged samples of each task as lmms-eval wrote them, sorted by doc id; none for tasks not
            logged. `samples_of` reads those of our tasks.
    """

    name: str
    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    _parsed: dict[str, list[Sample]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def model(self) -> str:
        """lmms-eval's model name."""
        return str(self.part("config").get("model", "unknown"))

    @property
    def settings(self) -> dict[str, Any]:
        """What the model really ran with: as it announced it, or as far as its arguments show.

        A *_mask model run by upstream's command without samples leaves only its arguments; their
        defaults are ``mask=block`` and the embedded checkpoint.
        """
        announced = self.part("mimic", "run")
        for task, rows in self.samples.items():
            if not announced and rows and is_mimic(task):
                announced = parsed(rows[:1], self.file_of(task))[0].run
        if announced:
            return dict(announced)
        text = self.part("config").get("model_args") or ""
        given = dict(part.split("=", 1) for part in str(text).split(",") if "=" in part)
        if self.model.endswith("_mask"):
            return {"checkpoint": given.get("pretrained", "embedded"), "mask": given.get("mask", "block")}
        return {"checkpoint": given.get("pretrained") or str(text) or "-", "mask": "-"}

    def part(self, *keys: str) -> Mapping[str, Any]:
        """A part of the results by its path; empty if it is not there.

        Raises:
            UserError: it is not an object.
        """
        part: Mapping[str, Any] = self.results
        for key in keys:
            value = part.get(key)
            part = {} if value is None else value
            if not isinstance(part, Mapping):
                raise UserError(
                    f"{self.name} is not in lmms-eval's form: {' / '.join(keys)} must be an object, got "
                    f"{part!r:.60}"
                )
        return part

    def count(self, task: str, name: str) -> int | None:
        """The docs that a task has (``original``) or ran (``effective``), or None if not in the results.

        Raises:
            UserError: they are not in lmms-eval's form.
        """
        value = self.part("n-samples", task).get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise UserError(f"{self.name} is not in lmms-eval's form: {name} of {task} is {value!r:.60}")

    def samples_of(self, task: str) -> list[Sample]:
        """The logged samples of one of our tasks.

        Raises:
            UserError: they are not in the form that our tasks write; names file, doc and field.
        """
        if task not in self._parsed:
            self._parsed[task] = parsed(self.samples[task], self.file_of(task))
        return self._parsed[task]

    def file_of(self, task: str) -> Path | str:
        """Where a task's samples are from, for messages."""
        path = Path(self.name)
        return samples_file(path, task) if path.name.endswith(RESULTS) else f"{self.name}, {task}"


def is_mimic(task: str) -> bool:
    """Whether a task is one of ours, as ``mimic_counting_spread`` and ``mimic_official_common`` are."""
    parts = task.split("_")
    known = any(kind in parts for kind in task_kinds()) or benchmark_of(task) is not None
    return parts[0] == "mimic" and known


def read_runs(folder: Path) -> list[Run]:
    """The runs in a folder and below it, oldest first; one line on stderr for each without scores.

    Raises:
        UserError: the folder does not exist, holds no finished run with scores, or a file in it is broken.
    """
    runs = []
    for path in results_files(folder):
        try:
            runs.append(read_run(path))
        except RunWithoutScores as reason:
            print(f"skipped: {reason}", file=sys.stderr)
    if not runs:
        raise UserError(f"{folder} holds no finished run with scores; give the --output_path of a run")
    return runs


def results_files(folder: Path) -> list[Path]:
    """The results files in a folder and below it, oldest first.

    Raises:
        UserError: the folder does not exist, or holds none.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: give its folder, the --output_path of a run")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the --output_path of a run")
    paths = sorted(folder.rglob(f"*{RESULTS}"), key=lambda path: (path.name, str(path)))
    finished = [
        path
        for path in paths
        if not any(part.endswith(UNFINISHED) for part in path.relative_to(folder).parts)
    ]
    if not finished:
        raise UserError(f"{folder} holds no *{RESULTS}; give the --output_path of a run")
    return finished


def has_results(folder: Path) -> bool:
    """Whether a folder holds a results file in it or below it."""
    return next(folder.rglob(f"*{RESULTS}"), None) is not None


def samples_file(path: Path, task: str) -> Path:
    """Where the samples of a task lie, beside the results file `path`."""
    return path.with_name(f"{path.name.removesuffix(RESULTS)}_samples_{task}.jsonl")


def read_run(path: Path) -> Run:
    """The run of one results file.

    Raises:
        UserError: the file, or one with its samples, is broken.
    """
    results = read_results(path)
    samples = {task: read_samples(path, results, task) for task in results["results"]}
    return Run(str(path), results, {task: rows for task, rows in samples.items() if rows is not None})


def read_results(path: Path) -> dict[str, Any]:
    """A results file without its samples.

    Raises:
        RunWithoutScores: the file is empty or cut off, or its run scored nothing.
        UserError: the file is broken, or a task's name is none.
    """
    text = _text(path)
    if not text.rstrip().endswith("}"):
        raise RunWithoutScores(f"{path} is cut off: its run was not finished; run the same command again")
    results = _json(path, text)
    if not isinstance(results, dict) or not isinstance(results.get("results"), dict):
        raise UserError(f"{path} is not a results file of lmms-eval: it has no 'results'")
    for task in results["results"]:
        if not re.fullmatch(r"[\w.:,@ -]{1,200}", task):
            raise UserError(f"{path}: {task!r:.100} is no name of a task")
    if any(isinstance(scores, dict) and _BYPASS in scores for scores in results["results"].values()):
        raise RunWithoutScores(
            f"{path} has no scores, as its run had --predict_only: run the same command without it (the "
            "*_mask models take their answers from the journal)"
        )
    return results


def read_samples(path: Path, results: dict[str, Any], task: str) -> list[dict[str, Any]] | None:
    """The logged samples of a task, sorted by doc id, or None if there are none next to the results file.

    Raises:
        RunWithoutScores: the file ends before its last sample.
        UserError: the file is broken, or holds more samples than the results speak of.
    """
    file = samples_file(path, task)
    if not file.is_file():
        return None
    if _is_cut_off(file):
        raise RunWithoutScores(
            f"{file} ends within a line: its run was not finished; run the same command again"
        )
    rows = _rows(file)
    if not all(isinstance(row, dict) and isinstance(row.get("doc_id"), int) for row in rows):
        raise UserError(f"{file} is not a samples file of lmms-eval: a line has no doc_id")
    run = Run(str(path), results, {})
    expected = run.count(task, "effective")
    filters = len({key.partition(",")[2] for key in run.part("results", task) if "," in key})
    if expected is not None and len(rows) not in (expected, expected * filters):  # each filter logs each doc
        text = f"{file} holds {len(rows)} samples where {path.name} speaks of {expected}"
        raise RunWithoutScores(text) if len(rows) < expected else UserError(text)
    return sort_samples(rows)


def _rows(file: Path) -> list[Any]:
    """The lines of a file, parsed at once where all of them are objects: it is faster."""
    lines = _text(file).split("\n")  # splitlines() would also split at U+2028, inside an answer
    full = [line for line in lines if line.strip()]
    if all(line[0] == "{" and line.rstrip()[-1] == "}" for line in full):
        with contextlib.suppress(ValueError, RecursionError):  # the line is named below
            rows: list[Any] = json.loads(f"[{','.join(full)}]")
            if len(rows) == len(full):
                return rows
    return [_json(f"{file}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]


def sort_samples(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By doc id: several processes log in the order 0, 2, 4, 1, 3, 5 (LMMS_EVAL trap 8)."""
    return sorted(samples, key=lambda sample: int(sample["doc_id"]))


def _is_cut_off(file: Path) -> bool:
    """Whether the last line is neither ended nor JSON."""
    last = file.read_bytes().rsplit(b"\n", 1)[-1]
    try:
        return bool(last.strip()) and not isinstance(json.loads(last), dict)
    except ValueError:
        return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error


def _json(where: object, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise UserError(f"{where}: not JSON ({error})") from error
