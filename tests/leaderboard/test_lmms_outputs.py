"""A run's files: whole or not there, and under names that no other run has."""

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from leaderboard.runs import UNFINISHED, read_runs
from mimic_eval.cli.lmms import outputs
from mimic_eval.cli.lmms.outputs import NewFolder, NotWritten, Staged
from mimic_eval.records import UserError

DATE = "20260101_235959"


def results_of(task: str, n: int) -> dict[str, Any]:
    return {"results": {task: {"score,none": 1.0}}, "n-samples": {task: {"effective": n}}, "date": DATE}


def samples_of(task: str, answer: str, n: int) -> dict[str, list[dict[str, Any]]]:
    rows = [
        {
            "doc_id": i,
            "doc": {},
            "doc_hash": "x",
            "arguments": ["a question"],
            "resps": [[answer]],
            "filtered_resps": [answer],
            "target": "1",
        }
        for i in range(n)
    ]
    return {task: rows}


def write(
    out: Path,
    *,
    task: str = "t",
    answer: str = "a",
    n: int = 5,
    model_args: str = "",
    log: bool = True,
    new: NewFolder | None = None,
) -> Callable[[], Path]:
    """What upstream does with one run's files; returns how they are published."""
    from lmms_eval.loggers import EvaluationTracker

    staged = Staged(str(out), new)
    tracker = staged.tracker(EvaluationTracker)(output_path="ignored")
    tracker.general_config_tracker.log_experiment_args("m", model_args, None, None, None)
    results, samples = results_of(task, n), samples_of(task, answer, n) if log else None
    tracker.save_results_aggregated(results=results, samples=samples, datetime_str=DATE)
    for name, rows in (samples or {}).items():
        tracker.save_results_samples(task_name=name, samples=rows)
    return lambda: staged.publish(results, samples)


def answers(out: Path) -> list[tuple[str, str, set[str]]]:
    return [
        (run.results["date"], task, {row["filtered_resps"] for row in rows})
        for run in read_runs(out)
        for task, rows in run.samples.items()
    ]


@pytest.mark.parametrize("tasks", [("t", "t", "t"), ("t", "u", "v")])
@pytest.mark.parametrize("links", [True, False])
def test_runs_of_one_second_and_folder_keep_all_their_files(
    tasks: tuple[str, ...], links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream gave them one results file, and one samples file with both runs' answers (B10)."""

    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    pending = [write(tmp_path, task=task, answer=f"of run {i}") for i, task in enumerate(tasks)]
    paths = [publish() for publish in pending]
    dates = [DATE, "20260102_000000", "20260102_000001"]
    assert [path.name for path in paths] == [f"{date}_results.json" for date in dates]
    assert answers(tmp_path) == [
        (date, task, {f"of run {i}"}) for i, (date, task) in enumerate(zip(dates, tasks, strict=True))
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        name
        for date, task in zip(dates, tasks, strict=True)
        for name in (f"{date}_results.json", f"{date}_samples_{task}.jsonl")
    )


def test_commands_that_start_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    """All shared `runs/<time>`, so that `mimic report` of one showed the others too."""
    wanted = tmp_path / "runs" / DATE
    start = threading.Barrier(8)

    def command(_: int) -> Path:
        new = NewFolder(wanted)
        start.wait()
        return new.made()

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(command, range(8)))
    names = [DATE, *(f"{DATE}-{number}" for number in range(2, 9))]
    assert sorted(path.name for path in folders) == sorted(names)
    new = NewFolder(wanted)  # of a config file with two runs: they have one folder
    for task in ("t", "u"):
        path = write(wanted, task=task, new=new)()
        assert path.parent == tmp_path / "runs" / f"{DATE}-9"
    assert not list(wanted.iterdir())


def test_a_folder_of_this_second_is_made_only_for_results(tmp_path: Path) -> None:
    new = NewFolder(tmp_path / "runs" / DATE)
    Staged(str(new.wanted), new).discard()  # as of a run that fails, or of a process that writes nothing
    assert not (tmp_path / "runs").exists()


def test_files_have_upstreams_names_in_the_folder_of_the_model(tmp_path: Path) -> None:
    path = write(tmp_path, model_args="pretrained=org/model,mask=none")()
    assert path == tmp_path / f"org__model/{DATE}_results.json"
    outside = write(tmp_path / "out", model_args="pretrained=..")()
    assert outside == tmp_path / f"out/{DATE}_results.json"  # upstream's was beside the folder


