"""Which number of which method is tried, with which values: checked before a model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

from mimic_eval.records import UserError, nearest
from model_adapters.arguments import Arguments
from model_adapters.families import lmms_models
from model_adapters.options import AdapterOptions, argument_parts, parse_arg_string

_MOST_VALUES = 100


@dataclass(frozen=True)
class Plan:
    """The runs of a tuning.

    Attributes:
        method: the mask.
        argument: whose values are tried.
        values: rising, two at least.
        least_effect: the value with the least effect, or None if it is not known.
        model: lmms-eval's name.
        given: the user's other arguments.
    """

    method: str
    argument: str
    values: tuple[float, ...]
    least_effect: float | None
    model: str
    given: Mapping[str, Any]

    def default(self) -> float | None:
        """The value that the mask takes unless another is given; None if that depends on the model."""
        options = AdapterOptions.parse(self.arguments(None))
        parts = [part for part in (options.mask, options.sinks, options.relevance) if part is not None]
        values: dict[str, float | None] = {}
        for part in parts:
            values |= part.model_dump(by_alias=True)
        return values[self.argument]

    def arguments(self, value: float | None) -> dict[str, Any]:
        """The model's arguments under a value; without the argument if None."""
        chosen = {} if value is None else {self.argument: value}
        return {**self.given, "mask": self.method, **chosen}


def make_plan(
    method: str, *, argument: str | None, grid: Sequence[float] | None, model: str, model_args: str
) -> Plan:
    """Check what a user says of a tuning.

    Args:
        method: the mask.
        argument: the number to choose, or None for the method's free number.
        grid: the values to try, or None for those of the method.
        model: lmms-eval's name.
        model_args: as ``--model_args``, without the mask and the argument.

    Raises:
        UserError: an unknown method, argument or model; fewer than two values, or one that the mask refuses.
    """
    if model not in lmms_models():
        raise UserError(nearest("model", model, lmms_models()))
    options, needs = argument_parts(method)
    free, numbers = options.free_number, _numbers((options, *needs))
    if argument is None:
        if free is None:
            raise UserError(
                f"mask={method} has no free number of its own: name one of its arguments with --argument "
                f"({', '.join(numbers) or 'it has no number'})"
            )
        argument = free.argument
    if argument not in numbers:
        raise UserError(nearest(f"number of mask={method}", argument, numbers))
    known = free is not None and argument == free.argument
    if grid is None:
        if free is None or not known:
            raise UserError(f"--grid is needed with --argument {argument}: the values to try, as 0,0.25,0.5")
        grid = free.grid
    given = parse_arg_string(model_args, {})
    for name in ("mask", "tuned", argument):
        if name in given:
            raise UserError(f"{name}={given[name]} in --model-args: mimic tune sets it: leave it out")
    least = free.least_effect if free is not None and known else None
    plan = Plan(method, argument, _checked(grid), least, model, given)
    for value in (None, *plan.values):
        try:
            AdapterOptions.parse(plan.arguments(value))
        except UserError as error:
            where = "--model-args" if value is None else f"--grid {value:g}"
            raise UserError(f"{where}: {error}") from error
    return plan


def _checked(grid: Sequence[float]) -> tuple[float, ...]:
    values = sorted(grid)
    if len(values) < 2:
        raise UserError(f"--grid needs two values at least, got {', '.join(f'{v:g}' for v in values)}")
    if len(values) > _MOST_VALUES:
        raise UserError(f"--grid has {len(values)} values, more than {_MOST_VALUES}")
    if twice := [one for one, other in pairwise(values) if one == other]:
        raise UserError(f"--grid has {twice[0]:g} twice")
    return tuple(values)


def _numbers(parts: Sequence[type[Arguments]]) -> list[str]:
    """The arguments that are numbers."""
    return [
        name
        for part in parts
        for name, field in part.arguments().items()
        if {int, float} & {field.annotation, *get_args(field.annotation)}
    ]
