"""What the tests of `mimic build` share."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mimic_tasks.build import BuildOptions
from tests.makers.coco import MadeCoco


def options(source: MadeCoco, out: Path, **changes: object) -> BuildOptions:
    return BuildOptions(annotations=(source.annotations,), images=(source.images,), out=out, **changes)  # type: ignore[arg-type]


def docs_of(out: Path, kind: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out / kind / "test.parquet").to_pylist()
    return rows


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `mimic` writes before it exits with 2; its arguments are in `sys.argv`."""
    from mimic_eval import cli

    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    return line
