"""An adapter's files: its folder, PEFT's config, and the weights that training code writes beside PEFT's."""

import json
import os
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.disk import check_within_reach
from model_adapters.lora.names import cleaned
from model_adapters.refusals import first_line

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_BESIDE = (  # what was trained in full beside the adapter
    "non_lora_trainables.bin",  # LLaVA's and LLaVA-NeXT's code
    "non_lora_trainables.safetensors",
    "non_lora_state_dict.bin",  # Qwen-VL-Series-Finetune
    "non_lora_state_dict.safetensors",
    "mm_projector.bin",  # LLaVA's first stage
    "vit.safetensors",  # ms-swift's example of a vision tower trained in full
)
_STATE_OF_TRAINING = re.compile(
    r"(training_args|optimizer|scheduler|scaler|sampler|rng_state|random_states|global_step)[\w-]*\.\w+"
)
_KINDS = ("BOFT", "HRA", "IA3", "LOHA", "LOKR", "LORA", "OFT")
_REFUSED = {
    "alora_invocation_tokens": "an adapter that acts after certain tokens only",
    "arrow_config": "it routes between several adapters",
    "layer_replication": "it repeats layers",
    "megatron_config": "its layers are Megatron's",
    "monteclora_config": "it draws weights at random",
    "target_parameters": "it changes parameters that are no modules",
    "use_bdlora": "its matrices are block-diagonal",
    "use_qalora": "it pools the inputs of quantised layers",
}
_OTHER_BASE = re.compile(r"pissa_niter_\w+|corda|lora_ga|loftq", re.IGNORECASE)


def read_adapter(peft: str, *, base: str | None = None) -> tuple[Any, dict[str, Tensor]]:
    """PEFT's config of an adapter, and its weights by their names in the files, `cleaned`.

    Weights that were trained in full and lie in files of their own are among them; where both an adapter's
    file and such a file have a weight, the adapter's counts, as in the code that writes them.

    Args:
        peft: the adapter's folder or Hub id.
        base: the checkpoint that it is put on, to say where it was trained on another one.

    Raises:
        UserError: files that are missing, or that contain no adapter.
    """
    folder = _folder(peft)
    settings = _settings(folder / CONFIG, peft)
    config = _config(settings, peft)
    weights = _read_weights(folder, peft)
    _tell_files(folder, peft)
    _tell_base(settings.get("base_model_name_or_path"), base, peft)
    return config, weights


def _folder(peft: str) -> Path:
    check_within_reach("peft", peft)
    if os.path.isdir(os.path.expanduser(peft)):
        folder = Path(peft).expanduser()
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(peft, allow_patterns=[CONFIG, *_WEIGHTS, *_BESIDE]))
        except (OSError, ValueError) as error:
            raise UserError(f"peft={peft} cannot be fetched: {first_line(error)}") from error
    if (folder / CONFIG).is_file():
        return folder
    below = [path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{CONFIG}")]
    inner = sorted(below, key=lambda path: path.stat().st_mtime)
    if inner:
        hint = f"; {len(inner)} folders below have one: the last written is peft={inner[-1].parent}"
    elif (folder / "config.json").is_file():
        hint = ": it is a model, which pretrained= loads"
    else:
        hint = ": it is no adapter that PEFT wrote"
    raise UserError(f"peft={peft} has no {CONFIG}{hint}")


def _settings(path: Path, peft: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"peft={peft}: its {CONFIG} cannot be read: {first_line(error)}") from error
    if not isinstance(settings, dict):
        raise UserError(f"peft={peft}: its {CONFIG} is a {type(settings).__name__}, not an object")
    return settings


def _config(settings: Mapping[str, Any], peft: str) -> Any:
    """PEFT's config; of fields that this version of PEFT does not know, those that are set are reported."""
    import peft as library
    from peft import PeftConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = settings.get("peft_type")
    if kind not in _KINDS:
        raise UserError(f"peft={peft}: its {CONFIG} has peft_type {kind}; supported are {', '.join(_KINDS)}")
    for key, reason in _REFUSED.items():
        if settings.get(key):
            raise UserError(f"peft={peft}: its {CONFIG} sets {key} ({reason}), which is not supported")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and _OTHER_BASE.fullmatch(start):
        raise UserError(
            f"peft={peft} was trained with init_lora_weights={start}, which changed the base model's weights "
            "in a way that its files do not tell: save it with path_initial_model_for_weight_conversion"
        )
    known = set(PEFT_TYPE_TO_CONFIG_MAPPING[kind].__dataclass_fields__) - {"runtime_config"}
    unknown = {key: value for key, value in settings.items() if key not in known and value}
    unknown.pop("runtime_config", None)  # of the process that wrote it
    if unknown:
        listed = ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted(unknown.items()))
        print(
            f"peft={peft}: PEFT {library.__version__} does not know these fields of its {CONFIG}, which have "
            f"no effect: {listed[:200]}",
            file=sys.stderr,
        )
    return PeftConfig.from_peft_type(**{key: value for key, value in settings.items() if key in known})


