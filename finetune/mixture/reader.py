"""`read_mixture`: finds the samples of a mixture and checks each once; later each is read when asked for."""

import hashlib
import json
import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from finetune.mixture.record_index import RecordIndex, index_records
from finetune.mixture.records import Sample, Turn, read_record, record_id
from mimic_eval.records import UserError
from mimic_eval.records.reading import one_line, read_json
from mimic_tasks.training.exported import MANIFEST
from mimic_tasks.training.mixture_file import MixtureSet, Sampling, read_sets

_ENOUGH = 100
"""Different pictures that must be missing, and no other seen, before the image folder is taken for wrong."""


@dataclass(frozen=True)
class SetRead:
    """A file of the mixture.

    Attributes:
        path: of the file.
        sampling: its strategy.
        image_folder: that its pictures' paths start in.
        records: in the file.
        samples: taken from it.
    """

    path: Path
    sampling: Sampling
    image_folder: Path
    records: int
    samples: int


class _File:
    """A file's chosen records, each read from the disk when it is asked for."""

    def __init__(self, path: Path, image_folder: Path, index: RecordIndex, chosen: Sequence[int]) -> None:
        self.path = path
        self.image_folder = image_folder
        self._index = index
        self.chosen = chosen if isinstance(chosen, range) else array("I", chosen)
        self._descriptor: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process that is not forked: it opens the file again."""
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def raw(self, position: int) -> bytes:
        """The bytes of the record at a position among the chosen ones."""
        record = self.chosen[position]
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY)
            # not seek and read: forked workers share the descriptor's place
            return os.pread(self._descriptor, self._index.lengths[record], self._index.offsets[record])
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error

    def sample(self, position: int) -> Sample:
        """The sample at a position.

        Raises:
            UserError: see `parse`.
        """
        name, line, names, turns = self.parse(self.raw(position), position)
        return Sample(name, self.path, line, tuple(self.image_folder / image for image in names), turns)

    def parse(self, data: bytes, position: int) -> tuple[str, int, list[str], tuple[Turn, ...]]:
        """The sample's id, line, pictures' names as the record has them, and turns.

        Raises:
            UserError: naming file, line and id.
        """
        number = self.chosen[position]
        line = self._index.lines[number]
        where = f"{self.path}: line {line}"
        try:
            record = json.loads(data)
        except RecursionError as error:
            raise UserError(f"{where}: is nested too deeply") from error
        except ValueError as error:
            raise UserError(f"{where}: is not JSON ({one_line(error)})") from error
        name = record_id(record, number)
        try:
            names, turns = read_record(record)
        except UserError as error:
            raise UserError(f"{where}, id {name:.100}: {error}") from error
        return name, line, names, turns


class Mixture(Sequence[Sample]):
    """The samples of a mixture, set after set in the order given. Made by `read_mixture`.

    Holds 16 bytes a record; a sample is read when it is indexed. Can be used in forked and pickled to
    spawned worker processes.

    Attributes:
        digest: SHA-256 of the samples' records and the sizes of their pictures' files, in order. The same
            digest means the same samples; names of folders are not part of it.
        sets: the files that the samples are from.
    """

    def __init__(self, files: Sequence[_File], sets: Sequence[SetRead], digest: str) -> None:
        self._files = tuple(files)
        self.sets = tuple(sets)
        self.digest = digest
        self._length = sum(len(file.chosen) for file in files)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, i: int) -> Sample: ...

    @overload
    def __getitem__(self, i: slice) -> list[Sample]: ...

    def __getitem__(self, i: int | slice) -> Sample | list[Sample]:
        """The i-th `Sample`.

        Raises:
            IndexError: there are fewer samples.
            UserError: its file has changed since the mixture was read.
        """
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        position = i + len(self) if i < 0 else i
        if not 0 <= position < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        for file in self._files:
            if position < len(file.chosen):
                return file.sample(position)
            position -= len(file.chosen)
        raise AssertionError("the files hold fewer samples than their sum")

    def __iter__(self) -> Iterator[Sample]:
        for i in range(len(self)):
            yield self[i]


def read_mixture(
    mixtures_or_json: Sequence[Path],
    *,
    image_folder: Path | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Mixture:
    """Find and check the samples of mixtures and files (METHODS 10).

    Every sample that is taken is parsed, and every picture it names must be a file that is not empty.
    Pictures are not decoded.

    Args:
        mixtures_or_json: mixtures (``.yaml``) and files of samples (``.json``, ``.jsonl``, ``{a,b}.json``).
        image_folder: that the pictures' paths start in. None: for a file of `mimic export-training`, the
            folder of its manifest; else the file's folder.
        seed: of the strategy ``random``.
        progress: show a bar on stderr.

    Raises:
        UserError: a file or picture is missing, or a sample cannot be used. The message has the file, line
            and id of the first such sample, and how many more there are.
    """
    if image_folder is not None and not image_folder.is_dir():
        raise UserError(f"image folder {image_folder!s:.200}: no such folder")
    chosen = [one for path in mixtures_or_json for one in read_sets(path)]
    _check_different(chosen)
    files, sets = [], []
    for number, one in enumerate(chosen):
        index = index_records(one.path)
        records = len(index.offsets)
        folder = image_folder if image_folder is not None else _folder_of(one.path)
        file = _File(one.path, folder, index, one.sampling.take(records, seed=f"{seed}/{number}"))
        files.append(file)
        sets.append(SetRead(one.path, one.sampling, folder, records, len(file.chosen)))
    if not files:
        raise UserError("no mixture and no file of samples was given")
    return Mixture(files, sets, _Check(progress=progress).run(files))


def _check_different(sets: Sequence[MixtureSet]) -> None:
    first: dict[str, Path] = {}
    for one in sets:
        real = os.path.realpath(one.path)
        if real in first:
            raise UserError(f"{one.path} is given twice: its samples would count double; give it once")
        first[real] = one.path


def _folder_of(path: Path) -> Path:
    """The image folder of an export's manifest, else the file's folder."""
    if not (path.parent / MANIFEST).is_file():
        return path.parent
    manifest = read_json(path.parent / MANIFEST)
    try:
        if path.name in (task["file"] for task in manifest["tasks"].values()):
            return Path(manifest["image_folder"])
    except (KeyError, TypeError, AttributeError):
        pass  # a manifest of something else
    return path.parent


class _Check:
    """Goes once over all samples; the faults are counted and the first is raised."""

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress
        self._fault: UserError | None = None
        self._faults = 0

    def run(self, files: Sequence[_File]) -> str:
        """The digest of the samples.

        Raises:
            UserError: a sample cannot be used.
        """
        from tqdm import tqdm

        digest = hashlib.sha256()
        samples = sum(len(file.chosen) for file in files)
        with tqdm(
            total=samples, desc="Checking samples", disable=None if self._progress else True, leave=False
        ) as bar:
            for file in files:
                self._check(file, digest, bar)
        if self._fault is not None:
            more = (
                f" ({self._faults - 1} more of {samples} samples cannot be used)" if self._faults > 1 else ""
            )
            raise UserError(f"{self._fault}{more}")
        return digest.hexdigest()

    def _check(self, file: _File, digest: Any, bar: Any) -> None:
        missing: set[str] = set()
        present = False
        for position in range(len(file.chosen)):
            data = file.raw(position)
            digest.update(b"%d " % len(data) + data)
            bar.update()
            try:
                name, line, names, _ = file.parse(data, position)
            except UserError as fault:
                self._add(fault)
                continue
            sound = True
            for number, image in enumerate(names, 1):
                path = os.path.join(file.image_folder, image)
                size, reason = _size(path)
                digest.update(b"%d " % size)
                present |= reason != _MISSING
                if not present:
                    missing.add(image)
                if reason and sound:
                    sound = False
                    where = f"{file.path}: line {line}, id {name:.100}"
                    self._add(UserError(f"{where}: picture {number}, {path:.300}: {reason}"))
            if not present and len(missing) >= _ENOUGH:
                raise _wrong_folder(file, missing, first="first ")
        if not present and missing:
            raise _wrong_folder(file, missing)

    def _add(self, fault: UserError) -> None:
        self._fault = self._fault or fault
        self._faults += 1


_MISSING = "no such file"


def _size(path: str) -> tuple[int, str]:
    """A picture's bytes, and why it cannot be used ('' if it can)."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no name of a file
        return 0, _MISSING
    except OSError as error:
        return 0, f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return 0, "is not a file"
    return status.st_size, "" if status.st_size else "is empty"


def _wrong_folder(file: _File, missing: set[str], *, first: str = "") -> UserError:
    example = min(missing)
    pictures = f"0 of {first}{len(missing)} pictures of {file.path}"
    if all(os.path.isabs(name) for name in missing):
        return UserError(f"{pictures} are where it says (e.g. {example:.200}): make the paths relative")
    return UserError(
        f"{pictures} are in {file.image_folder} (e.g. {example:.200}): give --image-folder, the folder that "
        "these paths start in"
    )
