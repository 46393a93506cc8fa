"""Runs of `lmms_eval` one after the other in this process, with models that are loaded already."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from mimic_eval.cli.lmms.outcome import Outcome
from mimic_eval.cli.lmms.run import guarded, load_when_used
from mimic_eval.cli.lmms.wrappers import limiting, summarizing

Load = Callable[[str, Mapping[str, Any]], Any]
"""From lmms-eval's name of a model and its arguments to the model, set to them."""


class _Loader(NamedTuple):
    """What upstream takes for a model's class."""

    name: str
    load: Load

    def create_from_arg_string(self, text: str, extra: Mapping[str, Any] | None = None) -> Any:
        """As upstream's `lmms`."""
        from model_adapters.options import parse_arg_string

        return self.load(self.name, parse_arg_string(text, extra or {}))


@contextmanager
def lmms_runs(load: Load) -> Iterator[Callable[[Sequence[str]], Outcome]]:
    """A function that runs `lmms_eval` with a command line, as often as it is called.

    Upstream's functions are as before when the block ends.

    Args:
        load: the models.
    """
    load_when_used("evaluate")
    from lmms_eval import __main__ as upstream
    from lmms_eval import evaluator, models
    from loguru import logger

    logger.configure(handlers=[{"sink": _print, "level": "ERROR", "format": "{message}"}])

    simple_evaluate, evaluate, get_model = evaluator.simple_evaluate, evaluator.evaluate, models.get_model

    def run(argv: Sequence[str]) -> Outcome:
        outcome = Outcome()
        evaluator.simple_evaluate = summarizing(simple_evaluate, outcome)
        evaluator.evaluate = limiting(evaluate)
        models.get_model = lambda name, *_, **__: _Loader(name, load)
        try:
            guarded(upstream.cli_evaluate_single, outcome, [])(_parsed(argv))
        finally:
            evaluator.simple_evaluate, evaluator.evaluate = simple_evaluate, evaluate
            models.get_model = get_model
        return outcome

    yield run


def _print(line: str) -> None:
    print(line, end="", file=sys.stderr)


def _parsed(argv: Sequence[str]) -> Any:
    """Upstream's arguments, which it reads from `sys.argv`."""
    from lmms_eval import __main__ as upstream

    before = sys.argv
    sys.argv = ["lmms_eval", *argv]
    try:
        return upstream.parse_eval_args()[1]
    finally:
        sys.argv = before