def full_disk(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """`write` stops after so many bytes of samples, as on a full disk; upstream logs that and goes on."""
    import builtins

    left = [after]
    real = builtins.open

    def limited(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened = real(file, *args, **kwargs)
        if "_samples_" in str(file) and (args or [kwargs.get("mode")])[0] == "a":
            write = opened.write

            def cut(text: str) -> int:
                part = text[: left[0]]
                left[0] -= len(part)
                write(part)
                if part != text:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return len(text)

            opened.write = cut
        return opened

    monkeypatch.setattr("builtins.open", limited)


@pytest.mark.parametrize("after", [0, 100, 400])
def test_a_full_disk_is_an_error_and_leaves_no_half_file(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream left a samples file that ended within a line, and exit 0 (attack 19)."""
    with monkeypatch.context() as patch:
        full_disk(patch, after=after)
        publish = write(tmp_path)
    with pytest.raises(NotWritten, match="No space left on device"):
        publish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["_results.json", "_samples_t.jsonl"])
def test_a_file_that_is_cut_off_is_not_published(name: str, tmp_path: Path) -> None:
    publish = write(tmp_path)
    (file,) = tmp_path.rglob(f"*{name}")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(NotWritten):
        publish()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_samples_has_a_results_file_alone(tmp_path: Path) -> None:
    assert write(tmp_path, log=False)() == tmp_path / f"{DATE}_results.json"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_results_come_last_so_that_a_killed_run_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path, answer="whole")
    first()
    put: list[str] = []

    def killed(file: Path, path: Path) -> None:
        if path.name.endswith("_results.json"):
            raise KeyboardInterrupt
        os.link(file, path)
        put.append(path.name)

    monkeypatch.setattr(outputs, "_put_new", killed)
    monkeypatch.setattr(Staged, "discard", lambda self: None)  # a kill leaves the folder too
    publish = write(tmp_path, task="u")
    with pytest.raises(KeyboardInterrupt):
        publish()
    assert put == [f"{DATE}_samples_u.jsonl"]
    assert any(path.name.endswith(UNFINISHED) for path in tmp_path.iterdir())
    assert answers(tmp_path) == [(DATE, "t", {"whole"})]


# What upstream's own command leaves when it is killed


def upstreams(folder: Path, *, results: str | None = None, samples: str | None = None) -> Mapping[str, Any]:
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps({"doc_id": i}) + "\n" for i in range(5))
    (folder / f"{DATE}_results.json").write_text(
        json.dumps(results_of("t", 5)) if results is None else results
    )
    (folder / f"{DATE}_samples_t.jsonl").write_text(lines if samples is None else samples)
    return results_of("t", 5)


@pytest.mark.parametrize(
    ("results", "samples", "message"),
    [
        ("", None, "is cut off: its run was not finished"),
        ('{"results": {"t": {"sco', None, "is cut off"),
        (
            '{"results": {"t": {"alias": "t", "bypass,none": 999}}}',
            None,
            "has no scores, as its run had --predict_only",
        ),
        (None, '{"doc_id": 0}\n{"doc_id": 1}\n', "holds 2 samples where"),
        (None, '{"doc_id": 0}\n{"doc_id": 1, "resp', "ends within a line"),
        (None, '{"doc_id": 0}\n{"doc_id": 1}\n{"doc_id": 2, "a": "\xe9', "ends within a line"),
    ],
)
def test_a_run_without_scores_is_skipped_with_one_line(
    results: str | None, samples: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One killed run made `mimic report` refuse the folder for good; --predict_only was "no MIMIC task"."""
    upstreams(tmp_path / "killed", results=results, samples=samples)
    with pytest.raises(UserError, match="holds no finished run"):
        read_runs(tmp_path)
    capsys.readouterr()
    upstreams(tmp_path / "good")
    assert len(read_runs(tmp_path)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("skipped: ")
    assert message in line


@pytest.mark.parametrize(
    ("samples", "line"),
    [
        ('{"doc_id": 0}, {"doc_id": 1}\n{"doc_id": 2}\n', 1),
        ('{"doc_id": 0}\n{"doc_id": 1, "a":}\n{"doc_id": 2}\n', 2),
        ('{"doc_id": 0}\n{"doc_id": 1,\n"a": {}}\n', 2),
    ],
)
def test_a_line_that_is_no_sample_is_named(samples: str, line: int, tmp_path: Path) -> None:
    """Also where the lines together are JSON: they are parsed at once."""
    upstreams(tmp_path, samples=samples)
    with pytest.raises(UserError, match=rf"_samples_t\.jsonl, line {line}: not JSON"):
        read_runs(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """As editors on Windows write it."""
    upstreams(tmp_path / "run")
    expected = read_runs(tmp_path)
    for file in (tmp_path / "run").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_runs(tmp_path) == expected


def test_samples_of_two_runs_in_one_file_are_still_refused(tmp_path: Path) -> None:
    upstreams(tmp_path / "mixed", samples='{"doc_id": 0}\n' * 10)
    with pytest.raises(UserError, match="holds 10 samples where"):
        read_runs(tmp_path)
