"""Reading files that others sent: sizes, names and forms are limited before anything is parsed."""

import os
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from leaderboard.site.lookalikes import skeleton
from mimic_eval.records import UserError, nearest

FILE = "submission.toml"
METADATA_FILES = (FILE, "submission.yaml")
"""What the metadata may be named; YAML is of older submissions."""

LINKS = ("link", "paper", "code")
"""Metadata that are addresses."""

KEYS = {"who": True, "what": True, "checkpoint": True, "hardware": True, **dict.fromkeys(LINKS, False)}
"""What the metadata hold, and whether they must."""

_METADATA_BYTES = 8_000
_METADATA_BRACKETS = 50
_TEXT = 200
_RESULTS_BYTES = 4_000_000
_RESULTS_BRACKETS = 50_000
_SAMPLES_BYTES = 64_000_000
_LINE_BYTES = 1_000_000
_LINE_BRACKETS = 200
_LINE_COMMAS = 6_000
_DEPTH = 100
_TOTAL_BYTES = 256_000_000
_FILES = 60
_FOLDERS_DOWN = 3
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}(_results\.json|_samples_[A-Za-z0-9_.-]+\.jsonl)")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Signs that count as printable and show nothing."""


def walk(folder: Path, deepest: int = _FOLDERS_DOWN) -> Iterator[tuple[Path, bool]]:
    """All that lies in a folder, not below links, and whether it lies deeper than is allowed.

    Args:
        folder: where.
        deepest: how many folders down; of what is deeper only the first level is given.
    """
    for root, folders, files in os.walk(folder):
        down = len(Path(root).relative_to(folder).parts)
        for name in sorted((*folders, *files)):
            yield Path(root, name), down > deepest
        folders[:] = sorted(folders) if down <= deepest else []


def check_files(folder: Path) -> None:
    """Only plain files of the names that a submission has, not too many, too large or too deep.

    Raises:
        UserError: the first thing that is wrong.
    """
    total, files, folders = 0, 0, 0
    for path, too_deep in walk(folder):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is a link or a special file; send plain files")
        if too_deep or not path.name.isprintable():
            raise UserError(
                f"{folder} holds an unprintable name, or folders over {_FOLDERS_DOWN} deep: move them"
            )
        if path.is_dir():
            folders += 1
        else:
            size = path.stat().st_size
            files, total = files + 1, total + size
            expected = path.parent == folder and path.name in METADATA_FILES
            if not expected and not _FILE_NAME.fullmatch(path.name):
                raise UserError(
                    f"{path}: a submission holds {FILE}, *_results.json and *_samples_*.jsonl only"
                )
            if size > _SAMPLES_BYTES:
                raise UserError(f"{path} has {size} bytes; at most {_SAMPLES_BYTES} are taken")
        if max(files, folders) > _FILES or total > _TOTAL_BYTES:
            raise UserError(
                f"{folder} has over {_FILES} files or folders or {_TOTAL_BYTES} bytes: send fewer runs"
            )


def metadata_file(folder: Path) -> Path | None:
    """The file with a submission's metadata, or None if the folder is no submission.

    Raises:
        UserError: it has two.
    """
    files = [folder / name for name in METADATA_FILES if (folder / name).exists()]
    if len(files) > 1:
        raise UserError(f"{folder} holds {' and '.join(METADATA_FILES)}: keep one of them")
    return files[0] if files else None


