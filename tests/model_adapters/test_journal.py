"""The answer journal: what `add` returned for is there, whatever happened to the process or to the file."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mimic_eval.records import UserError, unscored_response
from model_adapters.journal import Answer, Journal, answer_key
from tests.work import calls

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = {"weights": "abc", "mask": "block"}
ODD = 'two\nlines\t\u2028 and é, \u4e2d, \U0001f600, \ud800 alone, {"key":'
WRITER = """
import sys
from pathlib import Path
from model_adapters.journal import Answer, Journal

folder, name, count, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
journal = Journal(folder, {"weights": "abc", "mask": "block"})
print("ready", flush=True)
sys.stdin.readline()
for first in range(0, count, size):
    keys = [f"{name}-{i}" for i in range(first, min(first + size, count))]
    journal.add({key: Answer(f"answer {key} " * 20, 3, {"eta": 0.5}) for key in keys})
    print(*keys, sep="\\n", flush=True)
"""


def answer(i: int) -> Answer:
    return Answer(f"answer {i}", i, {"edited": i, "eta": i / 7, "histogram": [i] * 3})


def writer(folder: Path, name: str, *, count: int, size: int) -> subprocess.Popen[str]:
    """A process that adds `count` answers in batches of `size`, and prints the keys after each."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(count), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def the_file(journal: Journal) -> Path:
    (path,) = journal.folder.glob("*.jsonl")
    return path


def reopened(folder: Path) -> Journal:
    return Journal(folder, IDENTITY)


# --- What is kept


@pytest.mark.parametrize(
    "kept",
    [
        Answer("", 0, None),
        Answer("4", 1, {}),
        Answer(ODD, 12, {"eta": 0.1 + 0.2, "histogram": [0, 1], "most": 2**60, "none": None}),
    ],
)
def test_an_answer_comes_back_exactly_as_it_was(tmp_path: Path, kept: Answer) -> None:
    journal = Journal(tmp_path, IDENTITY)
    assert journal.find("k") is None
    journal.add({"k": kept})
    for found in (journal.find("k"), reopened(tmp_path).find("k")):
        assert found == kept
        assert isinstance(found, Answer)
    assert (journal.added, journal.reused, journal.damaged) == (1, 1, 0)


