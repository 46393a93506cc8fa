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
from leaderboard.site.slugs import Wanted, slugs
from leaderboard.site.texts import printable

_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_LONGEST = 200
_UNITS = {"B": 1e9, "M": 1e6, "K": 1e3}
_COUNTED = ("passes", "prompt_tokens", "output_tokens")


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
        work: of a doc on average, as the run counted: ``passes``, ``prompt_tokens``, ``output_tokens``.
        seconds: of a doc on average, on the machine of the run; None if unknown, or if answers were stored.
        parameters: of the model, as the run counted them, or None.
    """

    model: str
    settings: dict[str, str]
    date: str
    versions: dict[str, str]
    seeds: dict[str, str]
    command: str
    source: str
    work: dict[str, float]
    seconds: float | None
    parameters: int | None = None


@dataclass(frozen=True)
class Entry:
    """One model under one setting.

    Attributes:
        id: the name of its page (`leaderboard.site.slugs`).
        label: different from all others.
        title: its beginning: the checkpoint, or what a submission calls it.
        model: lmms-eval's model name.
        checkpoint: as in the table.
        family: the model family.
        size: parameters as a run of the checkpoint counted them, else as in its name; ``7B``, or ``unknown``.
        counted: a run counted them.
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
    title: str
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
    counted: bool = False

    @property
    def family_of_runs(self) -> tuple[str, ...]:
        """The checkpoint and the sender.

        All runs of a submission are of the checkpoint that its `submission.toml` names.
        """
        if self.submission:
            return (self.submission["name"],)
        return ("", self.model, self.checkpoint)

    @property
    def group(self) -> tuple[str, ...]:
        """The checkpoint, the sender and the intervention: of several settings of a group one is ranked."""
        return (*self.family_of_runs, self.intervention)

    @property
    def drawn(self) -> Look:
        """How it looks in charts."""
        return look_of(self.look)

    @property
    def short(self) -> str:
        """The label without the title: what tells the entries of one checkpoint apart."""
        return self.label.removeprefix(f"{self.title} · ")

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
    work, seconds = _cost(run)
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
        work=work,
        seconds=seconds,
        parameters=_count(_mapping(results.get("mimic")).get("parameters")),
    )


def _cost(run: Run) -> tuple[dict[str, float], float | None]:
    """What a doc cost; seconds only where all docs were answered in this run."""
    given = _mapping(_mapping(run.results.get("mimic")).get("work"))
    counts = {name: count for name, value in given.items() if (count := _count(value)) is not None}
    docs = counts.get("docs", 0)
    if not docs:
        return {}, None
    work = {name: counts[name] / docs for name in _COUNTED if name in counts}
    samples = sum(map(len, run.samples.values()))
    try:
        seconds = float(str(run.results.get("total_evaluation_time_seconds"))[:40])
    except ValueError:
        return work, None
    return work, seconds / docs if docs == samples and 0 < seconds < 1e9 else None


def _count(value: Any) -> int | None:
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return value if counted else None


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
    newest = {key: pieces[-1] for key, pieces in groups.items()}
    labels, names = _labels(newest), _slugs(newest)
    counts = {_weights_of(piece): count for piece in pieces if (count := piece.facts.parameters)}
    entries = [
        _entry(names[key], labels[key], pieces, counts.get(_weights_of(pieces[-1])))
        for key, pieces in groups.items()
    ]
    return sorted(entries, key=lambda entry: (entry.label, entry.id))


def _slugs(newest: Mapping[str, EvaluatedRun]) -> dict[str, str]:
    """The name of each entry's page, from what it is, whatever the other entries are called."""
    ids = {key: hashlib.sha256(key.encode()).hexdigest()[:32] for key in newest}
    wanted = [
        Wanted(ids[key], _label(piece), (piece.submission or {}).get("name", ""))
        for key, piece in newest.items()
    ]
    names = slugs(wanted)
    return {key: names[ids[key]] for key in newest}


def _weights_of(piece: EvaluatedRun) -> tuple[str, str, str]:
    """Runs with the same have the same weights: who sent them, the model, the checkpoint with its adapter."""
    sender = (piece.submission or {}).get("name", "")
    return sender, piece.facts.model, checkpoint_label(piece.facts.settings)


def _entry(name: str, label: str, pieces: Sequence[EvaluatedRun], parameters: int | None) -> Entry:
    newest = {result.board: result for piece in pieces for result in piece.results}
    counting_ids = {result.id for result in newest.values()}
    settings = pieces[-1].facts.settings
    checkpoint, submission = checkpoint_label(settings), pieces[-1].submission
    given = (submission or {}).get("checkpoint", checkpoint)
    return Entry(
        id=name,
        label=label,
        title=_title(pieces[-1]),
        model=pieces[-1].facts.model,
        checkpoint=checkpoint,
        family=settings.get("family") or pieces[-1].facts.model.removesuffix("_mask"),
        size=_size(given) if parameters is None else _short(parameters),
        counted=parameters is not None,
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


def _short(count: int) -> str:
    """``7.07B``, ``894M``."""
    unit, scale = next((one for one in _UNITS.items() if count >= 0.9995 * one[1]), ("", 1))
    return f"{count / scale:.3g}{unit}"


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
    settings, name = piece.facts.settings, _title(piece)
    if piece.facts.model == HUMAN:
        return f"{name} · {HUMAN}"
    parts = [f"{name} · {mask_label(settings)}{f' ({sender})' if sender else ''}", *others(settings, also)]
    return ", ".join(parts)


def _title(piece: EvaluatedRun) -> str:
    settings = piece.facts.settings
    short = {**settings, "checkpoint": _last(settings.get("checkpoint")), "peft": _last(settings.get("peft"))}
    return (piece.submission or {}).get("what") or checkpoint_label(short)


def _last(path: str | None) -> str | None:
    return path and path.rstrip("/").split("/")[-1]
