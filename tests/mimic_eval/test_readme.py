"""The commands of README.md: each is run here, or is named with the reason why it is only read."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import BIN, SERVED, Commands
from tests.documented import ROOT, documented, fences

README = ROOT / "README.md"
SMALLER = {
    "FOLDER_OR_HUB_ID": "TINY",
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": "TINY",
    "annotations/instances_val2017.json": "SCENES/annotations/instances_scenes.json",
    "--images val2017": "--images SCENES/images --docs 3",
    "lmms_eval --tasks": "lmms_eval --limit 2 --tasks",
}
"""What a test has in place of a Hub's checkpoint, of COCO's pictures and of a long run."""

ONLY_READ = {
    "make test": "runs these tests",
    "make docs": "`test_docs_site.py` runs what it runs",
    "make package": "CI runs it beside these tests",
    "make gpu": "needs a GPU; `test_bench.py` runs its script on a CPU",
    "pip install .": "`test_wheel.py` and `make package` install the wheel",
    "mimic --help": "`test_help.py`",
}
"""Commands that are not run here, and why. `test_documented_commands.py` has their parsers read them."""


def _is_run(language: str, text: str) -> bool:
    return language == "bash" and not text.startswith("make ")


def test_every_command_is_run_or_named_as_only_read() -> None:
    """The name of a command in a sentence, such as `mimic sweep`, is no command to type."""
    typed = [one for one in documented(README) if not one.inline or one.words[0] in ("make", "pip")]
    typed += [one for one in documented(README) if one.inline and any(word[0] == "-" for word in one.words)]
    run = [one for one in typed if _is_run(one.language, shlex.join(one.words)) or one.words[1] == "demo"]
    assert sorted({shlex.join(one.words) for one in typed if one not in run} - ONLY_READ.keys()) == []
    assert len(run) >= 6


def test_the_numbers_of_model_types_are_those_of_the_table() -> None:
    counts = re.search(r"(\d+) by name, (\d+) by hf_mask", (ROOT / "docs/families.md").read_text())
    assert counts is not None
    by_name, others = map(int, counts.groups())
    text = README.read_text()
    assert f"on {by_name + others} model types" in text
    assert f"| {others} further types of transformers |" in text


def _commands(commands: Commands, folder: Path) -> Path:
    """A folder with our commands, which the server runs where it can."""
    if not commands.served:
        return BIN
    (folder / "bin").mkdir()
    commands.server.stand_ins(folder / "bin", SERVED)
    return folder / "bin"


@pytest.mark.slow
def test_the_commands_run(commands: Commands, tiny: Path, scenes: Path, tmp_path: Path) -> None:
    """In order, in one folder, on a tiny checkpoint and drawn scenes."""
    script = "\n".join(text for language, text in fences(README) if _is_run(language, text))
    for words, ours in SMALLER.items():
        assert words in script, f"README.md has no '{words}': SMALLER must follow it"
        script = script.replace(words, ours.replace("TINY", str(tiny)).replace("SCENES", str(scenes)))
    here = tmp_path / "here"
    here.mkdir()
    path = os.pathsep.join((str(_commands(commands, tmp_path)), str(BIN), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=here, timeout=300, capture_output=True, text=True,
        env=commands.environment(PATH=path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(here.glob("runs/**/*_results.json"))) == 4
    sentences = re.findall(
        r"^(Counting|Listing|Common|Odd-One)\b[^:\n]*: block masking", done.stdout, re.MULTILINE
    )
    assert set(sentences) == {"Common", "Counting", "Listing", "Odd-One"}


@pytest.mark.slow
def test_make_demo_prints_a_table_and_builds_a_leaderboard(commands: Commands, tmp_path: Path) -> None:
    """Its recipe, with two of six runs and two docs of each task; the environment is installed already."""
    ours, venv = _commands(commands, tmp_path), tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / ".installed").touch()
    (venv / "bin/mimic").symlink_to(ours / "mimic")
    (venv / "bin/lmms_eval").write_text(f'#!/bin/sh\nexec {ours}/lmms_eval "$@" --limit 2\n')
    (venv / "bin/lmms_eval").chmod(0o755)
    variables = [f"VENV={venv}", f"RUNS={tmp_path / 'runs'}", f"SITE={tmp_path / 'site'}"]
    done = subprocess.run(
        ["make", "demo", "DEMO=llava_ov_mask-none llava_ov_mask-block", *variables],
        cwd=ROOT, env=commands.environment(), timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "2 runs (four tasks" in done.stdout
    assert len(re.findall(r"^mimic_counting +(?:none|block)", done.stdout, re.MULTILINE)) == 2, done.stdout
    assert (tmp_path / "site/index.html").is_file()
    assert f"The leaderboard is {tmp_path}/site/index.html" in done.stdout
