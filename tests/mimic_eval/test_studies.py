"""Every packaged study runs, at its smallest size: two docs of each task, two values of what varies."""

import copy
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mimic_eval.cli.commands import app
from mimic_eval.cli.reproducing.plan import _used_by
from mimic_eval.records import UserError
from mimic_eval.studies import BASE, Entry, Study, load_results, make_cells, packaged, read_study
from model_adapters.relevance import sam
from tests.conftest import once
from tests.makers.benchmarks import write_sets

pytestmark = pytest.mark.slow
ELSEWHERE = {
    "ar:table2": "vqav2_val",
    "mimic:table4_official": "mimic_official_common",
}
"""Studies of data that tests cannot have, and the first of their tasks."""

ARGUMENTS = "tau=8,allow_no_sinks=true,dtype=float32"


def smallest(name: str, folder: Path) -> Path:
    """A packaged study's file with two values at most of each argument that varies."""
    source = copy.deepcopy(dict(read_study(name).source))
    for part in (source, *source["settings"]):
        for key, values in (part.get("vary") or {}).items():
            part["vary"][key] = values[:: max(len(values) - 1, 1)]
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(source, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small sets in the forms of the public benchmarks."""
    return once(tmp_path_factory, "benchmark_sets", lambda folder: write_sets(folder))


@pytest.fixture(scope="module")
def cache(calibrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all studies: they share the calibration of `planted`, relevance and answers."""
    return Path(shutil.copytree(calibrations, tmp_path_factory.mktemp("studies") / "cache"))


@pytest.mark.parametrize("name", packaged())
def test_a_packaged_study_runs(
    name: str,
    planted: Path,
    clip_folder: Path,
    grounding_folder: Path,
    sam_folder: Path,
    scenes: Path,
    sets: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(cache))
    monkeypatch.setenv("MIMIC_DATASETS", str(sets))
    monkeypatch.setattr(sam, "_POINTS_A_SIDE", 4)  # test_relevance_sam.py has SAM's full grid
    study = read_study(name)
    words = ["reproduce", str(smallest(name, tmp_path)), "--out", str(tmp_path / "out"), "--docs", "2"]
    words += ["--pretrained", str(planted), "--batch-size", "4", "--allow-fewer"]
    if study.data is not None or name == "sofa:pqa":  # the embedded folder has no mimic_pqa
        words += ["--annotations", str(scenes / "annotations" / "instances_scenes.json")]
        words += ["--images", str(scenes / "images")]
    arguments = f"{ARGUMENTS},grounding={grounding_folder},clip={clip_folder},sam={sam_folder}"
    used = [one for one in arguments.split(",") if _is_used(one, study)]
    done = CliRunner().invoke(app, [*words, "--model-args", ",".join(used)])
    if name in ELSEWHERE:
        assert isinstance(done.exception, UserError | SystemExit), done.output
        return
    assert done.exit_code == 0, (done.exception, done.output)
    result = load_results(tmp_path / "out")
    assert result.missing == ()
    assert {cell.setting for cell in result.cells} == {
        setting.name for setting in study.settings if setting.entry is None
    }
    for cell in result.cells:
        assert cell.cost.docs > 0, cell.name
    assert (tmp_path / "out" / "index.html").is_file()


def _is_used(argument: str, study: Study) -> bool:
    """Whether any cell of a study takes an argument that its settings leave open."""
    cells = make_cells(study, [Entry(BASE, "llava_ov_mask", {})])
    key = argument.partition("=")[0]
    said = {name for one in study.settings for name in (*one.model_args, *one.vary)}
    return key not in said and any(key in _used_by(cell) for cell in cells)
