"""A user's mistake: one clear line and exit code 2, never a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input from the user. The message says what is wrong, where, and what to do, in one line.

    The commands print it as ``error: <message>`` on stderr and exit with code 2.
    """


def nearest(kind: str, given: str, valid: Iterable[str]) -> str:
    """One line for an unknown name: ``Unknown mask 'bloc'. Did you mean 'block'? Valid: block, none.``

    Args:
        kind: what is being selected ("mask", "task").
        given: what the user wrote.
        valid: the names that exist.
    """
    names = sorted(valid)
    close = get_close_matches(given, names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"Unknown {kind} '{given}'.{hint} Valid: {', '.join(names)}."


def check_integer(name: str, value: object, *, least: int, most: int) -> int:
    """`value` if it is an integer within [least, most].

    Raises:
        UserError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UserError(f"{name} must be an integer within {least}-{most}, got {value!r}")
    return value
