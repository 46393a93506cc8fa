"""What several test files need: checkpoints, small COCO data, and the real commands."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import coco_maker
import pytest
from command_server import CommandServer

Command = Callable[..., subprocess.CompletedProcess[str]]
BIN = Path(sys.executable).parent
SERVED = ("lmms_eval", "lmms-eval", "mimic")


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision checkpoint with random weights on disk."""
    from model_adapters.tiny import make_tiny_llava_onevision

    path = tmp_path_factory.mktemp("tiny") / "llava"
    make_tiny_llava_onevision(path, seed=3)
    return path


@pytest.fixture(scope="session")
def made_coco(tmp_path_factory: pytest.TempPathFactory) -> coco_maker.MadeCoco:
    """A COCO-format source made for tests: 60 plain pictures, every rule's exception among them."""
    return coco_maker.make_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 small glyph scenes, as `mimic scenes` writes them."""
    from mimic_tasks.scenes import make_scenes

    folder = tmp_path_factory.mktemp("scenes") / "s"
    make_scenes(folder, n=160, seed=7, size=96, progress=False)
    return folder


class Commands:
    """Runs installed commands and captures their text: in forks of a server, or each in a new process."""

    def __init__(self, cache: Path) -> None:
        self._own = {"HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.server = CommandServer(BIN, self._environment({}))

    def _environment(self, variables: Mapping[str, str | None]) -> dict[str, str]:
        environment = {**os.environ, **self._own}
        environment.pop("MIMIC_DATA", None)
        return environment | {key: value for key, value in variables.items() if value is not None}

    def forked(
        self, *arguments: object, cwd: Path | None = None, timeout: float = 300, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a console script; in a new process where its variables ask for one."""
        environment = self._environment(variables)
        words = [str(argument) for argument in arguments]
        if words[0] in SERVED and self.server.serves(environment):
            return self.server.run(words, environment, cwd, timeout)
        return self.fresh(*arguments, cwd=cwd, timeout=timeout, **variables)

    def fresh(
        self, *arguments: object, cwd: Path | None = None, timeout: float = 300, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run any command in a new process."""
        program, *rest = (str(argument) for argument in arguments)
        return subprocess.run(
            [str(BIN / program), *rest], capture_output=True, text=True, env=self._environment(variables),
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
    import torch

    return commands.fresh if torch.accelerator.is_available() else commands.forked


@pytest.fixture(scope="session")
def fresh_command(commands: Commands) -> Command:
    """Run an installed command in a new process: ten CPU seconds for `lmms_eval`."""
    return commands.fresh


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision checkpoint with random weights and sinks planted in them."""
    from mimic_eval.cli.checkpoint import embedded_pictures
    from model_adapters.sinks.planted import make_planted_checkpoint

    path = tmp_path_factory.mktemp("planted") / "llava"
    make_planted_checkpoint("llava_onevision", path, pictures=embedded_pictures(), hidden=128, share=0.3)
    return path


@pytest.fixture(scope="session")
def calibrations(planted: Path, tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A cache folder with nothing but the calibration of `planted`."""
    folder = tmp_path_factory.mktemp("calibrated") / "cache"
    done = command(
        "mimic", "calibrate", "llava_ov_mask", "--pretrained", planted, "--docs", 8, MIMIC_CACHE=str(folder)
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint in InternVL2's original layout of each kind; 40B's weights are in one file."""
    import internvl2_reference as reference

    at = tmp_path_factory.mktemp("original")
    for kind in reference.KINDS:
        reference.make_original(at / kind, kind, files=1 if kind == "40B" else 3)
    return {kind: at / kind for kind in reference.KINDS}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP checkpoint with random weights."""
    from outside_maker import make_clip

    folder = tmp_path_factory.mktemp("outside") / "clip"
    make_clip(folder)
    return folder


@pytest.fixture(scope="session")
def grounding_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Grounding DINO checkpoint with random weights."""
    from outside_maker import make_grounding

    folder = tmp_path_factory.mktemp("outside") / "grounding"
    make_grounding(folder)
    return folder
