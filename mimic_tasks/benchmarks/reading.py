"""The docs of a set: from a local copy below `MIMIC_DATASETS`, else from the Hub."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.hub import out_of_reach
from mimic_tasks.benchmarks.spec import Benchmark, Question, Row

VARIABLE = "MIMIC_DATASETS"


def how_to_get(benchmark: Benchmark, folder: str = "DIR") -> str:
    """The command that fetches a set."""
    name = benchmark.repo.split("/")[1]
    return f"hf download {benchmark.repo} --repo-type dataset --local-dir {folder}/{name}"


def local_copy(benchmark: Benchmark) -> Path | None:
    """The folder of a set below `MIMIC_DATASETS`; None if the variable is not set.

    It may be called like the dataset on the Hub (with or without its owner) or like the task.

    Raises:
        UserError: there is no such folder, or one without the set's files.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    root = Path(given).expanduser()
    if not root.is_dir():
        raise UserError(f"{VARIABLE}={given:.200}: no such folder; unset it to read the Hub")
    owner, name = benchmark.repo.split("/")
    for folder in (root / owner / name, root / name, root / benchmark.name):
        if folder.is_dir():
            missing = [one for one in benchmark.files if not _has(folder, one)]
            if missing or not (benchmark.files or any(_tables(folder, benchmark))):
                what = ", ".join(missing) or f"no parquet file of split '{benchmark.split}'"
                raise UserError(
                    f"{folder} does not hold {benchmark.repo} ({what} missing): "
                    f"{how_to_get(benchmark, str(root))}"
                )
            return folder
    raise UserError(
        f"{benchmark.title} ({benchmark.repo}) is not in {VARIABLE}={given}: "
        f"{how_to_get(benchmark, str(root))}, or unset {VARIABLE} to read the Hub"
    )


def _has(folder: Path, pattern: str) -> bool:
    """A file of that name; archives may have been extracted."""
    return any(folder.glob(pattern)) or (
        pattern.endswith(".zip") and any(entry.is_dir() for entry in folder.iterdir())
    )


def check_available(benchmark: Benchmark) -> None:
    """What can be seen missing before a model is loaded.

    Raises:
        UserError: the local copy is missing, or the Hub is off limits and nothing of the set is stored.
    """
    from huggingface_hub import constants

    if local_copy(benchmark) is not None or (reason := out_of_reach()) is None:
        return
    owner, name = benchmark.repo.split("/")
    stored = Path(constants.HF_HUB_CACHE) / f"datasets--{owner}--{name}"
    made = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    if not stored.is_dir() and not any(made.glob(f"{owner}___*")):
        raise UserError(
            f"{benchmark.title} ({benchmark.repo}) is neither in {VARIABLE} nor stored, and cannot be "
            f"fetched ({reason}): {how_to_get(benchmark)}, then set {VARIABLE}=DIR"
        )


def read_docs(benchmark: Benchmark) -> Any:
    """The docs of a set as a `datasets.Dataset`, their images encoded.

    Returns:
        The set's columns and: ``n_images``, ``gt`` (the truth as stored), ``content_hash`` (of the set's
        name, the doc's number, text and truth); ``config`` where the set has several; ``question`` (the
        text of the prompt) where the set has no column of that name.

    Raises:
        UserError: the set is missing or in another form.
    """
    from datasets import Dataset, concatenate_datasets

    folder = local_copy(benchmark)
    if benchmark.read is not None:
        return _with_facts(benchmark, Dataset.from_list(benchmark.read(_folder_of(benchmark, folder))))
    parts = [_part(benchmark, folder, config) for config in benchmark.configs or (None,)]
    try:
        joined = parts[0] if len(parts) == 1 else concatenate_datasets(parts)
    except ValueError as error:
        raise UserError(f"{benchmark.repo}: its parts have different columns ({_line(error)})") from error
    return _with_facts(benchmark, joined)


def image_folder(benchmark: Benchmark) -> Path:
    """Where a set in files of its form has its images."""
    return _folder_of(benchmark, local_copy(benchmark))


def _folder_of(benchmark: Benchmark, folder: Path | None) -> Path:
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(benchmark.repo, repo_type="dataset", allow_patterns=list(benchmark.files))
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _unreachable(benchmark, error) from error


