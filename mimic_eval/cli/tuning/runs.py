"""The runs of a tuning with one loaded model, and what is written of them."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from leaderboard.arms import Arm
from leaderboard.choice import INTERVAL, Choice, choose, scored_in_all
from leaderboard.comparison import Comparison, TaskComparison, compare
from leaderboard.measures import Estimate
from leaderboard.sentences import p_text
from mimic_eval.cli.tuning.docs import DrawnDocs
from mimic_eval.cli.tuning.plan import Plan
from mimic_eval.records import Sample, announced_run

if TYPE_CHECKING:
    from model_adapters.adapter import MaskedModel

_TESTED = (
    *("task", "metric", "b", "n", "units", "test", "pvalue", "adjusted", "family", "verdict"),
    *("detectable", "sentence"),
)


class Tuned(NamedTuple):
    """The outcome: for `save_tuning` without the command, and for people."""

    record: dict[str, Any]
    text: str


def run_values(plan: Plan, drawn: DrawnDocs) -> Tuned:
    """Answer the docs without the argument, then under each value, and choose.

    Each is a run as lmms-eval's, with the journal: what was answered before is not answered again.

    Raises:
        UserError: the checkpoint cannot be loaded, or has not what the method needs.
    """
    from mimic_eval.cli.calibrate import embedded_docs
    from model_adapters.models import model_class
    from model_adapters.sinks import calibrating_with

    _say(plan, "its default", 0)
    with calibrating_with(embedded_docs):
        loaded = model_class(plan.model)(**plan.arguments(None))
    loaded.task_dict = {f"mimic_{name}": {"test": docs} for name, docs in drawn.docs.items()}
    untuned = _answered(loaded, plan, drawn, "untuned")
    default = plan.default()
    if default is None:
        default = loaded.settings.get(plan.argument)
    settings: dict[float, dict[str, Any]] = {}
    arms: dict[float, Arm] = {}
    for number, value in enumerate(plan.values, start=1):
        if value == default:
            arms[value] = untuned
        else:
            _say(plan, f"{value:g}", number)
            loaded.change(**plan.arguments(value))
            arms[value] = _answered(loaded, plan, drawn, f"{plan.argument}={value:g}")
        settings[value] = loaded.settings
    (untuned, *scored), left_out = scored_in_all([untuned, *arms.values()])
    arms = dict(zip(arms, scored, strict=True))
    choice = choose(arms, least_effect=plan.least_effect, seed=drawn.seed)
    others = {value: arm for value, arm in arms.items() if value != default}
    comparison = compare([untuned, *others.values()])
    tests = dict(zip(comparison.others, others, strict=True))
    record = {
        **_choice_record(plan, choice, default),
        "untuned": {"value": default, **_scores(comparison)},
        "tests": [_test(row, tests[row.b]) for row in comparison.rows],
        "settings": settings[choice.value],
        "model": _model_record(plan, loaded),
        "data": _data_record(drawn, choice, left_out),
        "versions": {name: version(name) for name in ("mimic-eval", "lmms-eval", "torch", "transformers")},
    }
    return Tuned(record, _text(plan, choice, comparison, tests, default))


def _answered(loaded: "MaskedModel", plan: Plan, drawn: DrawnDocs, name: str) -> Arm:
    """One run over all docs, scored."""
    from lmms_eval.api.instance import Instance

    from mimic_tasks.lmms_hooks import doc_to_messages, sample_of
    from mimic_tasks.stored_docs import task_kind

    keys = [(task, number) for task, docs in drawn.docs.items() for number in docs]
    requests = [
        Instance(
            "generate_until",
            ("", doc_to_messages, dict(drawn.generation[task]), number, f"mimic_{task}", "test"),
            number,
            metadata={"task": f"mimic_{task}", "doc_id": number, "repeats": 1},
        )
        for task, number in keys
    ]
    samples: dict[str, list[Sample]] = {f"mimic_{task}": [] for task in drawn.docs}
    for (task, number), result in zip(keys, loaded.generate_until(requests), strict=True):
        sample = sample_of(task_kind(task) or task, drawn.docs[task][number], result.text)
        samples[f"mimic_{task}"].append(replace(sample, doc_id=number))
    return Arm(Path(name), plan.model, announced_run(), samples)


def _say(plan: Plan, value: str, number: int) -> None:
    print(f"{plan.argument}: {value} (run {number + 1} of {len(plan.values) + 1})", file=sys.stderr)


def _choice_record(plan: Plan, choice: Choice, default: Any) -> dict[str, Any]:
    least = plan.least_effect
    return {
        "method": plan.method,
        "argument": plan.argument,
        "value": choice.value,
        "interval": {"low": choice.low, "high": choice.high, "method": INTERVAL},
        "rule": choice.rule,
        "least_effect": "infinite" if least is not None and isinf(least) else least,
        "default": default,
        "grid": [
            {
                "value": tried.value,
                "score": tried.score,
                "share_of_resamples": tried.share,
                "tasks": {task: estimate._asdict() for task, estimate in tried.tasks.items()},
            }
            for tried in choice.grid
        ],
    }


def _scores(comparison: Comparison) -> dict[str, Any]:
    tasks = {row.task: row.score_a for row in comparison.rows}
    mean = sum(score.estimate for score in tasks.values()) / len(tasks)
    return {"score": mean, "tasks": {task: score._asdict() for task, score in tasks.items()}}


def _test(row: TaskComparison, value: float) -> dict[str, Any]:
    """A paired test against the untuned run."""
    named = {name: getattr(row, name) for name in _TESTED if name != "b"}
    return {"value": value, **named, "delta": row.delta._asdict(), "flips": row.flips._asdict()}


def _model_record(plan: Plan, loaded: "MaskedModel") -> dict[str, Any]:
    from model_adapters.sinks import model_config

    general = loaded.options.general
    return {
        "name": plan.model,
        "checkpoint": general.pretrained or f"embedded:{loaded.families[0].model_type}",
        "peft": general.peft,
        "weights": loaded.weights,
        "config": model_config(loaded.base),
        "dtype": loaded.settings["dtype"],
        "arguments": dict(plan.given),
    }


def _data_record(drawn: DrawnDocs, choice: Choice, left_out: Mapping[str, int]) -> dict[str, Any]:
    return {
        "source": drawn.source,
        "seed": drawn.seed,
        "docs": choice.docs,
        "unscored": left_out,
        "content_hashes": {
            f"mimic_{task}": [doc["content_hash"] for doc in docs.values()]
            for task, docs in drawn.docs.items()
        },
        "pictures": sorted(drawn.pictures),
    }


def _text(
    plan: Plan, choice: Choice, comparison: Comparison, tests: Mapping[str, float], default: Any
) -> str:
    """The table of the values, the chosen one, and what the tests say."""
    from tabulate import tabulate

    rows = {(tests[row.b], row.task): row for row in comparison.rows}
    body = []
    for tried in choice.grid:
        for task, score in tried.tasks.items():
            row = rows.get((tried.value, task))
            change = ["(untuned)", "", ""] if row is None else [_points(row.delta), *_p(row)]
            body.append([f"{tried.value:g}", task, _share(score), f"{tried.share:.0%}", *change])
    headers = [plan.argument, "task", "score", "chosen in resamples", "change, points", "p", "Holm"]
    untuned = "its default" if default is None else f"{default:g}"
    docs = ", ".join(f"{number} of {task}" for task, number in choice.docs.items())
    shown = [row for row in comparison.rows if row.verdict in ("better", "worse")]
    family = comparison.rows[0].family
    if shown:
        lines = [f"{row.sentence}." for row in shown]
    elif len({tried.score for tried in choice.grid}) == 1:
        lines = ["All values have the same score: these docs do not tell them apart."]
    else:
        lines = [f"No value is shown to differ from {plan.argument}={untuned} (Holm, {family} tests)."]
    lines += [
        f"The chosen value: {row.sentence}."
        for row in comparison.rows
        if tests[row.b] == choice.value and row not in shown
    ]
    methods = dict.fromkeys(row.test.split(",")[0] for row in comparison.rows)
    interval = f"{choice.low:g}" if choice.low == choice.high else f"{choice.low:g} to {choice.high:g}"
    return "\n".join(
        [
            f"mask={plan.method} on docs: {docs}; the changes are from {plan.argument}={untuned}",
            tabulate(body, headers=headers, disable_numparse=True),
            f"Chosen: {plan.argument}={choice.value:g}, interval {interval} ({INTERVAL}). "
            f"Rule: {choice.rule}.",
            *lines,
            f"Tests: {'; '.join(methods)}. 95 % intervals are over docs of this image pool.",
        ]
    )


def _share(score: Estimate) -> str:
    ends = "" if score.low is None or score.high is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.estimate:.3f}{ends}"


def _points(delta: Estimate) -> str:
    ends = (
        "" if delta.low is None or delta.high is None else f" [{100 * delta.low:.1f}, {100 * delta.high:.1f}]"
    )
    return f"{100 * delta.estimate:+.1f}{ends}"


def _p(row: TaskComparison) -> list[str]:
    return [p_text(row.pvalue), p_text(row.adjusted)]
