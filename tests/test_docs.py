"""The commands of the documentation work as they are printed, and its tables are what the code does."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import BIN

from mimic_tasks.scoring.items import score_both

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", sorted(path.name for path in DOCS.glob("*.md") if "```sh" in path.read_text())
)
def test_the_commands_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment.pop("MIMIC_DATA", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in (DOCS / "scores.md").read_text().splitlines()
    if re.fullmatch(r"\| (Listing|Common|Counting) \|.*", line)
]


@pytest.mark.parametrize(("task", "gt", "response", "ours", "official"), ROWS)
def test_a_row_of_the_table(task: str, gt: str, response: str, ours: str, official: str) -> None:
    both = score_both(task.lower(), response, {"gt": gt})
    assert both.ours["score"] == float(ours)
    assert both.official["score"] == float(official)


def test_the_table_has_rows() -> None:
    assert len(ROWS) == 5
