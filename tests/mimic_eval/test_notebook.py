"""The notebooks of the documentation run, and hold what their cells print."""

import re
from pathlib import Path

import pytest

from tests import notebook

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs").glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_holds(path: Path) -> None:
    """Fractions may differ by what rounding does to them on another machine."""
    printed, stored = notebook.run(path), notebook.stored(path)
    assert any(stored)
    for got, want in zip(printed, stored, strict=True):
        assert NUMBER.sub("x", got) == NUMBER.sub("x", want)
        numbers = ([float(x) for x in NUMBER.findall(text)] for text in (got, want))
        assert next(numbers) == pytest.approx(next(numbers), abs=0.03)
