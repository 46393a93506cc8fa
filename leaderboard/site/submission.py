"""What others send in: a folder with `submission.yaml` and the files of its runs, none of it trusted."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from leaderboard.runs import Run, read_run, results_files
from leaderboard.summary import data_label, is_mimic, metrics, summarize_run
from mimic_eval.records import UserError, nearest, unscored_response

FILE = "submission.yaml"
KEYS = {"who": True, "what": True, "checkpoint": True, "hardware": True, "link": False}
"""What the YAML holds, and whether it must."""

MOST_UNSCORED = 0.05
"""Share of docs without an answer; beyond it the score would be of chosen docs."""

_YAML_BYTES = 8_000
_TEXT = 200
_ANSWER = 10_000
_RESULTS_BYTES = 4_000_000
_SAMPLES_BYTES = 64_000_000
_TOTAL_BYTES = 256_000_000
_FILES = 60
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}(_results\.json|_samples_[A-Za-z0-9_.-]+\.jsonl)")


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

    def n_orders(self, task: str, content_hash: str, rule: str, seed: int) -> int:
        """How many image orders a rule draws for a doc."""

    def sample(self, task: str, content_hash: str, response: str, order: Order | None) -> dict[str, Any]:
        """What our scoring logs for an answer to a doc, as JSON."""


def submissions_in(path: Path) -> list[Path]:
    """The submissions that a path means: itself, or each folder in it; none if it is a folder of runs.

    Raises:
        UserError: a folder among submissions that is none.
    """
    if (path / FILE).exists():
        return [path]
    inside = sorted(own for own in path.iterdir() if own.is_dir()) if path.is_dir() else []
    if not any((own / FILE).exists() for own in inside):
        return []
    for own in inside:
        if not (own / FILE).exists():
            raise UserError(f"{own} has no {FILE}: every folder beside submissions must be one")
    return inside


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
    if not _NAME.fullmatch(folder.name):
        raise UserError(
            f"{folder}: a submission's folder is named by small letters, digits, - and _, at most 61"
        )
    _check_files(folder)
    told = {"name": folder.name, **_metadata(folder / FILE)}
    for path in results_files(folder):
        if path.stat().st_size > _RESULTS_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes; at most {_RESULTS_BYTES} are taken")
        check_run(read_run(path), truth)
    return told


def _check_files(folder: Path) -> None:
    total, files = 0, 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is a link or a special file; send plain files")
        if path.is_dir():
            continue
        files, total = files + 1, total + path.stat().st_size
        if path != folder / FILE and not _FILE_NAME.fullmatch(path.name):
            raise UserError(f"{path}: a submission holds {FILE}, *_results.json and *_samples_*.jsonl only")
        if path.stat().st_size > _SAMPLES_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes; at most {_SAMPLES_BYTES} are taken")
        if files > _FILES or total > _TOTAL_BYTES:
            raise UserError(f"{folder} has over {_FILES} files or {_TOTAL_BYTES} bytes: send fewer runs")


def _metadata(path: Path) -> dict[str, str]:
    """The YAML as plain texts; no tag, alias or nesting is read."""
    import yaml

    if path.stat().st_size > _YAML_BYTES:
        raise UserError(f"{path} has over {_YAML_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise UserError(f"{path}: aliases are not read; write each text out")
        found = yaml.load(text, Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not YAML that can be read ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: must map {', '.join(KEYS)} to texts")
    for key, value in found.items():
        if key not in KEYS:
            raise UserError(f"{path}: {nearest('key', str(key)[:60], KEYS)}")
        if not isinstance(value, str) or not 0 < len(value.strip()) <= _TEXT or not value.isprintable():
            raise UserError(f"{path}: '{key}' must be one line of 1 to {_TEXT} printable characters")
    lacking = [key for key, needed in KEYS.items() if needed and key not in found]
    if lacking:
        raise UserError(f"{path} lacks {', '.join(lacking)}")
    if "link" in found and not _is_https(found["link"]):
        raise UserError(f"{path}: 'link' must be an https address, got {found['link']!r:.80}")
    return {key: found[key].strip() for key in KEYS if key in found}


def _is_https(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    plain = re.fullmatch(r"https://[A-Za-z0-9.-]+(:\d+)?(/[^\s\"'<>\\]*)?", link)
    return parts.scheme == "https" and bool(parts.hostname) and plain is not None


def check_run(run: Run, truth: Truth) -> None:
    """Check a run: all docs of each task, each once, and every score computed again from the answers.

    Raises:
        UserError: the first thing that is wrong.
    """
    rows = summarize_run(run)
    tasks = sorted(run.results["results"])
    if not any(map(is_mimic, tasks)):
        raise UserError(f"{run.name}: evaluated no MIMIC task")
    for task in tasks:
        if not is_mimic(task):
            raise UserError(f"{run.name}: {task} is no MIMIC task; send runs of MIMIC tasks only")
        if not run.samples.get(task):
            raise UserError(f"{run.name}: {task} has no samples; run it with --log_samples")
        try:
            _check_samples(run, task, truth)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{run.name}: the samples of {task} are not in our tasks' form ({error!r:.200})"
            ) from error
    for row in rows:
        claimed = run.results["results"][row.task].get(f"{row.metric},none")
        if not _same(claimed, row.score):
            raise UserError(
                f"{run.name}: {row.task} claims {row.metric} = {claimed!r:.40}, its answers give "
                f"{row.score!r}"
            )


def _check_samples(run: Run, task: str, truth: Truth) -> None:
    where, label = f"{run.name}: {task}", data_label(run, task)
    wanted = truth.hashes(task)
    if not wanted:
        raise UserError(f"{where}: the data have no such task; name their folder with --data")
    if label != truth.label(task):
        raise UserError(f"{where}: calls its data {label!r:.60}; these docs are of {truth.label(task)!r}")
    seen: Counter[tuple[str, int]] = Counter()
    orders: dict[str, int] = {}
    unscored = 0
    for sample in run.samples[task]:
        own, number = sample["mimic"], f"{where}: doc {sample['doc_id']}"
        order = _order(number, task, own)
        content = str(own["content_hash"] if order is None else own["base_hash"])
        if content not in wanted:
            raise UserError(f"{number} has the hash {content[:12]!r}, which no doc of the data has")
        if order is not None:
            orders[content] = truth.n_orders(task, content, order.rule, order.seed)
        seen[content, order.number if order else 0] += 1
        unscored += own["status"] == "unscored"
        expected = truth.sample(task, content, _response(number, own), order)
        _check_sample(number, sample, expected)
        added = [name for name in metrics(run.results["results"][task]) if name not in expected]
        if added:
            raise UserError(f"{where}: has no metric {added[0]}")
    _check_docs(where, wanted, orders, seen)
    if unscored > MOST_UNSCORED * len(run.samples[task]):
        raise UserError(
            f"{where}: {unscored} of {len(run.samples[task])} answers are unscored; at most "
            f"{100 * MOST_UNSCORED:.0f} % are taken: run them again"
        )


def _order(where: str, task: str, own: Mapping[str, Any]) -> Order | None:
    permuted = own.get("base_hash") is not None
    if permuted != task.endswith("_permuted"):
        raise UserError(f"{where} is not of this task")
    return Order(str(own["orders"]), int(own["order_seed"]), int(own["order_index"])) if permuted else None


def _response(where: str, own: Mapping[str, Any]) -> str:
    """The answer as the model gave it, an unscored one with its marker."""
    response = own["reason"] if own["status"] == "unscored" else own["response"]
    if not isinstance(response, str) or len(response) > _ANSWER:
        raise UserError(f"{where}: its answer must be a text of at most {_ANSWER} characters")
    return unscored_response(response) if own["status"] == "unscored" else response


def _check_sample(where: str, sample: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Every item and every part of the record is what our scoring logs."""
    permuted = "base_hash" in expected["mimic"]
    left = {"run", "content_hash"} if permuted else {"run"}  # an order's hash is of its pictures
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


def _same(claimed: Any, found: Any) -> bool:
    """Equal as JSON, numbers to rounding."""
    if isinstance(claimed, int | float) and isinstance(found, int | float):
        return abs(claimed - found) < 1e-9
    return json.dumps(claimed, sort_keys=True) == json.dumps(found, sort_keys=True)
