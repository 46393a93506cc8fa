"""A model without a calibration is calibrated on the way, in commands that provide docs (METHODS 6)."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mimic_eval.records import UserError
from mimic_eval.records.locking import locked
from mimic_eval.records.processes import follows, together, world_size
from model_adapters.families.base import Family
from model_adapters.memory import is_out_of_memory
from model_adapters.sinks.calibration import Calibration
from model_adapters.sinks.files import default_path, find_calibration, save_calibration
from model_adapters.sinks.statistics import CorpusDoc, calibrate


class CalibrationDocs(NamedTuple):
    """What a model is calibrated on.

    Attributes:
        docs: in the order of the draw.
        source: the task folder, for the record.
        seed: of the draw.
    """

    docs: Sequence[CorpusDoc]
    source: str
    seed: int


Provider = Callable[[Family], CalibrationDocs]
_providers: list[Provider] = []


@contextmanager
def calibrating_with(provider: Provider) -> Iterator[None]:
    """While it is entered, a model that needs sinks and has no calibration is calibrated on these docs.

    Args:
        provider: called when a calibration is missing.
    """
    _providers.append(provider)
    try:
        yield
    finally:
        _providers.remove(provider)


def find_or_make_calibration(model: Any, family: Family, *, pretrained: str | None = None) -> Calibration:
    """The calibration in the cache folder; a missing one is made and stored there.

    Of several processes that share the folder, one makes it and the others wait; those that run one model
    together all make it, and the first stores it. An interrupted one leaves nothing.

    Args:
        model: the model that it is to serve, under PEFT or not.
        family: the model's.
        pretrained: ``pretrained=`` of the run, for the record and for messages.

    Raises:
        UserError: the stored one does not fit; a new one cannot be made; or it is missing, and the command
            provides no docs (`calibrating_with`).
    """
    file = default_path(model)
    if not _providers or _in_all(file.is_file()):
        return find_calibration(model, pretrained=pretrained)
    provider = _providers[-1]
    if together():
        calibration = _made(model, family, provider, pretrained)
        return calibration if follows() else _stored(calibration, file)
    with ExitStack() as stack:
        lock = file.with_name(f".{file.stem}.lock")
        try:
            if not stack.enter_context(locked(lock, wait=False)):
                if world_size() == 1:
                    print("another process calibrates this model: waiting for it", file=sys.stderr)
                stack.enter_context(locked(lock))
        except UserError:  # a cache folder that can only be read: each process calibrates for itself
            return _stored(_made(model, family, provider, pretrained), file)
        if file.is_file():
            return find_calibration(model, pretrained=pretrained)
        return _stored(_made(model, family, provider, pretrained), file)


def calibrate_within_memory(
    model: Any, family: Family, docs: Sequence[CorpusDoc], **options: Any
) -> Calibration:
    """`calibrate`; a device without enough memory is refused in one line.

    Raises:
        UserError: that, and as `calibrate`.
    """
    try:
        return calibrate(model, family, docs, **options)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "the device has too little memory to calibrate on a prompt of these docs: try bfloat16, or "
            "`mimic calibrate --data` with fewer or smaller images a doc"
        ) from error


def _made(model: Any, family: Family, provider: Provider, pretrained: str | None) -> Calibration:
    docs, source, seed = provider(family)
    if not follows():
        print(
            f"no calibration found: making one from {len(docs)} docs ({source}, seed {seed}); "
            "calibrate=false ends the run instead",
            file=sys.stderr,
        )
    return calibrate_within_memory(
        model,
        family,
        docs,
        source=source,
        seed=seed,
        checkpoint=pretrained or "embedded",
        progress=not follows(),
    )


def _stored(calibration: Calibration, file: Path) -> Calibration:
    """The calibration, in its file unless that cannot be written."""
    try:
        save_calibration(calibration, file)
    except UserError as error:
        print(f"the calibration serves this run only: {error}", file=sys.stderr)
    else:
        found = len(calibration.dimensions)
        print(f"calibrated: {found} sink dimension{'s' * (found != 1)}, stored in {file}", file=sys.stderr)
    return calibration


def _in_all(value: bool) -> bool:
    """What the first process sees, in all that run one model together."""
    if not together():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return bool(values[0])
