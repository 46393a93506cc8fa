"""A checkpoint's small files, read before anything is built from them: damaged ones, missing ones, bombs."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import UserError

_OBJECTS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "tokenizer.json",
    "vocab.json",
)
_NAME_THE_PROCESSOR = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_MOST_TEMPLATE = 2**20
_MOST_HEADER = 100 * 2**20  # safetensors' own limit
_PER_BYTE = 2  # weights: four bits each are the least that anybody stores
_ADAPTER = "adapter_config.json"
_WHAT_DEFAULTS_DO = {
    "generation_config.json": "answers end at the end token of its config.json or tokenizer",
    "tokenizer_config.json": "special tokens and their rules are the tokenizer class's defaults",
}


class CheckpointFiles(NamedTuple):
    """What the small files of a checkpoint say.

    Attributes:
        settings: `config.json`.
        notes: lines about files that are missing and what holds instead.
        shows: a file says how pictures are prepared.
        processor_class: by its name, which need not be transformers', or None if no file says it.
    """

    settings: dict[str, Any]
    shows: bool
    notes: tuple[str, ...]
    processor_class: str | None = None


def read_checkpoint_files(folder: Path) -> CheckpointFiles:
    """Read all small files that a model or processor is made of, and what they claim of the weights.

    Args:
        folder: of the checkpoint.

    Raises:
        UserError: a file that cannot be read, a file of weights that its index names and that is not there,
            a config that asks for more weights than the files can hold, or a folder that is an adapter. The
            message begins with "it" or "its".
    """
    if (folder / _ADAPTER).is_file():
        raise UserError(
            f"it is an adapter ({_ADAPTER}): name its base model, and the adapter by peft={folder}"
        )
    read = {name: _object(folder / name) for name in _OBJECTS if (folder / name).is_file()}
    for name in _TEMPLATES:
        _check_template(folder / name)
    for name in _INDEXES:
        _check_index(folder / name)
    settings = read.get("config.json")
    if settings is None or "model_type" not in settings:
        raise UserError("it has no config.json with a model_type")
    _check_size(folder, settings)
    missing = [name for name in _WHAT_DEFAULTS_DO if name not in read]
    shows = bool({"processor_config.json", "preprocessor_config.json"} & set(read))
    classes = [read.get(name, {}).get("processor_class") for name in _NAME_THE_PROCESSOR]
    return CheckpointFiles(
        settings,
        shows,
        tuple(f"has no {name}: {_WHAT_DEFAULTS_DO[name]}" for name in missing),
        next((own for own in classes if isinstance(own, str)), None),
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"its {path.name} cannot be read: {_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"its {path.name} cannot be read: no JSON object")
    return content


def _check_template(path: Path) -> None:
    if not path.is_file():
        return
    size = path.stat().st_size
    if size > _MOST_TEMPLATE:
        raise UserError(f"its {path.name} has {size:,} bytes; at most {_MOST_TEMPLATE:,} are taken")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"its {path.name} cannot be read: {_line(error)}") from error
    if not text.strip():
        raise UserError(f"its {path.name} cannot be read: it is empty")


def _check_index(path: Path) -> None:
    """All files of weights that an index names lie beside it."""
    if not path.is_file():
        return
    weights = _object(path).get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        raise UserError(f"its {path.name} has no weight_map")
    names = sorted(set(weights.values()))
    absent = [name for name in names if Path(name).name != name or not (path.parent / name).is_file()]
    if absent:
        raise UserError(
            f"its {path.name} names {absent[0]}, which is not there ({len(absent)} of {len(names)} files)"
        )


def _check_size(folder: Path, settings: Mapping[str, Any]) -> None:
    """A config must not ask for more than the files of weights hold: nobody could wait for it to be built."""
    files = sorted({*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")})
    if not files:
        return
    size = sum(file.stat().st_size for file in files)
    layers, least = _least(settings)
    if least > _PER_BYTE * size:
        raise UserError(
            f"its config.json asks for at least {least:,} weights, its files of weights have {size:,} bytes"
        )
    tensors = [_tensors(file) for file in files]
    if None not in tensors and layers > sum(count or 0 for count in tensors):
        raise UserError(
            f"its config.json asks for {layers:,} layers, and its files of weights hold "
            f"{sum(count or 0 for count in tensors):,} tensors"
        )


def _tensors(file: Path) -> int | None:
    """How many tensors a safetensors file holds, or None if that is not known."""
    if file.suffix != ".safetensors":
        return None
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MOST_HEADER, file.stat().st_size):
                raise ValueError("its header is longer than the file")
            return len(json.loads(stream.read(length)).keys() - {"__metadata__"})
    except (OSError, ValueError, AttributeError, RecursionError, struct.error) as error:
        raise UserError(f"its {file.name} cannot be read: {_line(error)}") from error


def _least(settings: Mapping[str, Any]) -> tuple[int, int]:
    """The most layers of a part of a model, and fewer weights than any model of such a config has."""
    text = next((part for key in ("text_config", "llm_config") if (part := _part(settings, key))), settings)
    vision = _part(settings, "vision_config")
    width = _whole(text, "hidden_size")
    layers = _whole(text, "num_hidden_layers")
    decoder = _whole(text, "vocab_size") * width + layers * width * (
        2 * _whole(text, "intermediate_size") + 1
    )
    seen = max(_whole(vision, "num_hidden_layers"), _whole(vision, "depth"))
    widths = [value for key in ("hidden_size", "embed_dim") if (value := _whole(vision, key))]
    narrow = min(widths, default=0)
    side = _whole(vision, "image_size") // max(1, _whole(vision, "patch_size"))
    tower = narrow * (seen * (2 * _whole(vision, "intermediate_size") + 1) + side * side)
    return max(layers, seen), decoder + tower


def _part(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = settings.get(key)
    return part if isinstance(part, dict) else {}


def _whole(settings: Mapping[str, Any], key: str) -> int:
    value = settings.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) and value > 0 else 0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
