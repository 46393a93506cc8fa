"""What an answer depends on beside its doc, as hashes: weights, the model's settings, the processor's.

A hash says what was loaded, not where from: no path, no version and nothing that use changes is in it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic_eval.records import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

_MOST_THREADS = 16
_PIECE = 16 * 2**20  # bytes of a weight that a thread holds at once
_VOLATILE = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "auto_map",
        "auto_mapping",
        "base_model_name_or_path",
        "name_or_path",
        "peft_version",
        "revision",
        "transformers_version",
    }
)
_PARTS = ("image_processor", "tokenizer", "video_processor")
_TOKENIZER_SETTINGS = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "chat_template",
    "clean_up_tokenization_spaces",
    "model_max_length",
    "padding_side",
    "split_special_tokens",
    "truncation_side",
)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, sets too, no spaces, ASCII.

    Args:
        value: of None, numbers, strings, enums, paths, dtypes, devices, NumPy values, sets, sequences,
            mappings, and objects with `to_dict`.

    Raises:
        TypeError: something else is in it; the message says where.
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"))


def canonical_hash(value: Any) -> str:
    """SHA-256 (hex) of a value's `canonical_json`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def weights_hash(model: "nn.Module") -> str:
    """SHA-256 (hex) of a loaded model's weights, a PEFT adapter's among them.

    Over the name, shape, dtype and bytes of all parameters and persistent buffers, sorted by name; strides,
    device and tying do not matter. Tensors are hashed side by side, each tied one once. No tensor is copied
    whole: a thread holds at most 16 MiB of one that is on a GPU or not contiguous.

    Args:
        model: all of it in memory.

    Raises:
        UserError: a weight is not in memory, or is no dense tensor.
    """
    names: dict[str, tuple[Any, ...]] = {}
    held: dict[tuple[Any, ...], Tensor] = {}
    for name, weight in model.state_dict().items():
        if hasattr(weight, "to_local"):  # a part of it, with tp_plan=auto
            weight = weight.to_local()
        reason = _unreadable(weight)
        if reason:
            raise UserError(f"the weight {name} {reason}, so that answers cannot be stored: use journal=off")
        storage = (weight.device, weight.data_ptr(), weight.shape, weight.stride(), weight.dtype)
        names[name] = storage
        held[storage] = weight.detach()
    largest_first = sorted(held, key=lambda storage: -held[storage].nbytes)
    with ThreadPoolExecutor(_threads()) as pool:
        digests = dict(
            zip(largest_first, pool.map(_tensor_hash, map(held.__getitem__, largest_first)), strict=True)
        )
    return canonical_hash(
        [[name, held[p].shape, str(held[p].dtype), digests[p]] for name, p in sorted(names.items())]
    )


def config_hash(model: Any) -> str:
    """SHA-256 (hex) of what turns weights into answers: class, configuration, generation defaults, PEFT.

    The same weights answer otherwise with another rotary base, another end of the answer, or another scale of
    an adapter.

    Args:
        model: of transformers, or such a one within PEFT.

    Raises:
        UserError: a setting that has no JSON form.
    """
    adapters = getattr(model, "peft_config", None)
    base = model.get_base_model() if adapters else model
    return _settings_hash(
        {
            "class": type(base).__name__,
            "config": base.config,
            "generation": base.generation_config,
            "peft": adapters,
            "active_adapters": model.active_adapters if adapters else None,
        }
    )


def processor_hash(processor: Any) -> str:
    """SHA-256 (hex) of what turns a prompt and pictures into inputs, and tokens into text.

    The processor's own settings, the image processor's, and the tokenizer: vocabulary and rules, special
    tokens, chat template, sides. Not how the tokenizer padded or cut last, which its use changes, and not the
    video processor.

    Args:
        processor: of transformers, with an `image_processor` and a fast `tokenizer`.

    Raises:
        UserError: a tokenizer without a `tokenizers` backend, or a setting that has no JSON form.
    """
    tokenizer = processor.tokenizer
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise UserError(
            f"the tokenizer {type(tokenizer).__name__} is no fast one, so that answers cannot be stored: "
            "use journal=off"
        )
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    of_processor = {key: value for key, value in processor.to_dict().items() if key not in _PARTS}
    return _settings_hash(
        {
            "class": type(processor).__name__,
            "own": of_processor,
            "chat_template": getattr(processor, "chat_template", None),
            "image": [type(processor.image_processor).__name__, processor.image_processor],
            "backend": canonical_hash({**backend, "padding": None, "truncation": None}),
            "tokenizer": {name: getattr(tokenizer, name, None) for name in _TOKENIZER_SETTINGS},
            "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        }
    )


def code_hash() -> str:
    """SHA-256 over this package's own code: answers of an older version of it are not reused."""
    digest = hashlib.sha256()
    folder = Path(__file__).resolve().parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _settings_hash(settings: Mapping[str, Any]) -> str:
    try:
        return canonical_hash(_steady(_plain(settings, "settings")))
    except TypeError as error:
        raise UserError(f"answers cannot be stored for this model ({error}): use journal=off") from error


def _steady(plain: Any) -> Any:
    """Without the settings that say where something came from."""
    if isinstance(plain, dict):
        return {key: _steady(value) for key, value in plain.items() if key not in _VOLATILE}
    if isinstance(plain, list):
        return [_steady(value) for value in plain]
    return plain


def _plain(value: Any, where: str) -> Any:
    """`value` in JSON's own types, which `where` names in errors."""
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(_plain(key, where)): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(entry, where) for entry in value), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist(), where)
    kind = type(value)
    if isinstance(value, Path) or (kind.__module__, kind.__name__) in (
        ("torch", "dtype"),
        ("torch", "device"),
    ):
        return str(value)
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict(), where)
    raise TypeError(f"{where} is a {kind.__module__}.{kind.__name__}, which has no JSON form")


def _unreadable(weight: Any) -> str | None:
    """Why a weight's bytes cannot be read; None if they can."""
    import torch

    if not isinstance(weight, torch.Tensor):
        return "is no tensor"
    if weight.is_meta:
        return "is not in memory"
    return None if weight.layout == torch.strided else "is no dense tensor"


def _tensor_hash(tensor: "Tensor") -> str:
    import torch

    digest = hashlib.sha256()
    for piece in _pieces(tensor):
        digest.update(piece.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def _pieces(tensor: "Tensor") -> "Iterator[Tensor]":
    """A tensor in row-major order, in parts of at most `_PIECE` bytes that are not copies."""
    import torch

    if tensor.nbytes <= _PIECE:
        yield tensor
    elif tensor.is_contiguous():
        yield from torch.split(tensor.view(-1), _PIECE // tensor.itemsize)
    elif tensor[0].nbytes <= _PIECE:
        yield from torch.split(tensor, _PIECE // tensor[0].nbytes)
    else:
        for row in tensor.unbind():
            yield from _pieces(row)


def _threads() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_MOST_THREADS, usable or 1)