def metadata(path: Path) -> dict[str, str]:
    """The TOML or YAML as plain texts; no table, tag, alias or nesting is read.

    Raises:
        UserError: the first thing that is wrong.
    """
    if path.stat().st_size > _METADATA_BYTES:
        raise UserError(f"{path} has over {_METADATA_BYTES} bytes")
    fields: dict[str, str] = {}
    for key, value in _pairs(path):
        if key not in KEYS:
            raise UserError(f"{path}: {nearest('key', key[:60], KEYS)}")
        if key in fields:
            raise UserError(f"{path}: '{key}' is given twice; delete one")
        text = unicodedata.normalize("NFC", value or "").strip()
        if not 0 < len(text) <= _TEXT or not text.isprintable() or _UNSEEN.search(text) or _is_mark(text[0]):
            raise UserError(f"{path}: '{key}' must be one line of 1 to {_TEXT} printable characters")
        if key == "what" and skeleton("·") in skeleton(text):
            raise UserError(f"{path}: 'what' must not hold '·', nor what looks like it: it parts labels")
        fields[key] = text
    lacking = [key for key, needed in KEYS.items() if needed and key not in fields]
    if lacking:
        raise UserError(f"{path} lacks {', '.join(lacking)}")
    for key in LINKS:
        if key in fields and not host_of(fields[key]):
            raise UserError(f"{path}: '{key}' must be an https address, got {fields[key]!r:.80}")
    return {key: fields[key] for key in KEYS if key in fields}


def _pairs(path: Path) -> list[tuple[str, str | None]]:
    """The keys and values of the metadata, None for a value that is no text."""
    form = path.suffix[1:].upper()
    try:
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > _METADATA_BRACKETS:  # reading time grows with their square
            raise UserError(f"{path} is not {form} that can be read (over {_METADATA_BRACKETS} brackets)")
        return _toml_pairs(text) if form == "TOML" else _yaml_pairs(path, text)
    except (OSError, OverflowError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is not {form} that can be read ({error!s:.200})") from error


def _toml_pairs(text: str) -> list[tuple[str, str | None]]:
    return [(key, value if isinstance(value, str) else None) for key, value in tomllib.loads(text).items()]


def _yaml_pairs(path: Path, text: str) -> list[tuple[str, str | None]]:
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise UserError(f"{path}: aliases are not read; write each text out")
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: must map {', '.join(KEYS)} to texts")
    return [(_scalar(key) or "?", _scalar(value)) for key, value in node.value]


def _scalar(node: Any) -> str | None:
    return node.value if isinstance(node.value, str) else None


def _is_mark(character: str) -> bool:
    """A character that is drawn onto the one before it."""
    return unicodedata.category(character).startswith("M")


def host_of(link: object) -> str:
    """The host of an https address without a user name, or an empty text for anything else."""
    if not isinstance(link, str):
        return ""
    plain = re.fullmatch(r"https://([A-Za-z0-9.-]{1,253})(:\d{1,5})?(/[^\s\"'<>\\]*)?", link)
    try:
        parts = urlsplit(link)
    except ValueError:
        return ""
    return plain[1].lower() if plain and parts.hostname == plain[1].lower() else ""


def check_results_form(path: Path) -> None:
    """A results file is not too large, and nests nothing that no results file does.

    Raises:
        UserError: it is or does.
    """
    if path.stat().st_size > _RESULTS_BYTES:
        raise UserError(f"{path} has {path.stat().st_size} bytes; at most {_RESULTS_BYTES} are taken")
    brackets = _BRACKET.findall(_STRING.sub(b"", path.read_bytes()))
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > _DEPTH or len(brackets) > 2 * _RESULTS_BRACKETS:
        raise UserError(f"{path} holds lists in lists as no results file does; send it as lmms-eval wrote it")


def check_samples_form(file: Path) -> None:
    """No line of a samples file is longer, or holds more lists and numbers, than a sample may.

    Raises:
        UserError: one is or does.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if len(line) > _LINE_BYTES:
                raise UserError(
                    f"{file}, line {number}: has over {_LINE_BYTES} bytes, more than a sample may"
                )
            rest = _STRING.sub(b"", line)
            brackets = rest.count(b"[") + rest.count(b"{")
            if brackets > _LINE_BRACKETS or rest.count(b",") > _LINE_COMMAS:
                raise UserError(f"{file}, line {number}: holds more lists or numbers than a sample may")
