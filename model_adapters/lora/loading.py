"""An adapter from disk or the Hub onto a loaded model: all of its weights, or one line that says why not."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.internvl2.weights import Grouping
from model_adapters.lora.files import CONFIG, first_of, read_adapter, unreadable
from model_adapters.lora.names import NameLayout, best_layout, layouts
from model_adapters.refusals import first_line

_PREFIX = "base_model.model."
_SHARED = ("lora_A.",)  # of a fused projection, all its parts have it
_EXTRA = ("token_adapter.",)


def load_adapter(model: Any, peft: str, *, former: Sequence[str], base: str | None = None) -> Any:
    """Put an adapter on a model. Names of other versions and of other training code are translated.

    Args:
        model: of transformers, with its base weights.
        peft: the adapter's folder or Hub id.
        former: `Family.former_names`.
        base: the model's checkpoint as the user names it; a line says where the adapter names another.

    Returns:
        The model within PEFT's, every weight of the adapter in it.

    Raises:
        UserError: files that are missing or cannot be read, a weight that fits no module, a module that the
            adapter's config names and its weights lack, or another shape.
    """
    with _saying(peft):
        config, weights = read_adapter(peft, base=base)
        names = [name for name, _ in [*model.named_modules(), *model.named_parameters()]]
        text = model.config.get_text_config()
        grouping = Grouping(text.num_attention_heads, text.num_key_value_heads)
        layout = best_layout(layouts(names, former=former, grouping=grouping), list(weights))
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
        parts = layout.split(key)
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
            f"{first_of(unknown)}; it is of another model, or of code whose names are not known"
        )
    lacking = _lacking(config, layout, modules)
    if lacking:
        raise UserError(
            f"peft={peft}: its {CONFIG} names {len(lacking)} modules whose weights it does not hold: "
            f"{first_of(lacking)}"
        )
    _check_shapes(peft, replaced, parameters)
    with torch.no_grad():
        for name, weight in replaced.items():
            parameters[name].copy_(weight)
    wrapped = PeftModel(model, _exact(config, modules, saved))
    given = {_plain(name): weight for name, weight in tuned.items()}
    held = _held(wrapped)
    for kind, names in (("lacks", set(held) - set(given)), ("has an unknown", set(given) - set(held))):
        if names:
            raise UserError(f"peft={peft} {kind} {first_of(sorted(names))} ({len(names)} such weights)")
    _check_shapes(peft, given, held)
    set_peft_model_state_dict(wrapped, tuned)
    _check_loaded(peft, wrapped, given)
    _tell(peft, layout, weights, tuned)
    return wrapped


def _modules_to_save(config: Any, layout: NameLayout) -> list[str]:
    """The loaded model's modules that the adapter replaces in full (`modules_to_save`)."""
    given = getattr(config, "modules_to_save", None) or ()
    named = (given,) if isinstance(given, str) else tuple(given)
    replaced_modules = [
        target.name
        for old_name, targets in layout.targets.items()
        for target in targets
        if any(f".{name}".endswith(f".{end}") for end in named for name in (old_name, target.name))
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
    config.modules_to_save = list(saved) or None
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


def _check_shapes(peft: str, given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights of another shape, with its likely reason: added tokens, FSDP's flat parts."""
    other = [name for name, weight in given.items() if weight.shape != expected[name].shape]
    if not other:
        return
    name = other[0]
    hint = ""
    if name.removesuffix(".weight").endswith(("embed_tokens", "lm_head")):
        hint = "; training added tokens: merge it, and load the result by pretrained="
    elif given[name].ndim < expected[name].ndim:
        hint = "; it is one process's part of FSDP's weights: save with state_dict_type FULL_STATE_DICT"
    raise UserError(
        f"peft={peft}: its {name} is {list(given[name].shape)}, the model's {list(expected[name].shape)} "
        f"({len(other)} such weights){hint}"
    )


def _held(wrapped: Any) -> dict[str, Tensor]:
    """What PEFT's model holds of an adapter, by plain names."""
    from peft import get_peft_model_state_dict

    held = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    return {_plain(name): weight for name, weight in held.items()}


def _check_loaded(peft: str, wrapped: Any, given: Mapping[str, Tensor]) -> None:
    """That the model holds each weight of the file."""
    held = _held(wrapped)
    other = [
        name
        for name, weight in given.items()
        if not torch.equal(held[name].cpu(), weight.to(held[name].dtype))
    ]
    if other:
        raise UserError(f"peft={peft}: {len(other)} weights were not loaded as they are: {first_of(other)}")


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


@contextmanager
def _saying(peft: str) -> Iterator[None]:
    """What an adapter's files break, here or in PEFT, in one line."""
    try:
        yield
    except unreadable() as error:
        line = " ".join(first_line(error).split())
        raise UserError(f"peft={peft} cannot be put on this checkpoint: {line[:300]}") from error
