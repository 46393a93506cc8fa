"""The unscored answer: a doc that failed is excluded and counted, never scored as an empty answer.

Upstream carries only strings between a model and `process_results`, so an unscored doc travels as a
reserved marker followed by its reason (METHODS 13). The marker holds private-use characters that no
tokenizer produces by accident.
"""

_MARKER = "\ue000mimic-unscored\ue000"


class Unscorable(Exception):
    """A doc cannot be given to the model (for example a truncated image). The message is the reason."""


def unscored_response(reason: str) -> str:
    """The response string that means "this doc has no answer, because <reason>"."""
    if not reason.strip():
        raise ValueError("an unscored doc needs a reason")
    return _MARKER + reason


def unscored_reason(response: str) -> str | None:
    """The reason if `response` marks an unscored doc, else None (an ordinary answer, maybe empty)."""
    position = response.find(_MARKER)
    return None if position < 0 else response[position + len(_MARKER) :]
