"""`mimic build --embed`: a sweep's folder in the official form, its pictures inside the parquet files."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from mimic_eval.records import DOC_COLUMNS, UserError
from mimic_eval.records.folders import workspace
from mimic_tasks import folder
from mimic_tasks.build import check_out
from mimic_tasks.originals import FILE as ORIGINALS
from mimic_tasks.stored_docs import count_docs, names_pictures, read_docs, task_files


def embed(source: Path, out: Path) -> dict[str, int]:
    """Write a task folder whose docs hold their pictures' bytes; returns each task's number of docs.

    Args:
        source: a folder whose docs name their pictures (`mimic sweep`).
        out: the folder to write.

    Raises:
        UserError: no such folder, one whose docs hold their pictures already, or a picture that is missing
            or not what its name says.
    """
    out = Path(os.path.abspath(out))
    files = task_files(source)
    naming = {name: file for name, file in files.items() if names_pictures(file)}
    if not naming:
        raise UserError(f"{source}: has no docs that name their pictures, as `mimic sweep` writes them")
    check_out(out)
    counts: dict[str, int] = {}
    arguments = {"embed": str(source.resolve())}

    def made(out: Path) -> dict[str, str] | None:
        return arguments if _holds(out, naming) else None

    with workspace(out, arguments, made=made) as partial:
        if partial is None:
            return {name: count_docs(file) for name, file in naming.items()}
        for name, file in naming.items():
            pictures = folder.Pictures()
            rows = []
            for doc in read_docs(file, ("image_files", *DOC_COLUMNS)):
                digests = [Path(name).stem for name in doc["image_files"]]
                for digest, file_name, image in zip(digests, doc["image_files"], doc["images"], strict=True):
                    if image["bytes"] is None:
                        raise UserError(f"{source / file_name} is missing: build the sweep again")
                    pictures.keep(digest, image["bytes"], Path(file_name).name)
                rows.append({**doc, "_pictures": digests})
            folder.write_parquet(partial / folder.parquet_path(name), rows, pictures)
            counts[name] = len(rows)
            yaml = (source / f"mimic_{name}.yaml").read_text(encoding="utf-8")
            plain = yaml.replace(f"!function {folder.HOOKS}.", "!function mimic_tasks.lmms_hooks.")
            (partial / f"mimic_{name}.yaml").write_text(plain, encoding="utf-8")
            report = file.with_name("balance.json")
            if report.is_file():
                shutil.copy(report, partial / name / report.name)
        for extra in ("mimic.yaml", "mimic_order.yaml", "README.md", "manifest.json", ORIGINALS):
            if (source / extra).is_file():
                shutil.copy(source / extra, partial / extra)
    return counts


def _holds(out: Path, naming: Mapping[str, Path]) -> bool:
    """Whether a folder has the docs of these files, and their pictures in them."""
    try:
        files = task_files(out)
        return files.keys() == naming.keys() and all(
            not names_pictures(file)
            and (out / f"mimic_{name}.yaml").is_file()
            and _hashes(file) == _hashes(naming[name])
            for name, file in files.items()
        )
    except UserError:
        return False


def _hashes(file: Path) -> list[str]:
    return [doc["content_hash"] for doc in read_docs(file, ("content_hash",))]
