"""Ctrl-C in the middle of each long command: two lines, exit code 130, and nothing half-written."""

import os
import signal
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.cli.stopping import WORDS, run_until_stopped
from mimic_eval.records import announce_cached
from mimic_eval.records.run import _cached
from tests.makers.coco import MadeCoco
from tests.makers.conversations import make_conversations
from tests.makers.runs import binary, write_run

NOTHING = ["interrupted: nothing was written", "run the same command to start again"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signals' handlers of the test session, which a command replaces."""
    before = {number: signal.getsignal(number) for number in WORDS}
    announce_cached(lambda: "")
    _cached.clear()
    yield
    _cached.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., list[str]]:
    """Run `mimic`, with a signal as it calls a function for the n-th time; its lines on stderr."""
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))

    def run(where: str, *arguments: object, call: int = 2, number: int = signal.SIGINT) -> list[str]:
        module, _, name = where.rpartition(".")
        module, _, of_class = module.partition(":")
        owner: Any = import_module(module)
        owner = getattr(owner, of_class) if of_class else owner
        original, calls = getattr(owner, name), [0]

        def counted(*given: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), number)
            return original(*given, **options)

        monkeypatch.setattr(owner, name, counted)
        monkeypatch.setattr("sys.argv", ["mimic", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run_until_stopped("commands")
        said = capsys.readouterr().err
        assert calls[0] >= call, said
        assert end.value.code == 128 + number, said
        assert "Traceback" not in said
        return said.splitlines()

    return run


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (("build",), "mimic_tasks.image_store.read_checked"),
        (("build", "--allow-fewer"), "mimic_tasks.folder.write_card"),
        (("sweep", "counting_spread", "--allow-fewer"), "mimic_tasks.image_store.read_checked"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_no_folder(
    command: tuple[str, ...],
    where: str,
    number: int,
    scenes: Path,
    tmp_path: Path,
    stopped: Callable[..., list[str]],
) -> None:
    sources = ("--annotations", scenes / "annotations/instances_scenes.json", "--images", scenes / "images")
    out, call = tmp_path / "out", 1 if where.endswith("card") else 2
    said = stopped(where, *command, *sources, "--docs", 3, "--out", out, call=call, number=number)
    assert said[-2:] == [line.replace("interrupted", WORDS[signal.Signals(number)]) for line in NOTHING]
    assert not out.exists()


def test_interrupted_scenes_leave_no_folder(tmp_path: Path, stopped: Callable[..., list[str]]) -> None:
    where = "mimic_tasks.scenes.writing._annotation"
    assert stopped(where, "scenes", "--n", 4, "--size", 96, "--out", tmp_path / "out")[-2:] == NOTHING
    assert not (tmp_path / "out").exists()


def test_interrupted_export_is_resumed(
    made_coco: MadeCoco, tmp_path: Path, stopped: Callable[..., list[str]]
) -> None:
    sources = ("--annotations", made_coco.annotations, "--images", made_coco.images, "--allow-fewer")
    said = stopped(
        "mimic_tasks.training.pictures.read_checked",
        *("export-training", *sources, "--docs", 3, "--out", tmp_path / "out"),
    )
    assert said[-2:] == [
        "interrupted: pictures that were checked are noted in --out",
        "run the same command to resume",
    ]


def test_interrupted_calibration_leaves_none(
    tiny: Path, tmp_path: Path, stopped: Callable[..., list[str]]
) -> None:
    call = ("calibrate", "llava_ov_mask", "--pretrained", tiny, "--docs", 2)
    assert stopped("model_adapters.sinks.statistics.visit_inputs", *call)[-2:] == [
        "interrupted: no calibration was written",
        "run the same command to start again",
    ]
    assert not (tmp_path / "cache" / "calibrations").exists()


def test_interrupted_diagnosis_goes_on(tiny: Path, tmp_path: Path, stopped: Callable[..., list[str]]) -> None:
    call = ("diagnose", "--model", "llava_ov_mask", "--model_args", f"pretrained={tiny},mask=none")
    more = ("--tasks", "mimic_common", "--docs", 3, "--out", tmp_path / "out")
    assert stopped("model_adapters.diagnostics.store.write_doc", *call, *more)[-2:] == [
        f"interrupted: 1 of 3 docs are stored in {tmp_path / 'out'}",
        "the same command goes on",
    ]


def test_interrupted_tuning_keeps_its_answers(
    tiny: Path, tmp_path: Path, stopped: Callable[..., list[str]]
) -> None:
    call = ("tune", "sofa", "--tasks", "common", "--docs", 3, "--model-args", f"pretrained={tiny},layers=all")
    first, second = stopped("model_adapters.journal._append", *call, "--out", tmp_path / "t.json", call=3)[
        -2:
    ]
    assert first.startswith("interrupted: 2 answers are saved in ")
    assert second == "run the same command to resume"
    assert not (tmp_path / "t.json").exists()


def test_interrupted_finetuning_says_what_it_resumes_from(
    tiny: Path, tmp_path: Path, stopped: Callable[..., list[str]]
) -> None:
    """And its first lines are the warnings of `mimic check-overlap`."""
    data, out = make_conversations(tmp_path / "data"), tmp_path / "out"
    data = data.rename(data.with_name("nlvr2.json"))
    call = ("finetune", "--pretrained", tiny, "--data", data, "--out", out, "--steps", 3, "--batch", 1)
    call += ("--rank", 2, "--alpha", 4, "--save-every", 1)
    said = stopped("finetune.trainer:EngineTrainer._learn", *call, call=2)
    assert said[-2:] == [
        "interrupted: the checkpoint of step 1 is stored",
        "run the same command to resume from it",
    ]
    (warning,) = [line for line in said if line.startswith("warning: ")]
    assert "NLVR2" in warning


def test_interrupted_site_leaves_no_folder(tmp_path: Path, stopped: Callable[..., list[str]]) -> None:
    write_run(
        tmp_path / "run",
        {"mimic_common": [binary(number, True) for number in range(4)]},
        {"mask": "none"},
        metrics=("exact_match",),
    )
    call = ("leaderboard", "build", tmp_path / "run", "--out", tmp_path / "site")
    assert stopped("leaderboard.site.build._build_board", *call, call=1)[-2:] == NOTHING
    assert not (tmp_path / "site").exists()
