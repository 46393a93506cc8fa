"""The checkpoints that a killed training resumes from."""

import json
import shutil
from pathlib import Path


def last_checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint of a killed training; an incomplete one is removed."""
    from transformers.trainer import TRAINER_STATE_NAME
    from transformers.trainer_utils import get_last_checkpoint

    while (checkpoint := get_last_checkpoint(str(folder))) is not None:
        try:
            json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))  # written last
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None
