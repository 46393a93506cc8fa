"""Arguments as pydantic models whose every mistake is one line (`UserError`)."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from mimic_eval.records import UserError, nearest


class Arguments(BaseModel):
    """Named arguments with defaults; unknown ones are refused. A field's description is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """The arguments that a user gave, as text or as values.

        Raises:
            UserError: an unknown name, or a value that does not fit.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise UserError(cls._line(error)) from error

    @classmethod
    def _line(cls, error: ValidationError) -> str:
        """The first mistake in one line."""
        first = error.errors(include_url=False)[0]
        name, value, kind = str(first["loc"][0]), first["input"], first["type"]
        context = first.get("ctx", {})
        if kind == "extra_forbidden":
            return nearest("model argument", name, cls.model_fields)
        if kind == "literal_error":
            return nearest(name, str(value), cls._choices(name))
        if kind.startswith("bool_"):
            return f"{name} must be true or false, got '{value}'"
        if kind == "greater_than" or kind.startswith("float_") or kind == "finite_number":
            above = context.get("gt", cls._bound(name))
            return f"{name} must be a number{'' if above is None else f' above {above:g}'}, got '{value}'"
        return f"{name}={value}: {first['msg']}"

    @classmethod
    def _choices(cls, name: str) -> tuple[str, ...]:
        annotation = cls.model_fields[name].annotation
        return get_args(annotation) if get_origin(annotation) is Literal else ()

    @classmethod
    def _bound(cls, name: str) -> float | None:
        for constraint in cls.model_fields[name].metadata:
            if hasattr(constraint, "gt"):
                return float(constraint.gt)
        return None