def _read_weights(folder: Path, peft: str) -> dict[str, Tensor]:
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"peft={peft} has no {_WEIGHTS[0]}")
    adapter = _of_file(file, peft)
    if not adapter:
        raise UserError(f"peft={peft}: its {file.name} holds no weights")
    weights: dict[str, Tensor] = {}
    for name in _BESIDE:
        if (folder / name).is_file():
            weights.update(_of_file(folder / name, peft))
    weights.update({key: weight for key, weight in adapter.items() if weight.numel() or key not in weights})
    empty = [key for key, weight in weights.items() if not weight.numel()]
    if empty:
        raise UserError(
            f"peft={peft}: {len(empty)} of its {len(weights)} weights are empty: {first_of(empty)}; "
            "DeepSpeed ZeRO-3 saved them without gathering them: save again with "
            "stage3_gather_16bit_weights_on_model_save, or run zero_to_fp32.py"
        )
    broken = [key for key, weight in weights.items() if not bool(weight.isfinite().all())]
    if broken:
        raise UserError(
            f"peft={peft}: {len(broken)} of its {len(weights)} weights have NaN or infinity: "
            f"{first_of(broken)}"
        )
    return weights


def _of_file(file: Path, peft: str) -> dict[str, Tensor]:
    """A file's weights, `cleaned`; not the originals of modules that were trained in full."""
    from safetensors.torch import load_file

    raw = load_file(file) if file.suffix == ".safetensors" else _unpickled(file)
    weights: dict[str, Tensor] = {}
    for key, weight in raw.items():
        if ".original_module." in key and key.replace("original_module", "modules_to_save.default") in raw:
            continue
        name = cleaned(key)
        if name in weights and not torch.equal(weights[name], weight):
            raise UserError(f"peft={peft}: its {file.name} has two weights {name}: it holds several adapters")
        weights[name] = weight
    return weights


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Tensors of a pickle; no code in it is run."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file.name} is no table of weights")
    return content


def _tell_files(folder: Path, peft: str) -> None:
    """Report weights in the folder that are not read, and those that a checkpoint of LLaVA's code lacks."""
    read = (*_WEIGHTS, *_BESIDE)
    others = [
        path.name
        for suffix in ("safetensors", "bin")
        for path in sorted(folder.glob(f"*.{suffix}"))
        if path.name not in read and not _STATE_OF_TRAINING.fullmatch(path.name)
    ]
    if others:
        print(f"peft={peft}: weights in its folder that are not read: {first_of(others)}", file=sys.stderr)
    for name in _BESIDE:
        if (folder.parent / name).is_file() and not (folder / name).is_file():
            print(
                f"peft={peft} has no {name}, as the folder around it has: what was trained in full beside "
                "this adapter is not in it",
                file=sys.stderr,
            )


def _tell_base(trained_on: Any, base: str | None, peft: str) -> None:
    """Report an adapter that names another base model; a folder of the same name is the same."""
    if isinstance(trained_on, str) and base and trained_on and _short(trained_on) != _short(base):
        print(f"peft={peft} was trained on {trained_on}; pretrained={base}", file=sys.stderr)


def _short(name: str) -> str:
    """A checkpoint's name without what it lies in, and without the mark of transformers' format."""
    if match := re.search(r"models--[^/]+--([^/]+)/snapshots/", name):
        name = match[1]
    name = name.removeprefix("embedded:")
    return os.path.basename(os.path.normpath(name)).lower().removesuffix("-hf")


def first_of(names: list[str]) -> str:
    """The first three names of a list, and how many more there are."""
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def unreadable() -> tuple[type[BaseException], ...]:
    """What files of another content than an adapter's break, here or in PEFT."""
    from safetensors import SafetensorError

    content = (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)
    return (*content, ArithmeticError, re.error, pickle.UnpicklingError, SafetensorError)
