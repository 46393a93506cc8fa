"""The docs that a value is chosen on, and the pictures that they show."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import DOC_COLUMNS, Unscorable, UserError, rgb_digest

_LISTED = 3


@dataclass(frozen=True)
class DrawnDocs:
    """Docs of a task folder.

    Attributes:
        folder: of the tasks.
        source: its name for people.
        seed: of the draw.
        docs: of each task (``counting``), by their number in it.
        generation: the settings of each task.
        pictures: `rgb_digest` of each picture that they show, or were made from, and where it is.
        left_out: one line for each doc that cannot be shown.
    """

    folder: Path
    source: str
    seed: int
    docs: Mapping[str, Mapping[int, Mapping[str, Any]]]
    generation: Mapping[str, Mapping[str, Any]]
    pictures: Mapping[str, str]
    left_out: tuple[str, ...]


def draw_docs(data: Path | None, *, names: Sequence[str] | None, docs: int, seed: int) -> DrawnDocs:
    """Draw docs of each task of a folder, the same for the same seed.

    Args:
        data: the folder; None for the one that runs use.
        names: of the tasks, with or without ``mimic_``; None for all but the order suite.
        docs: of each task.
        seed: of the draw.

    Raises:
        UserError: no such folder or task, or none of its docs can be shown.
    """
    from mimic_tasks.folder import read_task_yaml
    from mimic_tasks.locate import task_folder
    from mimic_tasks.originals import read_originals
    from mimic_tasks.stored_docs import chosen_files, count_docs, usual_files

    if data is None:
        located = task_folder()
        folder, source = located.path, "embedded" if located.label == "embedded" else str(located.path)
    else:
        folder, source = data, str(data)
    files = chosen_files(folder, None if names is None else [name.removeprefix("mimic_") for name in names])
    files = usual_files(files) if names is None else files
    drawn: dict[str, dict[int, dict[str, Any]]] = {}
    generation: dict[str, dict[str, Any]] = {}
    pictures = {digest.hex(): f"{name} (before a change)" for digest, name in read_originals(folder)}
    left_out: list[str] = []
    for name, file in files.items():
        total = count_docs(file)
        if not total:
            raise UserError(f"{file} holds no docs: make some with: mimic build --out FOLDER")
        if docs > total:
            left_out.append(f"mimic_{name} has {total} docs: all of them are used")
        numbers = set(random.Random(f"{seed} {name}").sample(range(total), min(docs, total)))
        drawn[name] = _read(file, name, numbers, pictures, left_out)
        config = read_task_yaml(folder / f"mimic_{name}.yaml")
        generation[name] = {**(config.get("generation_kwargs") or {}), "until": []}
    return DrawnDocs(folder, source, seed, drawn, generation, pictures, tuple(left_out))


def _read(
    file: Path, name: str, numbers: set[int], pictures: dict[str, str], left_out: list[str]
) -> dict[int, dict[str, Any]]:
    """The docs with these numbers; their pictures and what is wrong are entered.

    Raises:
        UserError: none of them can be shown.
    """
    from mimic_tasks.lmms_hooks import doc_to_visual
    from mimic_tasks.stored_docs import names_pictures, read_docs, stored_columns

    columns = [column for column in DOC_COLUMNS if column in stored_columns(file)]
    columns += ["images"] if names_pictures(file) else []
    shown: dict[int, dict[str, Any]] = {}
    for number, doc in enumerate(read_docs(file, columns)):
        if number not in numbers:
            continue
        try:
            decoded = doc_to_visual(doc)
        except Unscorable as reason:
            left_out.append(f"mimic_{name} doc {number} is left out: {reason}")
            continue
        shown[number] = doc
        for place, picture in enumerate(decoded, start=1):
            pictures.setdefault(rgb_digest(picture), f"mimic_{name} doc {number}, image {place}")
    if not shown:
        raise UserError(f"{file}: none of the {len(numbers)} sampled docs has pictures that can be decoded")
    return shown


def check_evaluation(drawn: DrawnDocs, evaluation: Path) -> None:
    """Refuse docs that share a picture with the folder that is evaluated later.

    Args:
        drawn: for the tuning.
        evaluation: a task folder or a folder of pictures, as for `find_overlap`.

    Raises:
        UserError: they share pictures: how many, and which are the first; or no such folder.
    """
    from mimic_tasks.overlap import read_pictures

    others = {
        content.hex(): name for content, name in read_pictures(evaluation, {}, progress=True).names.items()
    }
    shared = [f"{where} = {others[digest]}" for digest, where in drawn.pictures.items() if digest in others]
    if shared:
        more = f"; and {len(shared) - _LISTED} more" if len(shared) > _LISTED else ""
        first = "; ".join(shared[:_LISTED])
        raise UserError(
            f"--evaluation {evaluation} shares {len(shared)} of the {len(drawn.pictures)} pictures of the "
            f"tuning ({first}{more}): take docs of other pictures (mimic check-overlap lists them)"
        )
