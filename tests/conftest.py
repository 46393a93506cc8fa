"""What several test files need: checkpoints, small COCO data, and the real commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import coco_maker
import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def coco_small() -> Path:
    """160 real COCO pictures; `.ci/run` sets the variable where the folder exists."""
    path = os.environ.get("MIMIC_TEST_COCO")
    if not path:
        pytest.skip("MIMIC_TEST_COCO is not set: it names a folder with annotations/, train2017/, val2017/")
    return Path(path)


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


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run an installed command in a fresh process; its output is text."""
    cache = tmp_path_factory.mktemp("hf_datasets")

    def run(
        *arguments: object, cwd: Path | None = None, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
        environment.pop("MIMIC_DATA", None)
        environment.update({key: value for key, value in variables.items() if value is not None})
        program, *rest = (str(argument) for argument in arguments)
        return subprocess.run(
            [str(BIN / program), *rest], capture_output=True, text=True, env=environment, cwd=cwd, timeout=300
        )

    return run
