"""`mimic ground` as a command: builds, sweeps, a stop in the middle, and mistakes."""

import hashlib
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Command, Commands
from tests.makers.builds import refusal
from tests.makers.grounding import entries, png
from tests.makers.outside import picture

pytestmark = pytest.mark.usefixtures("relevance_cache")


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def rows_of(*pictures: bytes) -> list[dict[str, Any]]:
    return [
        {"images": [{"bytes": data, "path": None}], "question": "How many dogs?", "task": "counting"}
        for data in pictures
    ]


def test_the_command_fills_a_build_and_says_what_was_cached(
    command: Command, folders: dict[str, str], tmp_path: Path, relevance_cache: Path
) -> None:
    write(tmp_path / "build/counting/test.parquet", rows_of(*(png(picture(i)) for i in range(3))))
    given = ("--grounding", folders["grounding"], "--clip", folders["clip"], "--batch-size", 2)
    one = write(tmp_path / "some name.parquet", rows_of(png(picture(0))))
    done = command("mimic", "ground", one, *given)
    assert done.returncode == 0, done.stderr
    done = command("mimic", "ground", tmp_path / "build", *given)
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "3 docs, 3 different pictures",
        "Cached already: Grounding DINO 1 of 3, CLIP 1 of 3",
    ]
    assert lines[2].startswith(f"Wrote Grounding DINO 2, CLIP 2 to {relevance_cache} in ")
    assert lines[3] == (
        f"Runs read them with relevance=grounded_clip,grounding={folders['grounding']},"
        f"clip={folders['clip']} in --model_args"
    )
    done = command("mimic", "ground", tmp_path / "build", *given)
    assert done.stdout.splitlines()[1:] == [
        "Cached already: Grounding DINO 3 of 3, CLIP 3 of 3",
        f"All of it is in {relevance_cache}: nothing to do",
    ]
    assert "Loading weights" not in done.stderr


def test_a_sweep_that_names_its_pictures_is_filled_too(
    command: Command, folders: dict[str, str], tmp_path: Path
) -> None:
    data = png(picture(0))
    name = f"images/{hashlib.sha256(data).hexdigest()}.png"
    (tmp_path / "images").mkdir()
    (tmp_path / name).write_bytes(data)
    row = {"image_files": [name], "question": "How many dogs?", "task": "counting"}
    write(tmp_path / "counting_n/test.parquet", [row])
    done = command("mimic", "ground", tmp_path, "--relevance", "clip", "--clip", folders["clip"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 docs, 1 different pictures\nCached already: CLIP 0 of 1\nWrote CLIP 1 ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_resumes(
    number: signal.Signals, commands: Commands, folders: dict[str, str], tmp_path: Path, relevance_cache: Path
) -> None:
    file = write(tmp_path / "docs.parquet", rows_of(*(png(picture(i, (200, 150))) for i in range(60))))
    call = ("mimic", "ground", file, "--batch-size", 1, "--grounding", folders["grounding"])
    call = (*call, "--clip", folders["clip"])
    with commands.started(*call) as process:
        while not process.ended(0.02) and len(list(relevance_cache.rglob("*.npz"))) < 5:
            pass
        stopped = process.end(number)
    made = len(list(relevance_cache.rglob("*.npz")))
    assert 5 <= made < 120
    if number == signal.SIGINT:
        assert stopped.returncode == 130
        assert stopped.stderr.splitlines()[-2:] == [
            f"interrupted: {made} new outputs are saved in {relevance_cache}",
            "run the same command to resume",
        ]
    done = commands.forked(*call)
    assert done.returncode == 0, done.stderr
    cached = [int(part.split()[-3]) for part in done.stdout.splitlines()[1].split(", ")]
    assert sum(cached) == made
    assert len(entries(relevance_cache)) == 120
    assert not [path for path in relevance_cache.rglob(".*") if path.is_file()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--relevance", "oracle"], r"--relevance oracle runs no outside model: there is nothing to store"),
        (["--relevance", "attention"], r"--relevance attention runs no outside model"),
        (["--relevance", "grounded"], r"Unknown relevance 'grounded'\. Did you mean 'grounded_clip'\?"),
        (["--batch-size", "0"], r"--batch-size must be an integer within 1-4096, got 0"),
        (["--dtype", "int8"], r"Unknown --dtype 'int8'\. Valid: bfloat16, float16, float32\."),
        (["--device", "gpu"], r"device must be cpu, cuda or cuda:N, got 'gpu'"),
        (["--clip", ""], r"--clip is empty"),
        (["--sam", "x"], r"--sam x is not used by --relevance grounded_clip: leave it out"),
        (["--relevance", "clip", "--clip", "/no/such"], r"clip=/no/such: no such folder, and not a Hub id"),
        (["--relevance", "clip", "--clip", "{sam}"], r"is a 'sam' checkpoint, 'clip' is expected"),
        (["/no/such"], r"/no/such: no such folder"),
        (["{tmp}"], r"holds no task"),
        (["{tmp}/text.parquet"], r"is not a parquet file that can be read"),
        (["{tmp}/columns.parquet"], r"columns\.parquet: holds no docs of a task: it has no column images$"),
        (["{tmp}/empty.parquet", "--relevance", "clip", "--clip", "{clip}"], r"holds no docs with pictures"),
        (
            ["{tmp}/none.parquet", "--relevance", "clip", "--clip", "{clip}"],
            r"doc 0 has images = a list of 0",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    folders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    write(tmp_path / "columns.parquet", [{"question": "How many dogs?"}])
    rows = rows_of(png(picture(0)))
    pq.write_table(pa.Table.from_pylist(rows).slice(0, 0), tmp_path / "empty.parquet")
    none = pa.Table.from_pylist(rows)
    none = none.set_column(0, "images", pa.array([[]], none.schema.field("images").type))
    pq.write_table(none, tmp_path / "none.parquet")
    given = [word.format(tmp=tmp_path, **folders) for word in words]
    monkeypatch.setattr(sys, "argv", ["mimic", "ground", *given])
    assert re.search(message, refusal(capsys))


def test_a_build_of_broken_pictures_only_is_refused_after_their_reasons(
    command: Command, folders: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path / "bad.parquet", rows_of(b"nothing"))
    done = command("mimic", "ground", file, "--relevance", "clip", "--clip", folders["clip"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "left out mimic_bad doc 0: image 1 of 1 not a JPEG, PNG, WebP, BMP, TIFF or GIF picture",
        f"error: {file} holds no docs with pictures that can be decoded",
    ]
