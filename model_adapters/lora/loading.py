"""An adapter from disk or the Hub onto a loaded model: all of its weights, or one line that says why not."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.disk import check_checkpoint
from model_adapters.internvl2.weights import Grouping
from model_adapters.lora.names import NameLayout, best_layout, cleaned, layouts

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_BESIDE = "non_lora_trainables.bin"  # LLaVA's code: what it trained beside its LoRA
_PREFIX = "base_model.model."
_SHARED = ("lora_A.",)  # of a fused projection, all its parts have it
_EXTRA = ("token_adapter.",)
_KINDS = ("BOFT", "HRA", "IA3", "LOHA", "LOKR", "LORA", "OFT")


def load_adapter(model: Any, peft: str, *, former: Sequence[str]) -> Any:
    """Put an adapter on a model. Names of other versions and of other training code are translated.

    Args:
        model: of transformers, with its base weights.
        peft: the adapter's folder or Hub id.
        former: `Family.former_names`.

    Returns:
        The model within PEFT's, every weight of the adapter in it.

    Raises:
        UserError: files that are missing or cannot be read, a weight that fits no module, a module that the
            adapter's config names and its weights lack, or another shape.
    """
    check_checkpoint("peft", peft)
    folder = _folder(peft)
    with _saying(peft):
        config = _read_config(folder)
        weights = _read_weights(folder, peft)
        names = [name for name, _ in [*model.named_modules(), *model.named_parameters()]]
        text = model.config.get_text_config()
        grouping = Grouping(text.num_attention_heads, text.num_key_value_heads)
        layout = best_layout(
            layouts(names, former=former, grouping=grouping), [cleaned(key) for key in weights]
        )
        return _put_on(model, peft, config, weights, layout)


def _put_on(model: Any, peft: str, config: Any, weights: Mapping[str, Tensor], layout: NameLayout) -> Any:
    from peft import PeftModel, set_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    parameters = dict(model.named_parameters())
    saved = _modules_to_save(config, layout)
    tuner = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    tuned: dict[str, Tensor] = {}
    replaced: dict[str, Tensor] = {}
    modules: dict[str, str] = {}  # native -> in the file
    unknown = []
    for key, weight in weights.items():
        parts = layout.split(cleaned(key))
        if parts is None:
            unknown.append(key)
            continue
        old_name, rest = parts
        for target in layout.targets[old_name]:
            if rest.startswith((tuner, *_EXTRA)):
                shared = rest.startswith(_SHARED)
                tuned[f"{_PREFIX}{target.name}.{rest}"] = weight if shared else target.take(weight)
                if rest.startswith(tuner):
                    modules[target.name] = old_name
                continue
            name = f"{target.name}.{rest}" if rest else target.name
            if name not in parameters:
                unknown.append(key)
                break
            if any(f".{name}.".startswith(f".{module}.") for module in saved):
                tuned[f"{_PREFIX}{name}"] = target.take(weight)
            else:
                replaced[name] = target.take(weight)
    if unknown:
        raise UserError(
            f"peft={peft}: {len(unknown)} of its {len(weights)} weights fit no module of this model: "
            f"{_first(unknown)}; it is of another model, or of code whose names are not known"
        )
    lacking = _lacking(config, layout, modules)
    if lacking:
        raise UserError(
            f"peft={peft}: its {CONFIG} names {len(lacking)} modules whose weights it does not hold: "
            f"{_first(lacking)}"
        )
    _replace(peft, parameters, replaced)
    wrapped = PeftModel(model, _exact(config, modules, saved))
    set_peft_model_state_dict(wrapped, tuned)
    _check_loaded(peft, wrapped, tuned)
    _tell(peft, layout, weights, tuned)
    return wrapped


def _modules_to_save(config: Any, layout: NameLayout) -> list[str]:
    """The loaded model's modules that the adapter replaces in full (`modules_to_save`)."""
    named = tuple(getattr(config, "modules_to_save", None) or ())
    replaced_modules = [
        target.name
        for old_name, targets in layout.targets.items()
        for target in targets
        if any(f".{name}".endswith(f".{given}") for given in named for name in (old_name, target.name))
    ]
    return sorted(set(replaced_modules))


def _lacking(config: Any, layout: NameLayout, modules: Mapping[str, str]) -> list[str]:
    """The modules that the config names and the weights do not, by their names in the file."""
    from peft.tuners.tuners_utils import check_target_module_exists

    if not getattr(config, "target_modules", None):
        return []
    named = [old_name for old_name in layout.targets if check_target_module_exists(config, old_name)]
    if not named:  # a pattern that was written for other names than the file's
        named = [
            old_name
            for old_name, targets in layout.targets.items()
            if any(check_target_module_exists(config, target.name) for target in targets)
        ]
    return [
        old_name
        for old_name in named
        if not old_name.endswith((".weight", ".bias"))
        and any(target.name not in modules for target in layout.targets[old_name])
    ]


