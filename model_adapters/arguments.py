"""Arguments as pydantic models whose every mistake is one line (`UserError`)."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from mimic_eval.records import UserError, nearest


class Arguments(BaseModel):
    """Named arguments with defaults; unknown ones are refused. A field's description is its documentation.

    An argument whose name is a word of Python (``lambda``) is the alias of a field of another name.
    """

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
    def arguments(cls) -> dict[str, FieldInfo]:
        """Each argument by the name that users give it."""
        return {info.alias or field: info for field, info in cls.model_fields.items()}

    @classmethod
    def _line(cls, error: ValidationError) -> str:
        """The first mistake in one line."""
        first = error.errors(include_url=False)[0]
        name, value, kind = str(first["loc"][0]), first["input"], first["type"]
        if kind == "extra_forbidden":
            return nearest("model argument", name, cls.arguments())
        if kind == "literal_error":
            return nearest(name, str(value), cls._choices(name))
        if kind.startswith("bool_"):
            return f"{name} must be true or false, got '{value}'"
        if kind.startswith(("greater_than", "less_than", "float_")) or kind == "finite_number":
            return f"{name} must be a number{cls._bounds(name)}, got '{value}'"
        return f"{name}={value}: {first['msg']}"

    @classmethod
    def _choices(cls, name: str) -> tuple[str, ...]:
        annotation = cls.arguments()[name].annotation
        return get_args(annotation) if get_origin(annotation) is Literal else ()

    @classmethod
    def _bounds(cls, name: str) -> str:
        """The range of a number in words, with a space before it; empty if it has none."""
        words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
        parts = [
            f"{word} {getattr(constraint, key):g}"
            for key, word in words.items()
            for constraint in cls.arguments()[name].metadata
            if hasattr(constraint, key)
        ]
        return f" {' and '.join(parts)}" if parts else ""
