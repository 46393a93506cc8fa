"""Runs a notebook of plain Python and stores what it prints: `python -m tests.notebook docs/NAME.ipynb`."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(path: Path) -> list[str]:
    """The text that each code cell of a notebook prints, run in order in one namespace.

    Args:
        path: the notebook.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                exec(compile("".join(cell["source"]), str(path), "exec"), namespace)
            printed.append(text.getvalue())
    return printed


def stored(path: Path) -> list[str]:
    """The text that the notebook holds for each code cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(line for output in cell["outputs"] for line in output["text"])
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def write(path: Path) -> None:
    """Run a notebook, and store what its cells print."""
    printed = iter(run(path))
    content = json.loads(path.read_text(encoding="utf-8"))
    number = 0
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            lines = next(printed).splitlines(keepends=True)
            outputs = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
            cell.update(execution_count=number, outputs=outputs)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
