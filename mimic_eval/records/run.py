"""What a run is: the model says it once, and whoever writes results can ask.

Upstream's result files hold the model's arguments as the user typed them, not what followed from them. So the
adapter announces the settings that it really runs with, and our command writes them into the results.
"""

from typing import Any

_announced: dict[str, Any] = {}


def announce_run(**record: Any) -> None:
    """Say what the model of this process runs with; replaces what was said before."""
    _announced.clear()
    _announced.update(record)


def announced_run() -> dict[str, Any]:
    """What was announced, or an empty record for a model that is not ours."""
    return dict(_announced)
