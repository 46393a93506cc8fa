"""Writing large files where the disk may be full: one line, and what was saved before remains."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mimic_eval.records import UserError
from mimic_eval.records.reading import one_line


@contextmanager
def saving(folder: Path, *, what: str) -> Iterator[None]:
    """While it is entered, files are written below a folder; if that fails, what there is of it is removed.

    Args:
        folder: new.
        what: for the message.

    Raises:
        UserError: they cannot be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_torchs(error):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(
            f"{what} cannot be written ({one_line(error):.200}): the ones before it remain; make room on the "
            "disk and run the same command to resume"
        ) from error


def _is_torchs(error: RuntimeError) -> bool:
    """Whether torch's archive could not be written; torch has no class for it."""
    return any(words in str(error) for words in ("PytorchStreamWriter", "inline_container", "unexpected pos"))
