"""Calibrations as files, each of which serves one model only (METHODS 6)."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.stamped import damaged, read_stamped, write_stamped
from model_adapters.disk import cache_root
from model_adapters.families import FAMILIES, model_names
from model_adapters.sinks.calibration import (
    Calibration,
    Corpus,
    LayerMagnitudes,
    SinkDimension,
    config_digest,
    model_config,
)

FORMAT = "mimic_eval calibration"
VERSION = 2
_NAMES = {"name": "calibration", "command": "mimic calibrate"}


def default_path(model: Any) -> Path:
    """Where a model's calibration is stored: ``calibrations`` in `cache_root`."""
    return cache_root() / "calibrations" / f"{config_digest(model_config(model))}.json"


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration; the file is written atomically, and replaces what was there.

    Raises:
        UserError: the folder cannot be written.
    """
    record = {"identity": calibration.identity, **asdict(calibration)}
    record["corpus"]["hashes"] = sorted(calibration.corpus.hashes)
    write_stamped(path, record, form=FORMAT, version=VERSION)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        UserError: no such file, or not a complete calibration of this version.
    """
    record = read_stamped(path, form=FORMAT, version=VERSION, **_NAMES)
    try:
        return _parsed(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, error, **_NAMES) from error


def _parsed(record: dict[str, Any]) -> Calibration:
    values = {key: value for key, value in record.items() if key != "identity"}
    values["dimensions"] = tuple(SinkDimension(**entry) for entry in record["dimensions"])
    values["layers"] = tuple(LayerMagnitudes(**entry) for entry in record["layers"])
    values["corpus"] = Corpus(**{**record["corpus"], "hashes": frozenset(record["corpus"].get("hashes", ()))})
    calibration = Calibration(**values)
    if record["identity"] != calibration.identity:
        raise ValueError("its config does not have its identity")
    width, tau = int(calibration.config["text_config"]["hidden_size"]), calibration.tau
    for entry in calibration.dimensions:
        if not 0 <= int(entry.index) < width:
            raise ValueError(f"dimension {entry.index} of {width}")
        if not (math.isfinite(entry.mu) and math.isfinite(entry.sigma) and entry.sigma >= 0):
            raise ValueError(f"mu {entry.mu}, sigma {entry.sigma} of dimension {entry.index}")
    if calibration.dimensions and not (isinstance(tau, float) and math.isfinite(tau)):
        raise ValueError(f"tau {tau}")
    return calibration


def find_calibration(model: Any, path: str | None = None, *, pretrained: str | None = None) -> Calibration:
    """The calibration that a run uses: the file that the user names, else the one in the cache folder.

    Args:
        model: the model that it is to serve, under PEFT or not.
        path: ``calibration=`` of the run, or None for `default_path`.
        pretrained: ``pretrained=`` of the run, for the command that a message names.

    Returns:
        Maybe one without sink dimensions: what then follows is the caller's.

    Raises:
        UserError: none there, one that cannot be read, or one of another model; the message names the
            command that makes it.
    """
    file = Path(path).expanduser() if path else default_path(model)
    if file.is_dir():
        raise UserError(f"calibration={path} is a folder: name a file")
    if not file.is_file():
        named = (
            f"calibration={path}: no such file" if path else "this model has no calibration of its sinks yet"
        )
        raise UserError(f"{named}: make it with: {calibrate_command(model, pretrained=pretrained, out=path)}")
    calibration = load_calibration(file)
    config = model_config(model)
    if calibration.identity != config_digest(config):
        command = calibrate_command(model, pretrained=pretrained)
        raise UserError(
            f"calibration {file} is of another model ({config_difference(calibration.config, config)}): "
            f"leave calibration= out, after: {command}"
        )
    return calibration


def calibrate_command(model: Any, *, pretrained: str | None = None, out: str | None = None) -> str:
    """The command line that calibrates a model, to be pasted into a shell."""
    model_type = model.config.model_type
    words = ["mimic", "calibrate", model_names(model_type)[0] if model_type in FAMILIES else "MODEL"]
    words += ["--pretrained", pretrained] if pretrained else []
    return shlex.join([*words, "--out", out] if out else words)


def config_difference(stored: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The first keys in which two configs differ: ``text_config.hidden_size 896, not 64``."""
    first, second = _flat(stored), _flat(entry)
    differ = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    differ.sort(key=lambda key: (key != "model_type", not key.startswith("text_config"), key))
    differences = [f"{key} {first.get(key)}, not {second.get(key)}" for key in differ[:2]]
    more = f" and {len(differ) - 2} more" if len(differ) > 2 else ""
    return "; ".join(differences) + more


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
