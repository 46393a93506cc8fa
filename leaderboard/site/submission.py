"""What others send in: a folder with `submission.toml` and the files of its runs, none of it trusted."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from leaderboard.arms import model_settings
from leaderboard.runs import Run, is_mimic, read_results, read_samples, results_files, samples_file
from leaderboard.site.claims import check_score
from leaderboard.site.rules import check_length, check_settings
from leaderboard.site.texts import printable
from leaderboard.site.untrusted import (
    FILE,
    check_files,
    check_results_form,
    check_samples_form,
    metadata,
    metadata_file,
    walk,
)
from leaderboard.summary import Row, data_label, metrics, summarize_run
from mimic_eval.records import ORDER_COLUMNS, TASKS, Sample, UserError, unscored_response

MOST_UNSCORED = 0.05
"""Share of docs without an answer; beyond it the score would be of chosen docs."""

_ANSWER = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_PICTURE = re.compile(r"image \d+ of \d+|it has no images")
_OF_THE_CHECKPOINT = ("checkpoint", "peft")


class Order(NamedTuple):
    """The rule of a doc's image orders, its seed, and the number of one of them."""

    rule: str
    seed: int
    number: int


class Truth(Protocol):
    """The docs of the task folders, and our scoring of them."""

    def hashes(self, task: str) -> frozenset[str]:
        """Content hashes of a task's docs (of a permuted task: its plain docs); empty for no such task."""

    def label(self, task: str) -> str:
        """What the data of a task that is there call themselves."""

    def max_new_tokens(self, task: str) -> int:
        """How long an answer to a task may be."""

    def names(self, task: str) -> frozenset[str]:
        """The right answers of a task of classes, in small letters; empty for Counting."""

    def decodes(self, task: str, content_hash: str) -> bool:
        """Whether all pictures of a doc exist and can be decoded."""

    def n_orders(self, task: str, content_hash: str, rule: str, seed: int) -> int:
        """How many image orders a rule draws for a doc."""

    def sample(self, task: str, content_hash: str, response: str, order: Order | None) -> dict[str, Any]:
        """What our scoring logs for an answer to a doc, as JSON."""


def submissions_in(path: Path) -> list[Path]:
    """The submissions that a path means: itself, or each folder in it; none if it is a folder of runs.

    Raises:
        UserError: a folder among submissions that is none, or a `submission.toml` of another name or in
            another folder.
    """
    if metadata_file(path) is not None:
        return [path]
    inside = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    if any(map(metadata_file, inside)):
        for folder in inside:
            if metadata_file(folder) is None:
                raise UserError(
                    f"{folder} has no {FILE}: every folder next to submissions must be a submission"
                )
        return inside
    for file, _ in walk(path):
        if file.name.lower().startswith("submission."):
            raise UserError(
                f"{path} holds no {FILE}, nor does a folder in it, but {file}: rename it to {FILE}, or "
                "submission.yaml if it is YAML, and give its folder or the one around"
            )
    return []


def check_submission(folder: Path, truth: Truth) -> dict[str, str]:
    """Check a submission: names, sizes, metadata, doc hashes, every score again.

    Args:
        folder: the submission.
        truth: the docs that its runs must be of.

    Returns:
        Its metadata, with its `name`.

    Raises:
        UserError: the first thing that is wrong, where, and what to do.
    """
    try:
        return _checked(folder, truth)
    except UserError as error:
        raise UserError(printable(" ".join(str(error).split()))) from error


def _checked(folder: Path, truth: Truth) -> dict[str, str]:
    if folder.is_symlink():
        raise UserError(f"{folder} is a link; send the folder itself")
    name = Path(os.path.abspath(folder)).name
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{folder}: a submission's folder is named by small letters, digits, - and _, at most 61"
        )
    check_files(folder)
    file = metadata_file(folder)
    if file is None:
        raise UserError(f"{folder} has no {FILE}")
    described = {"name": name, **metadata(file)}
    runs = results_files(folder)
    for path in runs:
        check_results_form(path)
    seen: dict[tuple[str, str], Path] = {}
    models: dict[str, Path] = {}
    for path in runs:
        run = check_run(path, truth)
        models.setdefault(repr((run.model, *map(run.settings.get, _OF_THE_CHECKPOINT))), path)
        if len(models) > 1:
            first = next(iter(models.values()))
            raise UserError(
                f"{path} and {first} are of two models, checkpoints or adapters: a submission is of one"
            )
        for task in run.results["results"]:
            again = seen.setdefault((task, repr(sorted(model_settings(run).items()))), path)
            if again is not path:
                raise UserError(
                    f"{path} and {again} are runs of {task} with the same settings: send one of them"
                )
    return described


