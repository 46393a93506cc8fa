"""What the tests of `mimic build` share."""

from pathlib import Path

import pyarrow.parquet as pq
from coco_maker import MadeCoco

from mimic_tasks.build import BuildOptions


def options(source: MadeCoco, out: Path, **changes: object) -> BuildOptions:
    return BuildOptions(annotations=(source.annotations,), images=(source.images,), out=out, **changes)  # type: ignore[arg-type]


def docs_of(out: Path, kind: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out / kind / "test.parquet").to_pylist()
    return rows
