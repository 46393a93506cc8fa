"""A tuning that several test files read."""

from pathlib import Path

import pytest

from mimic_tasks.build import BuildOptions, build
from tests.conftest import once
from tests.makers.tunings import call, run


@pytest.fixture(scope="session")
def tuning_build(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight docs of each task from 160 scenes, which share no picture with the embedded ones."""

    def make(folder: Path) -> None:
        annotations = scenes / "annotations" / "instances_scenes.json"
        build(BuildOptions(annotations=(annotations,), images=(scenes / "images",), out=folder, docs=8))

    return once(tmp_path_factory, "tuning_build", make)


@pytest.fixture(scope="session")
def tuned(tuning_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the packaged model, chosen on 12 docs."""
    out = tmp_path_factory.mktemp("tuned") / "dial.json"
    result = run(*call(tuning_build, out))
    assert result.exit_code == 0, result.output
    assert f"Wrote {out}: add tuned={out} to --model_args" in result.output
    return out
