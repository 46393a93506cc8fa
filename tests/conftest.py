"""What several test files need: checkpoints, small COCO data, and the real commands."""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command_server import CommandServer, Running
from tests.makers import coco as coco_maker

Command = Callable[..., subprocess.CompletedProcess[str]]
BIN = Path(sys.executable).parent
SERVED = ("lmms_eval", "lmms-eval", "mimic")
SESSION = dict(os.environ)
"""The variables that the session started with. Libraries set more of them when they are imported."""
PATCHED: set[str] = set()
"""Names of the variables that tests have set or deleted with `monkeypatch`."""


def _noted(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def note(patch: pytest.MonkeyPatch, name: str, *arguments: Any, **options: Any) -> None:
        PATCHED.add(name)
        method(patch, name, *arguments, **options)

    return note


pytest.MonkeyPatch.setenv = _noted(pytest.MonkeyPatch.setenv)  # type: ignore[method-assign]
pytest.MonkeyPatch.delenv = _noted(pytest.MonkeyPatch.delenv)  # type: ignore[method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that workers that take file after file end together."""
    weights = Counter[Path]()
    for item in items:
        weights[item.path] += 50 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(scope="session")
def coco_small() -> Path:
    """160 real COCO pictures; `.ci/run` sets the variable where the folder exists."""
    path = os.environ.get("MIMIC_TEST_COCO")
    if not path:
        pytest.skip("MIMIC_TEST_COCO is not set: it names a folder with annotations/, train2017/, val2017/")
    return Path(path)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals, calibrations and outputs of outside models of this session, and none of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_CACHE", str(tmp_path_factory.mktemp("mimic_cache")))
        yield


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables that choose data, orders and seed."""
    for name in ("MIMIC_DATA", "MIMIC_ORDERS", "MIMIC_SEED"):
        monkeypatch.delenv(name, raising=False)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one worker of a run makes, for all of them; tests change copies of it only."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / "once" / name, root / "once" / f"{name}.done"
    folder.parent.mkdir(exist_ok=True)
    with (root / "once" / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision checkpoint with random weights on disk."""
    from model_adapters.tiny import make_tiny_llava_onevision

    return once(tmp_path_factory, "tiny_llava", lambda path: make_tiny_llava_onevision(path, seed=3))


@pytest.fixture(scope="session")
def made_coco(tmp_path_factory: pytest.TempPathFactory) -> coco_maker.MadeCoco:
    """A COCO-format source made for tests: 60 plain pictures, every rule's exception among them."""
    return coco_maker.make_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 small glyph scenes, as `mimic scenes` writes them."""
    from mimic_tasks.scenes import make_scenes

    def make(folder: Path) -> None:
        make_scenes(folder, n=160, seed=7, size=96, progress=False)

    return once(tmp_path_factory, "scenes", make)


class Commands:
    """Runs installed commands and captures their text: in forks of a server, or each in a new process."""

    def __init__(self, cache: Path) -> None:
        import torch

        self._own = {"HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.served = not torch.accelerator.is_available()
        """An accelerator's driver does not survive a fork."""
        self.server = CommandServer(BIN, self.environment(), imports=self.served)

    def environment(self, **variables: str | None) -> dict[str, str]:
        """A command's variables: the session's, those of this package and what tests patched, and these."""
        environment = {name: value for name, value in SESSION.items() if name in os.environ}
        for name, value in os.environ.items():
            if name in PATCHED or name.startswith("MIMIC_"):
                environment[name] = value
        environment |= self._own
        environment.pop("MIMIC_DATA", None)
        return environment | {key: value for key, value in variables.items() if value is not None}

    def forked(
        self, *arguments: object, cwd: Path | None = None, timeout: float = 300, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a console script or a Python file; in a new process where its variables ask for one."""
        environment = self.environment(**variables)
        words = [str(argument) for argument in arguments]
        if words[0] == "python" and words[1].endswith(".py"):
            words = words[1:]
        served = words[0] in SERVED or words[0].endswith(".py")
        if words[0] == "mimic":  # imports less than a server that is started for it
            served = self.server.runs
        if served and self.server.serves(environment):
            return self.server.run(words, environment, cwd, timeout)
        return self.fresh(*arguments, cwd=cwd, timeout=timeout, **variables)

    def started(self, *arguments: object, **variables: str | None) -> AbstractContextManager[Running]:
        """Start a console script in the server, to end it with a signal."""
        return self.server.running(list(map(str, arguments)), self.environment(**variables), None)

    @contextmanager
    def started_fresh(self, *arguments: object, **variables: str | None) -> Iterator[Running]:
        """The same in a process that has imported nothing."""
        server = CommandServer(BIN, self.environment(**variables), imports=False)
        try:
            with server.running(list(map(str, arguments)), self.environment(**variables), None) as process:
                yield process
        finally:
            server.close()

    def fresh(
        self, *arguments: object, cwd: Path | None = None, timeout: float = 300, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run any command in a new process."""
        program, *rest = (str(argument) for argument in arguments)
        return subprocess.run(
            [str(BIN / program), *rest], capture_output=True, text=True, env=self.environment(**variables),
            cwd=cwd, timeout=timeout,
        )  # fmt: skip


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    made = Commands(tmp_path_factory.mktemp("hf_datasets"))
    yield made
    made.server.close()


@pytest.fixture(scope="session")
def command(commands: Commands) -> Command:
    """Run an installed command as in a new process, without its imports (`command_server`)."""
    return commands.forked if commands.served else commands.fresh


@pytest.fixture(scope="session")
def fresh_command(commands: Commands) -> Command:
    """Run an installed command in a new process: ten CPU seconds for `lmms_eval`."""
    return commands.fresh


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision checkpoint with random weights and sinks planted in them."""
    from mimic_eval.cli.checkpoint import embedded_pictures
    from model_adapters.sinks.planted import make_planted_checkpoint

    def make(path: Path) -> None:
        make_planted_checkpoint("llava_onevision", path, pictures=embedded_pictures(), hidden=128, share=0.3)

    return once(tmp_path_factory, "planted_llava", make)


@pytest.fixture(scope="session")
def calibrations(planted: Path, tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A cache folder with nothing but the calibration of `planted`."""

    def make(folder: Path) -> None:
        call = ("mimic", "calibrate", "llava_ov_mask", "--pretrained", planted, "--docs", 8)
        done = command(*call, MIMIC_CACHE=str(folder))
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "calibrations", make)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint in InternVL2's original layout of each kind; 40B's weights are in one file."""
    from tests.oracles import internvl2 as reference

    def make(folder: Path) -> None:
        for kind in reference.KINDS:
            reference.make_original(folder / kind, kind, files=1 if kind == "40B" else 3)

    at = once(tmp_path_factory, "originals", make)
    return {kind: at / kind for kind in reference.KINDS}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP checkpoint with random weights."""
    from tests.makers.outside import make_clip

    return once(tmp_path_factory, "clip", make_clip)


@pytest.fixture(scope="session")
def grounding_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Grounding DINO checkpoint with random weights."""
    from tests.makers.outside import make_grounding

    return once(tmp_path_factory, "grounding", make_grounding)


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM checkpoint with random weights."""
    from tests.makers.outside import make_sam

    return once(tmp_path_factory, "sam", make_sam)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; `browsing.Visit` opens pages in it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
