"""LLaVA's mixture: which files of samples a training reads, and which part of each (METHODS 10).

Matches `LazySupervisedDataset` of LLaVA-NeXT's `llava/train/train.py` where that is defined: what it takes
silently for something else (an unknown strategy for ``all``, ``end:0`` for everything) is refused.
"""

import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

from mimic_eval.records import UserError
from mimic_eval.records.errors import nearest
from mimic_eval.records.reading import read_yaml

_KINDS = ("all", "end", "first", "random")
_BRACES = re.compile(r"(.*)\{(.*)\}\.json")


@dataclass(frozen=True)
class Sampling:
    """A sampling strategy: which records of a file are taken.

    Attributes:
        kind: ``all``, ``first``, ``end`` or ``random``.
        number: how many records, or per cent of them; 0 for ``all``.
        percent: whether `number` is per cent.
    """

    kind: str = "all"
    number: int = 0
    percent: bool = False

    def take(self, total: int, *, seed: str) -> range | list[int]:
        """The numbers of the records that are taken, each from 0.

        A share is rounded up, and more records than there are means all, as LLaVA-NeXT does. Its ``random``
        has no seed; ours has, and leaves the records in their order.

        Args:
            total: records of the file.
            seed: of the draw of ``random``.
        """
        if self.kind == "all":
            return range(total)
        number = min(math.ceil(self.number * total / 100) if self.percent else self.number, total)
        if self.kind == "first":
            return range(number)
        if self.kind == "end":
            return range(total - number, total)
        return sorted(random.Random(seed).sample(range(total), number))

    def __str__(self) -> str:
        return "all" if self.kind == "all" else f"{self.kind}:{self.number}{'%' if self.percent else ''}"


ALL = Sampling()


@dataclass(frozen=True)
class MixtureSet:
    """A file of samples, and which of them are taken."""

    path: Path
    sampling: Sampling = ALL


def parse_strategy(text: object) -> Sampling:
    """`all`, `first:N`, `end:N`, `random:N` (records), or the same with `N%`.

    Raises:
        UserError: it is none of them, or takes nothing.
    """
    forms = "all, or first:N, end:N or random:N, N a number of samples or a share such as 30%"
    if not isinstance(text, str):
        raise UserError(f"sampling_strategy must be {forms}; got {text!r:.100}")
    kind, colon, rest = (part.strip() for part in text.partition(":"))
    if kind not in _KINDS:
        raise UserError(f"{nearest('sampling_strategy', kind[:60], _KINDS)} It must be {forms}")
    if kind == "all" and not colon:
        return ALL
    digits = rest.removesuffix("%").strip()
    if kind == "all" or not re.fullmatch(r"[0-9]{1,12}", digits):
        raise UserError(f"sampling_strategy must be {forms}; got '{text:.100}'")
    sampling = Sampling(kind, int(digits), rest.endswith("%"))
    if sampling.number == 0:
        raise UserError(f"sampling_strategy '{text}' takes no sample: leave the file out of the mixture")
    if sampling.percent and sampling.number > 100:
        raise UserError(f"sampling_strategy '{text}' must be within 1-100 %")
    return sampling


def read_sets(path: Path, *, missing_files: bool = False) -> list[MixtureSet]:
    """The files that a mixture names, or the file itself if it is one of samples.

    Args:
        path: a mixture (``.yaml``), a file of samples (``.json``, ``.jsonl``), or LLaVA's pattern of several,
            ``folder/{a,b}.json``. A relative ``json_path`` is looked up where the command runs, as LLaVA
            does, then beside the mixture.
        missing_files: whether the files that a mixture names may be missing.

    Raises:
        UserError: it cannot be read, is not a mixture, or names a file that is missing.
    """
    text = str(path)
    if {"{", "}"} <= set(text) and not path.exists():
        pattern = _BRACES.fullmatch(text)
        if not pattern:
            raise UserError(f"{text:.200}: a pattern of several files must be like folder/{{a,b}}.json")
        parts = [Path(f"{pattern[1]}{name}.json") for name in pattern[2].split(",")]
        return [MixtureSet(_existing(part, f"{text:.200}")) for part in parts]
    if path.suffix not in (".yaml", ".yml"):
        return [MixtureSet(_existing(path))]
    _existing(path)
    mixture = read_yaml(path)
    entries = mixture.get("datasets") if isinstance(mixture, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: is no mixture: it needs a list `datasets` of json_path, sampling_strategy")
    return [_entry(entry, number, path, missing=missing_files) for number, entry in enumerate(entries, 1)]


def _entry(entry: object, number: int, mixture: Path, *, missing: bool) -> MixtureSet:
    where = f"{mixture}: dataset {number}"
    json_path = entry.get("json_path") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(json_path, str) or not json_path:
        raise UserError(f"{where}: needs a json_path, the path of a file of samples")
    strategy = entry.get("sampling_strategy")
    try:
        sampling = ALL if strategy is None else parse_strategy(strategy)
    except UserError as error:
        raise UserError(f"{where} ({json_path:.200}): {error}") from error
    path, beside = Path(json_path), mixture.parent / json_path
    path = beside if not path.exists() and beside.exists() else path
    return MixtureSet(path if missing and not path.exists() else _existing(path, where), sampling)


def _existing(path: Path, where: str | None = None) -> Path:
    prefix = f"{where}: " if where else ""
    if "\0" in str(path) or not path.exists():
        raise UserError(f"{prefix}{path!s:.200}: no such file")
    if not path.is_file():
        raise UserError(f"{prefix}{path!s:.200}: is not a file")
    if path.suffix not in (".json", ".jsonl", ".yaml", ".yml"):
        raise UserError(
            f"{prefix}{path!s:.200}: must end in .yaml (a mixture), .json (a list of samples) or .jsonl "
            "(one sample a line)"
        )
    return path
