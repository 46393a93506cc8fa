"""Whether Python finds our packages, and not a user's file or another package of the same name."""

import sys
from importlib.util import find_spec
from pathlib import Path

from mimic_eval.records.errors import UserError

PACKAGES = ("mimic_eval", "mimic_tasks", "model_adapters", "stats", "leaderboard", "finetune")


def check_packages() -> None:
    """Check that each of our packages lies beside this one; none of them is imported.

    Raises:
        UserError: another file is imported under the name of one of them.
    """
    root = Path(__file__).absolute().parents[2]
    for name in PACKAGES:
        file = _file(name)
        ours = root / name / "__init__.py"
        if not ours.is_file():
            raise UserError(f"mimic-eval's package '{name}' is missing in {root}: install mimic-eval again")
        if file is None or not ours.samefile(file):
            raise UserError(
                f"`import {name}` gives {file} and not mimic-eval's {ours}: rename or uninstall it, "
                "or take its folder out of PYTHONPATH"
            )


def _file(name: str) -> str | None:
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    spec = find_spec(name)
    return spec.origin if spec is not None else None
