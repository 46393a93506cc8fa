"""Writing a task folder: parquet, task YAMLs and dataset card (METHODS 13)."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import DOC_COLUMNS, TASK_KINDS
from mimic_tasks.images import StoredImage
from mimic_tasks.lmms_hooks import Function, task_config
from mimic_tasks.prompts import max_new_tokens

_DICTIONARY_PAGE_BYTES = 1 << 30


def parquet_path(kind: str) -> str:
    """Where a task's docs lie below the build folder."""
    return f"{kind}/test.parquet"


def write_parquet(
    path: Path, docs: Sequence[Mapping[str, Any]], images: Mapping[int, StoredImage], names: Mapping[int, str]
) -> None:
    """Write docs with their images; each distinct image is stored once.

    One row group, and the image bytes dictionary-encoded, so that a picture that ten docs show costs its
    bytes once. `datasets` reads the column as a list of images.

    Args:
        path: the parquet file.
        docs: all columns of `DOC_COLUMNS` but `images`, and `_images`: positions in `images`.
        images: the pictures by position.
        names: their file names by position.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    positions = [i for doc in docs for i in doc["_images"]]
    distinct = sorted(set(positions))
    code = {image: i for i, image in enumerate(distinct)}
    data = pa.DictionaryArray.from_arrays(
        pa.array([code[i] for i in positions], pa.int32()),
        pa.array([images[i].data for i in distinct], pa.binary()),
    )
    struct = pa.StructArray.from_arrays(
        [data, pa.array([names[i] for i in positions], pa.string())], names=["bytes", "path"]
    )
    offsets = [0]
    for doc in docs:
        offsets.append(offsets[-1] + len(doc["_images"]))
    types = _column_types(integer_ids=all(isinstance(i, int) for doc in docs for i in doc["image_ids"]))
    columns = {"images": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct)}
    for name in DOC_COLUMNS[1:]:
        columns[name] = pa.array([doc[name] for doc in docs], types[name])
    table = pa.table(columns)
    features = datasets.Features.from_arrow_schema(pa.schema(list(types.items())))
    features = datasets.Features({"images": datasets.List(datasets.Image()), **features})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        path,
        table.schema,
        compression="zstd",
        store_schema=False,
        dictionary_pagesize_limit=_DICTIONARY_PAGE_BYTES,
    ) as writer:
        writer.write_table(table, row_group_size=len(table))
        writer.add_key_value_metadata({"huggingface": json.dumps({"info": {"features": features.to_dict()}})})


def _column_types(*, integer_ids: bool) -> dict[str, Any]:
    """The arrow type of each column but `images`, in file order."""
    import pyarrow as pa

    box = pa.struct(
        [
            ("class", pa.string()),
            *((name, pa.float64()) for name in ("x", "y", "width", "height")),
            *((name, pa.bool_()) for name in ("target", "small", "crowd")),
        ]
    )
    types = {
        "idx": pa.int64(),
        "targets": pa.list_(pa.string()),
        "image_ids": pa.list_(pa.int64() if integer_ids else pa.string()),
        "boxes": pa.list_(pa.list_(box)),
        **dict.fromkeys(("n_images", "k", "spread", "distractors"), pa.int64()),
    }
    return {name: types.get(name, pa.string()) for name in DOC_COLUMNS[1:]}


def write_task_yaml(folder: Path, kind: str, *, k: int, label: str, n: int) -> None:
    """The lmms-eval task `mimic_<kind>` and what it reads."""
    config = task_config(kind, k=k) | {
        "task": f"mimic_{kind}",
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": parquet_path(kind)}},
        "generation_kwargs": {
            "max_new_tokens": max_new_tokens(kind, k),
            "do_sample": False,
            "temperature": 0,
        },
        "metadata": {"version": 1.0, "label": label, "docs": n},
    }
    (folder / f"mimic_{kind}.yaml").write_text(dump_yaml(config), encoding="utf-8")


def write_group_yaml(folder: Path, kinds: Sequence[str]) -> None:
    """The group `mimic` of the tasks that the folder has."""
    config = {"group": "mimic", "task": [f"mimic_{kind}" for kind in kinds]}
    (folder / "mimic.yaml").write_text(dump_yaml(config), encoding="utf-8")


def dump_yaml(config: Mapping[str, Any]) -> str:
    """YAML in which a `Function` is upstream's function tag and every other text is a quoted text."""
    import yaml

    dumper: Any = type("Dumper", (yaml.SafeDumper,), {})
    dumper.add_representer(Function, lambda self, name: self.represent_scalar("!function", str(name)))
    text: str = yaml.dump(dict(config), Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000)
    return re.sub(r"!function '([\w.]+)'", r"!function \1", text)


def write_card(folder: Path, *, label: str, counts: Mapping[str, int], seed: int) -> None:
    """README.md: a dataset card, so that ``datasets.load_dataset(folder, "counting")`` works."""
    configs = "".join(
        f"- config_name: {kind}\n  data_files:\n  - split: test\n    path: {parquet_path(kind)}\n"
        for kind in TASK_KINDS
        if kind in counts
    )
    rows = "".join(f"| mimic_{kind} | {n} |\n" for kind, n in counts.items())
    (folder / "README.md").write_text(
        f"---\nconfigs:\n{configs}---\n\n# MIMIC tasks built from {label}\n\n"
        f"Built by `mimic build` with seed {seed}; `manifest.json` holds every argument. "
        "The pictures keep the licences of their source.\n\n"
        f"| task | docs |\n|---|---|\n{rows}\n"
        "Run them: `MIMIC_DATA=<this folder> lmms_eval --tasks mimic --model llava_ov_mask`\n",
        encoding="utf-8",
    )
