"""The files of an original checkpoint. Errors begin with "it" or "its": the caller puts the name before."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_FETCHED = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]


def local_folder(pretrained: str) -> Path:
    """The folder, fetched from the Hub if it is none; never its Python files.

    Raises:
        UserError: nothing there.
    """
    folder = Path(pretrained).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or pretrained.count("/") != 1 or pretrained.startswith((".", "/", "~")):
        raise UserError("no such folder, and not a Hub id of the form org/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(pretrained, allow_patterns=_FETCHED))
    except (OSError, ValueError) as error:
        raise UserError(f"it cannot be fetched: {one_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: no such file, or something else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("no JSON object")
        return content
    except OSError as error:
        raise UserError(f"it has no {path.name}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"its {path.name} cannot be read: {one_line(error)}") from error


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Use the content of files: what it breaks, here or in a library, is one line that names them.

    Args:
        what: the files, for the message.

    Raises:
        UserError: the content has not the types, keys or numbers that it should have.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except UserError:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        StrictDataclassError,
    ) as error:
        raise UserError(f"its {what} does not fit: {type(error).__name__}: {one_line(error)}") from error


def weight_files(folder: Path) -> Mapping[str, tuple[str, ...] | None]:
    """The files of weights with the names of the weights in each, or None for all that are in it.

    Raises:
        UserError: no safetensors.
    """
    if (folder / INDEX).is_file():
        files: dict[str, list[str]] = {}
        with fitting(INDEX):
            for key, name in read_json(folder / INDEX)["weight_map"].items():
                files.setdefault(Path(name).name, []).append(key)  # all files lie in the folder
        if not files:
            raise UserError(f"its {INDEX} names no weights")
        return {name: tuple(keys) for name, keys in sorted(files.items())}
    if (folder / SINGLE).is_file():
        return {SINGLE: None}
    raise UserError(f"it has no {SINGLE} and no {INDEX}")


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
