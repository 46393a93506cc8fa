"""The commands of the documentation work as they are printed, and its tables are what the code does."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from mimic_tasks.scoring.items import score_both
from tests.conftest import BIN, SERVED, Commands

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", sorted(path.name for path in DOCS.glob("*.md") if "```sh" in path.read_text())
)
def test_the_commands_of_a_page_run_one_after_the_other(
    page: str, commands: Commands, tmp_path: Path
) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    folders = [str(BIN), os.environ["PATH"]]
    if commands.served:
        (tmp_path / "bin").mkdir()
        commands.server.stand_ins(tmp_path / "bin", SERVED)
        folders.insert(0, str(tmp_path / "bin"))
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)], cwd=tmp_path / "here",
        env=commands.environment(PATH=os.pathsep.join(folders)), capture_output=True, text=True, timeout=300,
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


def test_the_glossary_has_each_term_of_methods_once() -> None:
    section = (DOCS / "METHODS.md").read_text().split("## 1. Vocabulary")[1].split("\n## ")[0]
    defined = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
    terms = re.findall(r"^- \*\*(.+?)\*\*:", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    names = [name.strip(" )") for term in terms for name in re.split(r"[,(]", term)]
    assert len(set(names)) == len(names)
    wanted = {name for term in defined for name in re.split(r", | (?=[a-z]$)", term)}
    assert len(wanted) > 10
    assert sorted(wanted - set(names)) == []
