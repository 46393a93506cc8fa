"""The entries of the leaderboard: one model under one setting each, with all its results."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from leaderboard.arms import model_settings
from leaderboard.labels import checkpoint_label, differing, mask_label, others
from leaderboard.runs import Run
from leaderboard.site.lookalikes import skeleton
from leaderboard.site.looks import Look, look_of
from leaderboard.site.results import HUMAN, TaskResult
from leaderboard.site.texts import printable

_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_LONGEST = 200


class RunFacts(NamedTuple):
    """What the method pages show of one evaluation.

    Attributes:
        model: lmms-eval's model name.
        settings: what distinguishes models, as the run announced it.
        date: when.
        versions: of what it ran on.
        seeds: of the run.
        command: that repeats it.
        source: where it was read from, below the folder that was given.
    """

    model: str
    settings: dict[str, str]
    date: str
    versions: dict[str, str]
    seeds: dict[str, str]
    command: str
    source: str


@dataclass(frozen=True)
class Entry:
    """One model under one setting.

    Attributes:
        id: of its page, from what it is.
        label: different from all others.
        model: lmms-eval's model name.
        checkpoint: as in the table.
        family: the model family.
        size: parameters as in the checkpoint's name, ``7B``, or ``unknown``.
        intervention: ``none``, ``block``, ...
        kind: ``model`` or ``human``.
        weights: ``embedded`` for a packaged checkpoint, else ``real``.
        settings: all that the run announced of the model.
        submission: who and what, if it was sent in; else None.
        runs: the evaluations behind the results.
        results: the newest of each board.
        since: when the first of its runs was made.
        look: the number of how it looks in charts (`leaderboard.site.looks`).
    """

    id: str
    label: str
    model: str
    checkpoint: str
    family: str
    size: str
    intervention: str
    kind: str
    weights: str
    settings: dict[str, str]
    submission: dict[str, str] | None
    runs: tuple[RunFacts, ...]
    results: tuple[TaskResult, ...] = field(repr=False)
    since: str = ""
    look: int = 0

    @property
    def group(self) -> tuple[str, ...]:
        """The checkpoint, the intervention and the sender: of several settings of a group one is ranked.

        All runs of a submission are of the checkpoint that its `submission.toml` names.
        """
        if self.submission:
            return (self.submission["name"], self.intervention)
        return ("", self.model, self.checkpoint, self.intervention)

    @property
    def drawn(self) -> Look:
        """How it looks in charts."""
        return look_of(self.look)

    @property
    def date(self) -> str:
        """Of the newest run."""
        return self.runs[-1].date if self.runs else ""

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "runs": [run._asdict() for run in self.runs],
            "results": [result.record() for result in self.results],
        }


class EvaluatedRun(NamedTuple):
    """What one results file gives an entry; `results` in any order, `submission` if it came with one."""

    facts: RunFacts
    results: list[TaskResult]
    submission: dict[str, str] | None


def run_facts(run: Run, source: str) -> RunFacts:
    """What a page shows of a run."""
    config, results = _mapping(run.results.get("config")), run.results
    versions = {
        "mimic-eval": _mapping(results.get("mimic")).get("version"),
        "lmms-eval": results.get("lmms_eval_version"),
        "git": results.get("git_hash"),
    }
    return RunFacts(
        model=_printable(run.model),
        settings={
            printable(str(key)[:80]): _printable(value)
            for key, value in model_settings(run).items()
            if value is not None
        },
        date=_printable(results.get("date") or "unknown"),
        versions={name: _printable(value) for name, value in versions.items() if value},
        seeds={name: _printable(config[name]) for name in _SEEDS if config.get(name) is not None},
        command=_command(run, config),
        source=_printable(source),
    )


def _command(run: Run, config: Mapping[str, Any]) -> str:
    words = ["lmms_eval", "--tasks", ",".join(sorted(run.samples or run.results["results"]))]
    words += ["--model", _printable(run.model)]
    for name in ("model_args", "batch_size", "limit", "gen_kwargs"):
        if config.get(name):
            words += [f"--{name}", _printable(config[name])]
    words += ["--log_samples", "--output_path", "runs/again"]
    return " ".join(shlex.quote(word) for word in words)


def _printable(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return printable(text[:_LONGEST])


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def entries_of(pieces: Sequence[EvaluatedRun]) -> list[Entry]:
    """The entries, by label; of several results of one entry on a board the newest counts.

    Args:
        pieces: oldest first.
    """
    groups: dict[str, list[EvaluatedRun]] = {}
    for piece in pieces:
        groups.setdefault(_key(piece), []).append(piece)
    labels = _labels({key: pieces[-1] for key, pieces in groups.items()})
    entries = [_entry(key, labels[key], pieces) for key, pieces in groups.items()]
    return sorted(entries, key=lambda entry: (entry.label, entry.id))


def _entry(key: str, label: str, pieces: Sequence[EvaluatedRun]) -> Entry:
    newest = {result.board: result for piece in pieces for result in piece.results}
    counting_ids = {result.id for result in newest.values()}
    settings = pieces[-1].facts.settings
    checkpoint, submission = checkpoint_label(settings), pieces[-1].submission
    given = (submission or {}).get("checkpoint", checkpoint)
    return Entry(
        id=hashlib.sha256(key.encode()).hexdigest()[:32],
        label=label,
        model=pieces[-1].facts.model,
        checkpoint=checkpoint,
        family=settings.get("family") or pieces[-1].facts.model.removesuffix("_mask"),
        size=_size(given),
        intervention=settings.get("mask", "-"),
        kind=HUMAN if pieces[-1].facts.model == HUMAN else "model",
        weights=_weights(pieces[-1].facts.model, settings),
        settings=settings,
        submission=submission,
        runs=tuple(
            piece.facts for piece in pieces if any(result.id in counting_ids for result in piece.results)
        ),
        results=tuple(sorted(newest.values(), key=lambda result: (result.data, result.task, result.board))),
        since=pieces[0].facts.date,
    )


def _weights(model: str, settings: Mapping[str, str]) -> str:
    if model == HUMAN:
        return "none"
    return "embedded" if settings.get("checkpoint", "").split(":")[0] == "embedded" else "real"


def _key(piece: EvaluatedRun) -> str:
    name = (piece.submission or {}).get("name", "")
    return json.dumps([name, piece.facts.model, sorted(piece.facts.settings.items())])


def _size(checkpoint: str) -> str:
    match = re.search(r"(?<![A-Za-z0-9.])(\d{1,4}(?:\.\d{1,2})?)[bB](?![A-Za-z0-9])", checkpoint)
    return f"{match[1]}B" if match else "unknown"


def _labels(newest: Mapping[str, EvaluatedRun]) -> dict[str, str]:
    """Checkpoint and intervention; then who sent entries that are alike; then the settings that differ.

    So nothing that one sender announces is in the label of another.
    """

    def sender(key: str) -> str:
        return (newest[key].submission or {}).get("name", "")

    labels = {key: _label(piece) for key, piece in newest.items()}
    for alike in _alike(labels):
        for key in alike:
            labels[key] = _label(newest[key], sender(key))
    for alike in _alike(labels):
        also = differing([newest[key].facts.settings for key in alike])
        for key in alike:
            labels[key] = _label(newest[key], sender(key), also)
    for alike in _alike(labels):
        for key in alike:
            labels[key] = f"{labels[key]} ({newest[key].facts.model})"
    for alike in _alike(labels):
        for number, key in enumerate(alike, 1):
            labels[key] = f"{labels[key]} #{number}"
    return labels


def _alike(labels: Mapping[str, str]) -> Iterable[list[str]]:
    """The keys of labels that look the same to a reader."""
    groups: dict[str, list[str]] = {}
    for key, label in labels.items():
        groups.setdefault(skeleton(label), []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _label(piece: EvaluatedRun, sender: str = "", also: Sequence[str] = ()) -> str:
    settings = piece.facts.settings
    short = {**settings, "checkpoint": _last(settings.get("checkpoint")), "peft": _last(settings.get("peft"))}
    name = (piece.submission or {}).get("what") or checkpoint_label(short)
    if piece.facts.model == HUMAN:
        return f"{name} · {HUMAN}"
    parts = [f"{name} · {mask_label(settings)}{f' ({sender})' if sender else ''}", *others(settings, also)]
    return ", ".join(parts)


def _last(path: str | None) -> str | None:
    return path and path.rstrip("/").split("/")[-1]
