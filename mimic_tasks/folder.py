"""Writing a task folder: parquet, task YAMLs and dataset card (METHODS 13)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic_eval.records import DOC_COLUMNS, UserError, groups_of
from mimic_eval.records.reading import read_yaml
from mimic_tasks.lmms_hooks import Function, generation_kwargs, task_config

_DICTIONARY_PAGE_BYTES = 1 << 30


HOOKS = "mimic_hooks"
_HOOKS_CODE = """\
\"\"\"What lmms-eval calls for this folder's tasks, whose docs name pictures that lie below it.\"\"\"

from pathlib import Path

from mimic_tasks.lmms_hooks import hooks_of

doc_to_visual, doc_to_messages = hooks_of(Path(__file__).parent)
"""


def parquet_path(name: str) -> str:
    """Where a task's docs lie below the build folder."""
    return f"{name}/test.parquet"


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """``manifest.json``: all arguments, inputs and results."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@dataclass
class Pictures:
    """Pictures by the SHA-256 of their bytes: (bytes, file name)."""

    by_digest: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def keep(self, digest: str, data: bytes, name: str) -> None:
        """Enter one."""
        self.by_digest[digest] = (data, name)


def write_parquet(path: Path, docs: Sequence[Mapping[str, Any]], pictures: Pictures) -> None:
    """Write docs with their images; each distinct image is stored once.

    One row group, and the image bytes dictionary-encoded, so that a picture that ten docs show costs its
    bytes once. `datasets` reads the column as a list of images.

    Args:
        path: the parquet file.
        docs: all columns of `DOC_COLUMNS` but `images`, and `_pictures`: digests of `pictures`.
        pictures: by digest.
    """
    import datasets
    import pyarrow as pa

    used = [digest for doc in docs for digest in doc["_pictures"]]
    code = {digest: i for i, digest in enumerate(dict.fromkeys(used))}
    data = pa.DictionaryArray.from_arrays(
        pa.array([code[digest] for digest in used], pa.int32()),
        pa.array([pictures.by_digest[digest][0] for digest in code], pa.binary()),
    )
    names = [pictures.by_digest[digest][1] for digest in used]
    struct = pa.StructArray.from_arrays([data, pa.array(names, pa.string())], names=["bytes", "path"])
    offsets = [0]
    for doc in docs:
        offsets.append(offsets[-1] + len(doc["_pictures"]))
    types = _column_types(docs)
    features = datasets.Features.from_arrow_schema(pa.schema(list(types.items())))
    features = datasets.Features({"images": datasets.List(datasets.Image()), **features})
    images = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct)
    _write(path, pa.table({"images": images, **_columns(docs, types)}), features)


def write_file_parquet(path: Path, docs: Sequence[Mapping[str, Any]]) -> None:
    """Write docs that name their pictures: `image_files`, paths relative to the build, instead of `images`.

    Args:
        path: the parquet file.
        docs: all columns of `DOC_COLUMNS` but `images`, and `image_files`.
    """
    import datasets
    import pyarrow as pa

    types = {"image_files": pa.list_(pa.string()), **_column_types(docs)}
    features = datasets.Features.from_arrow_schema(pa.schema(list(types.items())))
    _write(path, pa.table(_columns(docs, types)), features)


def _columns(docs: Sequence[Mapping[str, Any]], types: Mapping[str, Any]) -> dict[str, Any]:
    import pyarrow as pa

    return {name: pa.array([doc[name] for doc in docs], kind) for name, kind in types.items()}


def _write(path: Path, table: Any, features: Any) -> None:
    """One row group, and the columns' types for `datasets` beside it."""
    import pyarrow.parquet as pq

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


