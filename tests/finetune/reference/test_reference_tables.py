"""The reference checkpoints' tables in the docs are what their script makes of the results named there."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_tables", ROOT / "benchmarks/reference_tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_tables_are_those_of_its_results(script: ModuleType) -> None:
    results = ROOT / script.RESULTS
    for other in script.PAGES[1:]:
        assert script.rewritten((ROOT / other).read_text(), results) == (ROOT / other).read_text()
    page = (ROOT / script.PAGES[0]).read_text()
    assert script.rewritten(page, results) == page
    common = json.loads((results / "2026-11-29-reference.json").read_text())["checkpoints"][
        "llava_ov_mask:llava_onevision"
    ]["plain"]["common"]["n_images=2"]
    (row, *_) = [line for line in page.splitlines() if line.startswith("| ... N = 2 |")]
    assert row.split("|")[2].strip() == f"{common['accuracy']:.3f}"
    assert script.rewritten(page.replace(row, "| ... N = 2 | 1.000 |", 1), results) == page


def test_a_page_without_a_table_is_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no table"):
        script.rewritten("no table", tmp_path)