def check_run(path: Path, truth: Truth) -> Run:
    """Check a run: all docs of each task, each once, and every score computed again from the answers.

    One task's samples are in memory at a time.

    Args:
        path: its results file.
        truth: the docs that it must be of.

    Returns:
        The run, of each task with its first sample only.

    Raises:
        UserError: the first thing that is wrong.
    """
    results = read_results(path)
    firsts: dict[str, list[dict[str, Any]]] = {}
    tasks = [task for task, scores in sorted(results["results"].items()) if not _is_group(task, scores)]
    if not any(map(is_mimic, tasks)):
        raise UserError(f"{path}: evaluated no MIMIC task")
    others = [task for task in tasks if not is_mimic(task)]
    if others:
        raise UserError(f"{path}: {others[0]} is no MIMIC task; send runs of MIMIC tasks only")
    for task in tasks:
        file = samples_file(path, task)
        if file.is_file():
            check_samples_form(file)
        samples = read_samples(path, results, task)
        if not samples:
            raise UserError(f"{path}: {task} has no samples; run it with --log_samples")
        firsts[task] = samples[:1]
        only_this = {**results, "results": {task: results["results"][task]}}
        _check_task(Run(str(path), only_this, {task: samples}), task, truth)
    return Run(str(path), results, firsts)


def _is_group(task: str, scores: Any) -> bool:
    """The row of a group, as of ``--tasks mimic``: it has no score of its own."""
    named = task.split("_")[0] == "mimic" and not is_mimic(task)
    return named and isinstance(scores, dict) and not any("," in key for key in scores)


def _check_task(run: Run, task: str, truth: Truth) -> None:
    where, scores = f"{run.name}: {task}", run.results["results"][task]
    if not isinstance(scores, dict):
        raise UserError(f"{where}: its scores are not in lmms-eval's form")
    check_settings(where, run.model, run.settings)
    wanted = truth.hashes(task)
    if not wanted:
        raise UserError(f"{where}: the data have no such task; name their folder with --data")
    label = data_label(run, task)
    if label != truth.label(task):
        raise UserError(f"{where}: calls its data {label!r:.60}; these docs are of {truth.label(task)!r}")
    _check_metrics(where, scores, _check_samples(run, task, truth, wanted))
    for row in summarize_run(run):
        claimed = scores.get(f"{row.metric},none")
        if not _same(claimed, row.score):
            raise UserError(
                f"{where} claims {row.metric} = {claimed!r:.40}, its answers give {row.score!r}"
                + _unattainable(row, claimed)
            )


def _unattainable(row: Row, claimed: Any) -> str:
    if not isinstance(claimed, int | float) or isinstance(claimed, bool) or not 0 <= claimed <= 1:
        return ""
    check = check_score(row, claimed)
    return f"; no count of {row.n} docs gives the claimed one" if check.verdict == "not attainable" else ""


class _Logged(NamedTuple):
    """The names of what our scoring logs for a task, and whether a doc has several target classes."""

    names: set[str]
    several: bool


def _check_samples(run: Run, task: str, truth: Truth, wanted: frozenset[str]) -> _Logged:
    """Every sample is what our scoring logs."""
    where = f"{run.name}: {task}"
    seen: Counter[tuple[str, int]] = Counter()
    orders: dict[str, int] = {}
    rules: set[tuple[str, int]] = set()
    unscored: set[tuple[str, int]] = set()
    names: set[str] = set()
    several = False
    tokens, classes = truth.max_new_tokens(task), truth.names(task)
    for row, sample in zip(run.samples[task], run.samples_of(task), strict=True):
        number = f"{where}: doc {str(sample.doc_id)[:20]}"
        order = _order(number, task, row["mimic"], sample)
        content = sample.base_hash
        if content not in wanted:
            raise UserError(f"{number} has the hash {content[:12]!r}, which no doc of the data has")
        if (sample.run or run.settings) != run.settings:
            raise UserError(f"{number} was answered with other settings than the run announced")
        if order is not None:
            rules.add((order.rule, order.seed))
            if len(rules) > 1:
                raise UserError(f"{number}: a task's image orders must all be of one rule and one seed")
            if content not in orders:
                orders[content] = truth.n_orders(task, content, order.rule, order.seed)
            if not 0 <= order.number < orders[content]:
                raise UserError(f"{number} has order {order.number}; the rule gives {orders[content]}")
        seen[content, order.number if order else 0] += 1
        if sample.unscored:
            unscored.add((content, 0 if order else seen[content, 0]))
        response = _response(number, sample)
        if not sample.unscored:
            check_length(number, response, tokens, classes)
        elif _PICTURE.match(str(sample.reason)) and truth.decodes(task, content):
            raise UserError(
                f"{number} is unscored for {sample.reason!r:.60}, but its pictures can be decoded here: "
                "run it again"
            )
        if str(row.get("filtered_resps", response)) != response:
            raise UserError(f"{number} logs {row['filtered_resps']!r:.60} and is scored for {response!r:.60}")
        expected = truth.sample(task, content, response, order)
        _check_sample(number, row, expected)
        names |= expected.keys()
        names_classes = TASKS.get(expected["mimic"]["kind"]).asks_about == "targets"
        several |= names_classes and (expected["mimic"].get("k") or 1) > 1
    _check_docs(where, wanted, orders, seen)
    _check_numbers(run, task, len(wanted))
    if len(unscored) > MOST_UNSCORED * len(wanted):
        problem = "docs have unscored orders" if rules else "answers are unscored"
        raise UserError(
            f"{where}: {len(unscored)} of {len(wanted)} {problem}; at most {100 * MOST_UNSCORED:.0f} % are "
            "taken: run them again"
        )
    return _Logged(names, several)