def test_the_process_that_wrote_sees_what_a_resumed_run_sees(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.add({"k": Answer("a", 1, {"rows": (1, 2), "by_layer": {3: 4}})})  # JSON has neither
    want = Answer("a", 1, {"rows": [1, 2], "by_layer": {"3": 4}})
    assert journal.find("k") == reopened(tmp_path).find("k") == want


def test_reused_counts_finds_and_added_counts_answers(tmp_path: Path) -> None:
    Journal(tmp_path, IDENTITY).add({str(i): answer(i) for i in range(5)})
    journal = reopened(tmp_path)
    found = [journal.find(str(i)) for i in range(7)]
    journal.add({str(i): answer(i) for i in (5, 6)})
    assert found == [*map(answer, range(5)), None, None]
    assert (journal.reused, journal.added) == (5, 2)


def test_another_identity_sees_nothing(tmp_path: Path) -> None:
    Journal(tmp_path, IDENTITY).add({"k": answer(1)})
    for other in ({**IDENTITY, "weights": "abd"}, {**IDENTITY, "tau": 1}, {"mask": "block"}):
        assert Journal(tmp_path, other).find("k") is None
    assert Journal(tmp_path, dict(reversed(IDENTITY.items()))).find("k") == answer(1)


def test_the_folder_says_for_people_what_it_is_of(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    assert not journal.folder.exists()  # nothing before the first answer
    journal.add({})
    assert not journal.folder.exists()
    journal.add({"k": answer(1)})
    assert json.loads((journal.folder / "identity.json").read_text())["identity"] == IDENTITY
    assert sorted(path.suffix for path in journal.folder.iterdir()) == [".json", ".jsonl"]
    for line in the_file(journal).read_text().splitlines():
        assert json.loads(line)["key"] == "k"


def test_without_a_folder_answers_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    journal = Journal(None, IDENTITY)
    journal.add({"k": answer(1)})
    assert journal.folder.parent == tmp_path / "cache" / "answers"
    assert Journal(tmp_path / "cache" / "answers", IDENTITY).find("k") == answer(1)
    monkeypatch.delenv("MIMIC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Journal(None, IDENTITY).folder.parent == tmp_path / ".cache/mimic_eval/answers"


def test_an_unscored_doc_is_no_answer(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="an unscored doc has no answer to keep: bad"):
        journal.add({"good": answer(1), "bad": Answer(unscored_response("truncated image"), 0, None)})
    assert reopened(tmp_path).find("good") is None


def test_a_key_depends_on_everything_that_is_asked() -> None:
    asked = {
        "prompt": "How many?",
        "images": ["a", "b"],
        "generation": {"max_new_tokens": 8, "until": ["\n\n"]},
        "extra": {"relevance": "oracle"},
    }
    changed = [
        {"prompt": "How many? "},
        {"images": ["b", "a"]},
        {"images": ["a", "b", "b"]},
        {"images": ["ab"]},
        {"generation": {"max_new_tokens": 9, "until": ["\n\n"]}},
        {"generation": {"max_new_tokens": 8, "until": []}},
        {"extra": {}},
    ]
    keys = [answer_key(**{**asked, **change}) for change in ({}, *changed)]  # type: ignore[arg-type]
    assert len(set(keys)) == len(keys)
    same = {"max_new_tokens": 8, "until": ("\n\n",)}
    assert answer_key(**{**asked, "generation": dict(reversed(same.items()))}) == keys[0]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"value\.extra\.x is a builtins\.object, which has no JSON form"):
        answer_key(**{**asked, "extra": {"x": object()}})  # type: ignore[arg-type]


def test_a_batch_is_one_sync_of_the_file_and_new_names_are_synced_with_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []
    plain = os.fsync

    def noting(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        synced.append((path.name, path.stat().st_size if path.is_file() else -1))
        plain(file)

    monkeypatch.setattr(os, "fsync", noting)
    journal = Journal(tmp_path / "answers", IDENTITY)
    journal.add({str(i): answer(i) for i in range(30)})
    path = the_file(journal)
    assert synced[:2] == [(tmp_path.name, -1), ("answers", -1)]
    assert synced[2][0].endswith(".partial")
    assert synced[2][1] == (journal.folder / "identity.json").stat().st_size
    assert synced[3:] == [(journal.folder.name, -1), (path.name, path.stat().st_size)]
    synced.clear()
    journal.add({str(i): answer(i) for i in range(30, 60)})
    assert synced == [(path.name, path.stat().st_size)]


# --- Several processes


def test_two_processes_write_at_once_and_a_reader_from_before_sees_all(tmp_path: Path) -> None:
    before = Journal(tmp_path, IDENTITY, rescan=0)
    assert before.find("a-0") is None
    writers = [writer(tmp_path, name, count=500, size=7) for name in "ab"]
    for process in writers:
        start(process)
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    after = reopened(tmp_path)
    assert len(list(after.folder.glob("*.jsonl"))) == 2
    for key in (f"{name}-{i}" for name in "ab" for i in range(500)):
        want = Answer(f"answer {key} " * 20, 3, {"eta": 0.5})
        assert before.find(key) == want
        assert after.find(key) == want
    assert before.damaged == after.damaged == 0


def test_others_files_are_looked_at_again_after_a_while_and_not_at_each_find(tmp_path: Path) -> None:
    reader, soon = Journal(tmp_path, IDENTITY, rescan=3600), Journal(tmp_path, IDENTITY, rescan=0.05)
    other = Journal(tmp_path, IDENTITY)
    other.add({"k": answer(1)})
    time.sleep(0.06)
    assert reader.find("k") is None
    assert soon.find("k") == answer(1)
    other.add({"l": answer(2)})
    time.sleep(0.06)
    assert soon.find("l") == answer(2)


def test_a_line_that_another_process_is_still_writing_is_read_when_it_is_whole(tmp_path: Path) -> None:
    Journal(tmp_path, IDENTITY).add({"k": answer(1)})
    path = the_file(reopened(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    reader = Journal(tmp_path, IDENTITY, rescan=0)
    assert reader.find("k") is None
    assert reader.damaged == 1
    path.write_bytes(whole)
    assert reader.find("k") == answer(1)
    assert reader.damaged == 0


def test_minus_9_at_any_time_loses_no_answer_that_was_added(tmp_path: Path) -> None:
    draw = random.Random(5)
    promised: list[str] = []
    for run in range(5):
        process = writer(tmp_path, str(run), count=10**6, size=draw.choice((1, 4, 50)))
        start(process)
        time.sleep(draw.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        printed = out.split("\n")[:-1]  # the last may be cut off
        assert printed, "killed before the first answer"
        promised += printed
        found = reopened(tmp_path)
        assert [key for key in promised if found.find(key) is None] == []
        assert found.damaged <= run + 1


# --- Damage


def test_a_last_line_cut_off_at_any_byte_is_ignored_and_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.add({"a": answer(1)})
    first = len(the_file(journal).read_bytes())
    journal.add({"b": answer(2)})
    path = the_file(journal)
    whole = path.read_bytes()
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        found = reopened(tmp_path)
        assert found.find("a") == answer(1)
        assert found.find("b") is None
        assert found.damaged == (size > first)


def test_answers_after_a_cut_off_file_go_to_another_file(tmp_path: Path) -> None:
    Journal(tmp_path, IDENTITY).add({"a": answer(1)})
    cut = the_file(reopened(tmp_path))
    cut.write_bytes(cut.read_bytes()[:-9])
    resumed = reopened(tmp_path)
    resumed.add({"a": answer(1), "b": answer(2)})
    found = reopened(tmp_path)
    assert (found.find("a"), found.find("b"), found.damaged) == (answer(1), answer(2), 1)
    assert len(list(found.folder.glob("*.jsonl"))) == 2


def test_a_damaged_byte_costs_its_own_line_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.add({str(i): answer(i) for i in range(3)})
    path = the_file(journal)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for place in range(len(lines[0]), len(lines[0]) + len(lines[1]) - 1):
        for flip in (1, 0x80):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            found = reopened(tmp_path)
            assert found.find("1") is None
            assert (found.find("0"), found.find("2")) == (answer(0), answer(2))
            assert found.damaged >= 1
    path.write_bytes(lines[0] + b"\0" * 300 + b"\n" + lines[2])  # what a lost block leaves
    found = reopened(tmp_path)
    assert (found.find("0"), found.find("2"), found.damaged) == (answer(0), answer(2), 1)


# --- Failures


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"cannot be read \(Not a directory\): free .* set MIMIC_CACHE .* journal=off$"
    ):
        Journal(tmp_path / "file", IDENTITY)
    journal = Journal(tmp_path / "later", IDENTITY)
    (tmp_path / "later").write_text("")
    with pytest.raises(UserError, match=r"^the answer journal .* cannot be written \(.*\): .*journal=off$"):
        journal.add({"k": answer(1)})


def test_after_a_full_disk_the_next_batch_is_whole(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from mimic_eval.records import UserError
from model_adapters.journal import Answer, Journal

journal = Journal(Path(sys.argv[1]), {"weights": "abc", "mask": "block"})
journal.add({"before": Answer("x", 1, None)})
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
try:
    journal.add({f"during{i}": Answer("y" * 250, 1, None) for i in range(9)})
except UserError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.add({"after": Answer("z", 1, None)})
print(journal.added, journal.find("during8"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    message, counts = done.stdout.splitlines()
    assert "cannot be written (File too large): free some space, set MIMIC_CACHE" in message
    assert counts == "2 None"
    found = reopened(tmp_path)
    assert found.find("before") == Answer("x", 1, None)
    assert found.find("after") == Answer("z", 1, None)
    assert found.find("during8") is None
    assert found.damaged == 1  # the line that the full disk cut off, in a file of its own


def test_opening_a_journal_is_linear_in_its_answers(tmp_path: Path) -> None:
    record = {"histogram": list(range(100)), "eta": 0.25}

    def open_and_find(folder: Path, count: int) -> None:
        journal = reopened(folder)
        assert all(journal.find(str(i)) is not None for i in range(count))

    for count in (1_000, 8_000):
        folder = tmp_path / str(count)
        Journal(folder, IDENTITY).add({str(i): Answer("some answer", 5, record) for i in range(count)})
        assert calls(lambda folder=folder, count=count: open_and_find(folder, count)) < 50 * count


# --- Whose an answer is


def test_a_file_of_another_models_folder_gives_no_answers(tmp_path: Path) -> None:
    """It was taken: 12 of 12 answers became this model's."""
    ours, theirs = Journal(tmp_path, IDENTITY), Journal(tmp_path, {**IDENTITY, "weights": "other"})
    ours.add({"a": answer(1)})
    theirs.add({"a": answer(2), "b": answer(3)})
    (ours.folder / "copied.jsonl").write_bytes(the_file(theirs).read_bytes())
    for path in ours.folder.glob("*.jsonl"):
        if path.name != "copied.jsonl":
            path.unlink()
    found = reopened(tmp_path)
    assert (found.find("a"), found.find("b")) == (None, None)
    assert (found.foreign, found.damaged) == (2, 0)
    found.add({"a": answer(1)})
    assert reopened(tmp_path).find("a") == answer(1)


def test_journals_of_other_versions_are_counted(tmp_path: Path) -> None:
    old = {**IDENTITY, "code": "1", "versions": {"torch": "2"}}
    Journal(tmp_path, old).add({"a": answer(1)})
    Journal(tmp_path, {**old, "weights": "other"}).add({"a": answer(1)})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/identity.json").write_text("[")
    journal = Journal(tmp_path, {**old, "code": "2"})
    assert journal.other_versions() == 1
    assert journal.find("a") is None


READER = """
import os, sys
from pathlib import Path
from model_adapters.journal import Answer, Journal
from model_adapters.notices import say_read_only

if os.geteuid() == 0:
    os.seteuid(65534)
journal = Journal(Path(sys.argv[1]), {"weights": "abc", "mask": "block"})
print(journal.find("old").text, journal.read_only)
journal.add({"new": Answer("made now", 2, None)})
print(journal.find("new").text, journal.added, journal.read_only)
say_read_only(journal)
"""


def test_a_folder_that_can_only_be_read_serves_its_answers(tmp_path: Path) -> None:
    above = [tmp_path, *tmp_path.parents]
    for folder in above[: above.index(Path(tempfile.gettempdir()))]:
        folder.chmod(0o755)
    journal = Journal(tmp_path / "answers", IDENTITY)
    journal.add({"old": Answer("kept before", 2, None)})
    for folder in (journal.folder, tmp_path / "answers"):
        folder.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READER, str(tmp_path / "answers")],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    finally:
        for folder in (tmp_path / "answers", journal.folder):
            folder.chmod(0o755)
    assert done.stdout.splitlines() == ["kept before None", "made now 0 Permission denied"], done.stderr
    assert "is read-only (Permission denied): its answers are reused, new ones are not saved" in done.stderr
    assert done.returncode == 0


def test_answers_that_a_signal_left_uncounted_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message after Ctrl-C said that no answers were saved, with four of them on the disk."""
    from model_adapters import journal as module
    from model_adapters.notices import stored_answers

    append = module._append

    def interrupted(path: Path, lines: bytes) -> None:
        append(path, lines)
        raise KeyboardInterrupt

    journal = Journal(tmp_path, {"model": "a"})
    monkeypatch.setattr(module, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.add({f"key{i}": Answer("yes", 1, None) for i in range(4)})
    assert journal.added == 0
    assert stored_answers(journal).startswith("4 answers are saved in")
