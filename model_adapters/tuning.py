"""Files of `mimic tune`: the value of a method's free number, and the docs and the model it was chosen on.

A run takes one by ``tuned=FILE``. It serves the weights that it was made with, and no doc that shows a
picture on which the value was chosen.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.stamped import damaged, read_stamped, write_stamped

FORMAT = "mimic_eval tuning"
VERSION = 1
_NAMES = {"name": "tuning", "command": "mimic tune"}
_OF_THE_MACHINE = ("device", "dtype")  # the dtype is compared with the weights
_LISTED = 3


@dataclass(frozen=True)
class Tuning:
    """What a run needs of a file of `mimic tune`.

    Attributes:
        path: as the user names it.
        sha256: of the file (hex).
        method: the mask.
        argument: whose value was chosen.
        value: the chosen one.
        settings: `MaskedModel.settings`.
        weights: `weights_hash` of the model.
        config: `model_config` of the model.
        dtype: of the weights.
        checkpoint: for people; not compared.
        docs: how many docs of each task the value was chosen on.
        source: the folder of these docs, for people.
        pictures: `rgb_digest` of each of their pictures, and of those that they were made from.
        record: all of the file.
    """

    path: Path
    sha256: str
    method: str
    argument: str
    value: float
    settings: Mapping[str, Any]
    weights: str
    config: Mapping[str, Any]
    dtype: str
    checkpoint: str
    docs: Mapping[str, int]
    source: str
    pictures: frozenset[str]
    record: Mapping[str, Any]

    def applied(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A run's arguments with the mask and the value of the file.

        Raises:
            UserError: the run names another mask, or another value.
        """
        mask = given.get("mask", self.method)
        if mask != self.method:
            raise UserError(
                f"tuned={self.path} was made for mask={self.method}, not mask={mask}: leave one of them out"
            )
        value = given.get(self.argument)
        if value is not None and _number(value) != self.value:
            raise UserError(
                f"{self.argument}={value} differs from {self.argument}={self.value:g} of "
                f"tuned={self.path}: leave one of them out"
            )
        return {**given, "mask": self.method, self.argument: self.value}

    def summary(self) -> str:
        """What the file sets, for the run's record: the argument, its value and the file's SHA-256."""
        return f"{self.argument}={self.value:g} of {self.sha256}"

    def notice(self) -> str:
        """One line for the user."""
        docs = ", ".join(f"{number} docs of {task}" for task, number in self.docs.items())
        return (
            f"tuned={self.path} sets mask={self.method}, {self.argument}={self.value:g}: chosen on {docs} "
            f"({self.source}, {len(self.pictures)} pictures)"
        )

    def check_model(self, *, weights: str, config: Mapping[str, Any], dtype: str, model: str) -> None:
        """Refuse another model than the one that the value was chosen for.

        Args:
            weights: `weights_hash`.
            config: `model_config`.
            dtype: of the weights.
            model: lmms-eval's name of the model, for the command that a message names.

        Raises:
            UserError: another one, or the same weights in another dtype.
        """
        from model_adapters.sinks.files import config_difference

        again = f"tune it for this one with: mimic tune {self.method} --model {model}"
        if dict(config) != dict(self.config):
            difference = config_difference(self.config, config)
            raise UserError(f"tuned={self.path} is of another model ({difference}): {again}")
        if dtype != self.dtype:
            raise UserError(
                f"tuned={self.path} was made with weights in {self.dtype}, and this run has them in {dtype}: "
                f"add dtype={self.dtype}, or {again}"
            )
        if weights != self.weights:
            raise UserError(
                f"tuned={self.path} is of another checkpoint ({self.checkpoint}; the weights differ): {again}"
            )

    def other_settings(self, settings: Mapping[str, Any]) -> str | None:
        """One line if the value was chosen under other settings than a run's; None if they are the same.

        Args:
            settings: `MaskedModel.settings`.
        """
        names = [
            name
            for name in {**self.settings, **settings}
            if name not in (self.argument, *_OF_THE_MACHINE) and self.settings.get(name) != settings.get(name)
        ]
        differ = ", ".join(f"{name} {self.settings.get(name)}, here {settings.get(name)}" for name in names)
        if not names:
            return None
        return f"tuned={self.path} chose {self.argument} under other settings: {differ}"

    def check_pictures(self, pictures: Iterable[tuple[str, str]]) -> None:
        """Refuse docs that show a picture on which the value was chosen.

        Args:
            pictures: `rgb_digest` of each picture of the run, and where it is.

        Raises:
            UserError: there are such pictures; how many, and where the first are.
        """
        seen: set[str] = set()
        shared: dict[str, str] = {}
        for digest, where in pictures:
            seen.add(digest)
            if digest in self.pictures:
                shared.setdefault(digest, where)
        if shared:
            first = "; ".join([*shared.values()][:_LISTED])
            more = f"; and {len(shared) - _LISTED} more" if len(shared) > _LISTED else ""
            raise UserError(
                f"tuned={self.path}: {len(shared)} of the run's {len(seen)} pictures are among those that "
                f"{self.argument} was chosen on ({first}{more}): a score on them would flatter the method; "
                "tune on a build that shares no picture with the evaluation (mimic check-overlap)"
            )


def save_tuning(record: Mapping[str, Any], path: Path) -> None:
    """Write the file of a tuning; see `read_tuning` for what it must hold.

    Raises:
        UserError: the folder cannot be written.
    """
    write_stamped(path, record, form=FORMAT, version=VERSION)


def read_tuning(path: Path) -> Tuning:
    """Read a file of `mimic tune`.

    Raises:
        UserError: no such file, or not a complete one of this version.
    """
    if not path.is_file():
        what = "is a folder: name a file" if path.is_dir() else "no such file; make it with: mimic tune"
        raise UserError(f"tuned={path}: {what}")
    record = read_stamped(path, form=FORMAT, version=VERSION, **_NAMES)
    try:
        model, data = record["model"], record["data"]
        return Tuning(
            path=path,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            method=str(record["method"]),
            argument=str(record["argument"]),
            value=_finite(record["value"]),
            settings=dict(record["settings"]),
            weights=str(model["weights"]),
            config=dict(model["config"]),
            dtype=str(model["dtype"]),
            checkpoint=str(model["checkpoint"]),
            docs={str(task): int(number) for task, number in data["docs"].items()},
            source=str(data["source"]),
            pictures=frozenset(map(str, data["pictures"])),
            record=record,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, error, **_NAMES) from error


def _finite(value: Any) -> float:
    number = _number(value)
    if isinstance(value, bool) or number is None:
        raise ValueError(f"value {value!r}")
    return number


def _number(value: Any) -> float | int | None:
    """A number, also as text; None if it is none, or not finite."""
    try:
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None