def _part(benchmark: Benchmark, folder: Path | None, config: str | None) -> Any:
    """One part of a set, its images encoded."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    split = benchmark.split
    try:
        if folder is None:
            part = datasets.load_dataset(benchmark.repo, config, split=split)
        elif _says_its_parts(folder):
            part = datasets.load_dataset(str(folder), config, split=split)
        else:
            files = [str(file) for file in _tables(folder, benchmark, config)]
            if not files:
                raise UserError(f"{folder} has no parquet file of {config or 'split ' + split}")
            part = datasets.load_dataset("parquet", data_files={split: files}, split=split)
    except (HfHubHTTPError, OSError, ValueError) as error:  # ValueError: no such part or split
        raise _unreachable(benchmark, error) from error
    for name, feature in part.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.Image):
            plain = datasets.Image(decode=False)
            part = part.cast_column(name, plain if inner is feature else datasets.List(plain))
    return part if config is None else part.add_column("config", [config] * len(part))


def _says_its_parts(folder: Path) -> bool:
    """Whether a copy has the data set's card with the files of each part, as on the Hub."""
    card = folder / "README.md"
    return card.is_file() and "\nconfigs:" in card.read_text(encoding="utf-8", errors="replace")


def _tables(folder: Path, benchmark: Benchmark, config: str | None = None) -> Iterator[Path]:
    """The parquet files of a split, as ``data/test-0.parquet``, of one part as ``Jigsaw/val-0.parquet``."""
    for file in sorted(folder.rglob("*.parquet")):
        parents = file.relative_to(folder).parts[:-1]
        words = file.stem.split("-")
        of_split = words[0].startswith(benchmark.split) or benchmark.split in (*words, *parents)
        if of_split and (config is None or config in (words[0], *parents)):
            yield file


def _unreachable(benchmark: Benchmark, error: Exception) -> UserError:
    return UserError(
        f"{benchmark.title} ({benchmark.repo}) could not be read ({_line(error)}): {how_to_get(benchmark)}, "
        f"then set {VARIABLE}=DIR"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _with_facts(benchmark: Benchmark, docs: Any) -> Any:
    """The docs with the columns that `read_docs` adds; they are few and stay in memory."""
    texts = docs.select_columns([name for name in docs.column_names if not is_image_column(benchmark, name)])
    facts: dict[str, list[Any]] = {"gt": [], "content_hash": []}
    if "question" not in docs.column_names:
        facts["question"] = []
    for number, row in enumerate(texts):
        try:
            question = benchmark.question(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{benchmark.repo} is not in the form that {benchmark.title} had ({type(error).__name__}: "
                f"{_line(error)} in doc {number}); its columns are {', '.join(docs.column_names)}"
            ) from error
        facts["gt"].append(question.stored)
        if "question" in facts:
            facts["question"].append(question.text)
        facts["content_hash"].append(question_hash(benchmark, question))
    for name, values in {"n_images": _image_counts(benchmark, docs), **facts}.items():
        docs = docs.add_column(name, values)
    return docs


def question_hash(benchmark: Benchmark, question: Question) -> str:
    """The identity of a doc: its set, number, text and truth; its pictures are not read for it."""
    identity = [benchmark.name, question.number, question.text, question.stored]
    return hashlib.sha256(json.dumps(identity, ensure_ascii=False).encode()).hexdigest()


def is_image_column(benchmark: Benchmark, name: str) -> bool:
    """Whether a column holds images."""
    if not benchmark.one_each:
        return name == benchmark.image_column and benchmark.read is None
    rest = name.removeprefix(benchmark.image_column)
    return rest != name and rest.isdecimal()


def image_columns(benchmark: Benchmark, row: Row) -> list[str]:
    """The columns of one image each, in the set's order."""
    return [name for name in row if is_image_column(benchmark, name)]


def _image_counts(benchmark: Benchmark, docs: Any) -> list[int]:
    """Images of each doc, without reading any."""
    import pyarrow.compute as pc

    table = docs.data
    if benchmark.read is not None:
        return [len(names) for names in docs["files"]]
    if not benchmark.one_each:
        column = table.column(benchmark.image_column)
        if _is_list(column.type):
            return [int(n or 0) for n in pc.list_value_length(column).to_pylist()]
        return [int(valid) for valid in pc.is_valid(column).to_pylist()]
    counts = [0] * len(docs)
    for name in docs.column_names:
        if is_image_column(benchmark, name):
            valid = pc.is_valid(table.column(name)).to_pylist()
            counts = [count + int(one) for count, one in zip(counts, valid, strict=True)]
    return counts


def _is_list(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind))