def _exact(config: Any, modules: Mapping[str, str], saved: Sequence[str]) -> Any:
    """The config with the loaded model's names: each module that has weights, its rank and its alpha."""
    from peft import PeftType
    from peft.utils.other import get_pattern_key

    config.task_type = None
    config.inference_mode = True
    if saved:
        config.modules_to_save = list(saved)
    if config.peft_type != PeftType.LORA or not modules:
        return config
    for pattern, default in (("rank_pattern", config.r), ("alpha_pattern", config.lora_alpha)):
        given = dict(getattr(config, pattern) or {})
        values = {
            name: given.get(get_pattern_key(list(given), old_name), default)
            for name, old_name in modules.items()
        }
        setattr(
            config,
            pattern,
            {f"^{re.escape(name)}": value for name, value in values.items() if value != default},
        )
    config.target_modules = set(modules)
    config.bias = "none"  # trained biases are in the base model's place already
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    return config


def _replace(peft: str, parameters: Mapping[str, Tensor], replaced: Mapping[str, Tensor]) -> None:
    """Replace the base model's modules that were trained in full (a projector, biases, embeddings)."""
    for name, weight in replaced.items():
        current = parameters[name]
        if current.shape != weight.shape:
            raise UserError(
                f"peft={peft}: its {name} is {list(weight.shape)}, the model's {list(current.shape)}"
            )
    with torch.no_grad():
        for name, weight in replaced.items():
            parameters[name].copy_(weight)


def _check_loaded(peft: str, wrapped: Any, tuned: Mapping[str, Tensor]) -> None:
    """That the model holds each weight of the file and no other one."""
    from peft import get_peft_model_state_dict

    loaded = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    given = {_plain(name): weight for name, weight in tuned.items()}
    held = {_plain(name): weight for name, weight in loaded.items()}
    for kind, names in (("lacks", set(held) - set(given)), ("has an unknown", set(given) - set(held))):
        if names:
            raise UserError(f"peft={peft} {kind} {_first(sorted(names))} ({len(names)} such weights)")
    other = [
        name
        for name, weight in given.items()
        if not torch.equal(held[name].cpu(), weight.to(held[name].dtype))
    ]
    if other:
        raise UserError(f"peft={peft}: {len(other)} weights were not loaded as they are: {_first(other)}")


def _plain(name: str) -> str:
    return name.removeprefix(_PREFIX).removesuffix(".weight")


def _tell(peft: str, layout: NameLayout, weights: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    if any(old_name != targets[0].name for old_name, targets in layout.targets.items()):
        print(
            f"peft={peft}: its {len(weights)} weights have the names of {layout.label}: translated",
            file=sys.stderr,
        )
    last = [weight for name, weight in tuned.items() if ".lora_B." in name]
    if last and not any(bool(weight.any()) for weight in last):
        print(f"peft={peft} changes nothing: all its lora_B weights are 0", file=sys.stderr)


def _folder(peft: str) -> Path:
    if os.path.isdir(os.path.expanduser(peft)):
        folder = Path(peft).expanduser()
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(peft, allow_patterns=[CONFIG, *_WEIGHTS, _BESIDE]))
        except (OSError, ValueError) as error:
            raise UserError(f"peft={peft} cannot be fetched: {_line(error)}") from error
    if not (folder / CONFIG).is_file():
        raise UserError(f"peft={peft} has no {CONFIG}: it is no adapter that PEFT wrote")
    return folder


def _read_config(folder: Path) -> Any:
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    kind = getattr(config.peft_type, "value", str(config.peft_type))
    if kind not in _KINDS:
        raise ValueError(f"it is a {kind} adapter; supported are {', '.join(_KINDS)}")
    for key in ("megatron_config", "layer_replication", "target_parameters"):
        if getattr(config, key, None):
            raise ValueError(f"its {key} is not supported")
    return config


def _read_weights(folder: Path, peft: str) -> dict[str, Tensor]:
    """The adapter's weights by their names in the file, with those of LLaVA's `non_lora_trainables.bin`."""
    from safetensors.torch import load_file

    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"peft={peft} has no {_WEIGHTS[0]}")
    weights = load_file(file) if file.suffix == ".safetensors" else _unpickled(file)
    if not weights:
        raise UserError(f"peft={peft}: its {file.name} holds no weights")
    if (folder / _BESIDE).is_file():
        weights = {**_unpickled(folder / _BESIDE), **weights}
    return weights


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Tensors of a pickle; no code in it is run."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file.name} is no table of weights")
    return content


@contextmanager
def _saying(peft: str) -> Iterator[None]:
    """What an adapter's files break, here or in PEFT, in one line."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    content = (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)
    try:
        yield
    except (*content, ArithmeticError, re.error, UnpicklingError, SafetensorError) as error:
        raise UserError(f"peft={peft} cannot be put on this checkpoint: {_line(error)}") from error


def _first(names: Sequence[str]) -> str:
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _line(error: BaseException) -> str:
    line = " ".join(str(error).split())[:300]
    return line if line and isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {line}"