def _column_types(docs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arrow type of each column but `images`, in file order."""
    import pyarrow as pa

    integer_ids = all(isinstance(i, int) for doc in docs for i in doc["image_ids"])
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


def write_task_yaml(
    folder: Path,
    name: str,
    kind: str,
    *,
    k: int,
    images: int,
    metadata: Mapping[str, Any],
    files: bool = False,
) -> None:
    """The lmms-eval task `mimic_<name>` and what it reads.

    Args:
        folder: where to.
        name: the task's name without ``mimic_``, also its docs' folder.
        kind: its kind.
        k: the most classes that a question names.
        images: the most images of a doc.
        metadata: recorded in the results of every run of the task.
        files: its docs name their pictures (`write_file_parquet`).
    """
    hooks = {key: Function(f"{HOOKS}.{key}") for key in ("doc_to_visual", "doc_to_messages")} if files else {}
    config = (
        task_config(kind, k=k)
        | hooks
        | {
            "task": f"mimic_{name}",
            "dataset_path": "parquet",
            "dataset_kwargs": {"data_files": {"test": parquet_path(name)}},
            "generation_kwargs": generation_kwargs(kind, k, images),
            "metadata": {"version": 1.0, **metadata},
        }
    )
    (folder / f"mimic_{name}.yaml").write_text(dump_yaml(config), encoding="utf-8")
    if files:
        (folder / f"{HOOKS}.py").write_text(_HOOKS_CODE, encoding="utf-8")


def write_group_yamls(folder: Path, names: Sequence[str]) -> None:
    """The groups of the tasks that the folder has."""
    for group, tasks in groups_of(names).items():
        config = {"group": group, "task": list(tasks)}
        (folder / f"{group}.yaml").write_text(dump_yaml(config), encoding="utf-8")


def dump_yaml(config: Mapping[str, Any]) -> str:
    """YAML in which a `Function` is upstream's function tag and every other text is a quoted text."""
    import yaml

    dumper: Any = type("Dumper", (yaml.SafeDumper,), {})
    dumper.add_representer(Function, lambda self, name: self.represent_scalar("!function", str(name)))
    text: str = yaml.dump(dict(config), Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000)
    return re.sub(r"!function '([\w.]+)'", r"!function \1", text)


def read_task_yaml(file: Path) -> dict[str, Any]:
    """A task file with its functions by name.

    Raises:
        UserError: it cannot be read, is no YAML, or is no mapping.
    """
    import yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda self, node: Function(self.construct_scalar(node)))
    config = read_yaml(file, loader=loader)
    if not isinstance(config, dict):
        raise UserError(f"{file}: is no task file: it must map keys to values")
    return config


def write_card(
    folder: Path,
    *,
    label: str,
    counts: Mapping[str, int],
    seed: int,
    command: str = "build",
    manifests: Sequence[str] = ("manifest.json",),
) -> None:
    """README.md: a dataset card, so that ``datasets.load_dataset(folder, "counting")`` works."""
    groups = groups_of(list(counts))
    tasks = ",".join(groups) if len(set(groups.values())) > 1 else "mimic"
    files = " and ".join(f"`{name}`" for name in manifests)
    hold = "holds" if len(manifests) == 1 else "hold"
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {parquet_path(name)}\n"
        for name in counts
    )
    rows = "".join(f"| mimic_{name} | {n} |\n" for name, n in counts.items())
    (folder / "README.md").write_text(
        f"---\nconfigs:\n{configs}---\n\n# MIMIC tasks built from {label}\n\n"
        f"Built by `mimic {command}` with seed {seed}; {files} {hold} every argument. "
        "The pictures keep the licences of their source.\n\n"
        f"| task | docs |\n|---|---|\n{rows}\n"
        f"Run them: `MIMIC_DATA=<this folder> lmms_eval --tasks {tasks} --model llava_ov_mask`\n\n"
        f'Read them: `datasets.load_dataset("<this folder>", "{next(iter(counts))}", split="test")`, which '
        "needs `datasets` 4 or newer (3.x stops with `Feature type 'List' not found`).\n",
        encoding="utf-8",
    )