def _check_metrics(where: str, scores: Mapping[str, Any], logged: _Logged) -> None:
    """The metrics that are claimed are those that our task logs, none more and none less."""
    claimed = metrics(scores)
    added = [name for name in claimed if name not in logged.names]
    if added:
        raise UserError(f"{where}: has no metric {added[0]}")
    for name in metrics({f"{name},": None for name in logged.names}):
        unreported = logged.several and name.endswith("_official")  # of questions about k > 1 classes
        if name not in claimed and not unreported:
            raise UserError(f"{where}: lacks the metric {name}; send the results as lmms-eval wrote them")


def _check_numbers(run: Run, task: str, docs: int) -> None:
    """The samples are numbered as the task's rows, and the results speak of as many."""
    where, samples = f"{run.name}: {task}", run.samples[task]
    if [sample["doc_id"] for sample in samples] != list(range(len(samples))):
        raise UserError(f"{where}: the doc_id of its samples must be 0 to {len(samples) - 1}, each once")
    answered = [
        (run.count(task, "original"), len(samples)),
        (run.part("configs", task, "metadata").get("docs"), docs),
    ]
    for number, right in answered:
        if number is not None and number != right:
            raise UserError(f"{where}: speaks of {number!r:.20} docs where the data have {right}")


def _order(where: str, task: str, record: Mapping[str, Any], sample: Sample) -> Order | None:
    named = [name for name in ORDER_COLUMNS if name in record]
    if not task.endswith("_permuted") and named:
        raise UserError(f"{where} is not of this task: it has {named[0]}")
    ordering = sample.ordering
    if (ordering is not None) != task.endswith("_permuted"):
        raise UserError(f"{where} is not of this task")
    if ordering is None:
        return None
    return Order(ordering.orders, ordering.order_seed, ordering.order_index)


def _response(where: str, sample: Sample) -> str:
    """The answer as the model gave it, an unscored one with its marker."""
    response = sample.reason if sample.unscored else sample.response
    if not response and sample.unscored:
        raise UserError(f"{where} is unscored without a reason")
    if response is None or len(response) > _ANSWER:
        raise UserError(f"{where}: its answer must be a text of at most {_ANSWER} characters")
    return unscored_response(response) if sample.unscored else response


def _check_sample(where: str, sample: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Every item and every part of the record is what our scoring logs."""
    permuted = "base_hash" in expected["mimic"]
    left = {"run", "content_hash"} if permuted else {"run"}  # an order's hash is of its pictures
    if "matched_set" not in sample["mimic"]:
        left.add("matched_set")  # older runs of a sweep do not name it
    pairs = [(name, sample.get(name), value) for name, value in expected.items() if name != "mimic"]
    pairs += [(n, sample["mimic"].get(n), value) for n, value in expected["mimic"].items() if n not in left]
    for name, claimed, value in pairs:
        if not _same(claimed, value):
            raise UserError(f"{where} claims {name} = {claimed!r:.80}, our scoring gives {value!r:.80}")


def _check_docs(
    where: str, wanted: frozenset[str], orders: Mapping[str, int], seen: Counter[tuple[str, int]]
) -> None:
    """Every doc in every order, each once."""
    expected = {(content, i) for content in wanted for i in range(orders.get(content, 1))}
    if set(seen) != expected:
        raise UserError(
            f"{where}: holds {len(seen)} of {len(expected)} docs and orders; run it without --limit"
        )
    if max(seen.values()) > 1:
        raise UserError(f"{where}: a doc is there more than once")


def _same(claimed: Any, computed: Any) -> bool:
    """Equal as JSON, numbers to rounding."""
    if _is_number(claimed) and _is_number(computed):
        return bool(abs(claimed - computed) < 1e-9)
    return json.dumps(claimed, sort_keys=True) == json.dumps(computed, sort_keys=True)


def _is_number(value: Any) -> bool:
    """A finite number, none too large for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
