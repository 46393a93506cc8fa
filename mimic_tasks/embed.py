"""`mimic build --embed`: a sweep's folder in the official form, its pictures inside the parquet files."""

import hashlib
import os
import shutil
from pathlib import Path

from mimic_eval.records import DOC_COLUMNS, UserError
from mimic_tasks import folder
from mimic_tasks.build import check_place
from mimic_tasks.originals import FILE as ORIGINALS
from mimic_tasks.stored_docs import names_pictures, read_docs, task_files
from mimic_tasks.workspace import workspace


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
    check_place(out)
    counts: dict[str, int] = {}
    arguments = {"embed": str(source.resolve())}
    with workspace(out, arguments) as partial:
        if partial is None:
            return dict.fromkeys(naming, 0)
        for name, file in naming.items():
            pictures = folder.Pictures()
            rows = []
            for doc in read_docs(file, ("image_files", *DOC_COLUMNS)):
                digests = []
                for path, image in zip(doc["image_files"], doc["images"], strict=True):
                    digest = hashlib.sha256(image["bytes"] or b"").hexdigest()
                    if digest != Path(path).stem:
                        raise UserError(f"{source / path} is missing, or not the picture that its name says")
                    pictures.keep(digest, image["bytes"], Path(path).name)
                    digests.append(digest)
                rows.append({**doc, "_pictures": digests})
            folder.write_parquet(partial / folder.parquet_path(name), rows, pictures)
            counts[name] = len(rows)
            yaml = (source / f"mimic_{name}.yaml").read_text(encoding="utf-8")
            own = yaml.replace(f"!function {folder.HOOKS}.", "!function mimic_tasks.lmms_hooks.")
            (partial / f"mimic_{name}.yaml").write_text(own, encoding="utf-8")
            report = file.with_name("balance.json")
            if report.is_file():
                shutil.copy(report, partial / name / report.name)
        for extra in ("mimic.yaml", "README.md", "manifest.json", ORIGINALS):
            if (source / extra).is_file():
                shutil.copy(source / extra, partial / extra)
    return counts
