"""A small processor of any model type: tokenizer, image processor and template that fit a tiny config."""

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

from model_adapters.tiny.common import make_tokenizer

_STANDARD = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_TOKEN = re.compile(r"""["'](<[^"'<>\s{}]{1,40}>|\[[A-Z_]{2,20}\])["']""")
_ATTRIBUTE = re.compile(r"""tokenizer(?:\.|, ["'])(\w+_token)\b(?!s)""")
_ATTRIBUTE_ID = re.compile(r"""tokenizer(?:\.|, ["'])(\w+_token)_id\b""")
_AREA = 1500
"""A shortest or longest edge above this many pixels is an area, as Qwen2-VL's image processor has it."""


class NoClass(LookupError):
    """transformers has no class of that kind for a model type."""


def processor_class(model_type: str, name: str | None = None) -> Any:
    """transformers' processor class of a model type.

    Args:
        model_type: as transformers names it.
        name: of the class, where transformers leaves it to the checkpoint's files.

    Raises:
        NoClass: it has none.
    """
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = name or PROCESSOR_MAPPING_NAMES.get(model_type)
    if name is None:
        raise NoClass("transformers names no processor for it")
    return getattr(transformers, name)


def special_tokens(kind: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    """The tokens that a processor's module names, and those that it takes from its tokenizer by attribute.

    Args:
        kind: the processor class.

    Returns:
        Literal tokens; attribute to token.
    """
    source = "".join(
        inspect.getsource(sys.modules[each.__module__])
        for each in kind.__mro__
        if ".models." in each.__module__
    )
    literal = tuple(dict.fromkeys(_TOKEN.findall(source)))
    names = [*_ATTRIBUTE.findall(source), *_ATTRIBUTE_ID.findall(source)]
    wanted = [
        name
        for name in dict.fromkeys(names)
        if not name.startswith("add_") and name.removesuffix("_token") not in _STANDARD
    ]
    return literal, {name: f"<{name.removesuffix('_token')}>" for name in wanted}


def tiny_tokenizer(kind: Any, facts: Mapping[str, Any]) -> Any:
    """A byte-level tokenizer with a processor's special tokens.

    Args:
        kind: the processor class.
        facts: of its model type, see `any_facts`.
    """
    from transformers import PreTrainedTokenizerFast

    literal, named = special_tokens(kind)
    named |= facts.get("named", {})
    extra = facts.get("tokens", ())
    standard = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<s>")
    rows = (
        tuple(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7))
        if "row_" in inspect.getsource(sys.modules[kind.__module__])
        else ()
    )
    tokens = tuple(dict.fromkeys((*standard, *literal, *named.values(), *rows, *extra)))
    trained = make_tokenizer(tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        bos_token="<s>",
        extra_special_tokens=named,
        additional_special_tokens=[token for token in tokens[5:] if token not in named.values()],
    )


def _class_of(mapping: Mapping[str, Any], model_type: str, processor: Any, what: str) -> Any:
    """The class of a part: the model type's, else that of the type that its processor is made for."""
    import transformers

    made_for = processor.__module__.split(".")[-2]
    candidate = mapping.get(model_type) or mapping.get(made_for)
    if isinstance(candidate, Mapping):
        candidate = candidate.get("torchvision") or candidate.get("pil")
    if isinstance(candidate, tuple | list):
        candidate = candidate[-1] or candidate[0]
    if candidate is None:
        raise NoClass(f"transformers names no {what} for it")
    return getattr(transformers, candidate)


def tiny_sizes(kind: Any, side: int, patch: int) -> dict[str, Any]:
    """Arguments that make an image or video processor small.

    Args:
        kind: its class.
        side: pixels a side of an image.
        patch: pixels a side of a patch.
    """
    made: dict[str, Any] = {}
    for name in ("size", "crop_size", "max_image_size"):
        size: Any = getattr(kind, name, None)
        if isinstance(size, dict) or hasattr(size, "keys"):
            made[name] = {key: _edge(key, value, side, patch) for key, value in dict(size).items()}
        elif isinstance(size, int) and not isinstance(size, bool):
            made[name] = side
    for name in ("patch_size",):
        if isinstance(getattr(kind, name, None), int):
            made[name] = patch
    for name, value in (("min_pixels", 4 * patch * patch), ("max_pixels", 64 * patch * patch)):
        if isinstance(getattr(kind, name, None), int):
            made[name] = value
    if isinstance(getattr(kind, "image_grid_pinpoints", None), list):
        made["image_grid_pinpoints"] = [[a * side, b * side] for a in (1, 2) for b in (1, 2)]
    return made


def _edge(name: str, value: Any, side: int, patch: int) -> Any:
    if not isinstance(value, int):
        return value
    if value > _AREA:
        return (4 if name.startswith(("shortest", "min")) else 64) * patch * patch
    return side


def tiny_processor(model_type: str, config: Any, facts: Mapping[str, Any]) -> Any:
    """A processor for a tiny config.

    Args:
        model_type: as transformers names it.
        config: its tiny config; not changed.
        facts: of its model type, see `any_facts`.

    Raises:
        NoClass: a part has no class.
    """
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

    kind = processor_class(model_type, facts.get("processor"))
    side, patch = picture_size(config)
    arguments: dict[str, Any] = {}
    for name in kind.get_attributes():
        if "tokenizer" in name:
            arguments[name] = tiny_tokenizer(kind, facts)
            continue
        mapping, what = {
            "image_processor": (IMAGE_PROCESSOR_MAPPING_NAMES, "image processor"),
            "video_processor": (VIDEO_PROCESSOR_MAPPING_NAMES, "video processor"),
        }.get(name, (FEATURE_EXTRACTOR_MAPPING_NAMES, "feature extractor"))
        part = _class_of(mapping, model_type, kind, what)
        sizes = tiny_sizes(part, side, patch) if name != "feature_extractor" else {}
        sizes |= facts.get(name.removesuffix("_processor"), {})
        arguments[name] = part(**sizes)
    arguments |= _counts(kind, config, side, patch)
    arguments |= facts.get("arguments", {})
    return kind(**arguments)


def picture_size(config: Any) -> tuple[int, int]:
    """Pixels a side of an image and of a patch, as a config has them."""
    vision = getattr(config, "vision_config", None) or config
    patch = _first(getattr(vision, "patch_size", None) or 16)
    side = _first(getattr(vision, "image_size", None) or 4 * patch)
    return int(side), int(patch)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value


def _counts(kind: Any, config: Any, side: int, patch: int) -> dict[str, Any]:
    """Arguments of a processor that repeat what its config says of patches and tokens."""
    names = inspect.signature(kind.__init__).parameters
    vision = getattr(config, "vision_config", config)
    made: dict[str, Any] = {}
    if "patch_size" in names:
        made["patch_size"] = patch
    for name in ("vision_feature_select_strategy", "downsample_factor", "spatial_merge_size", "scale_factor"):
        value = getattr(config, name, None) or getattr(vision, name, None)
        if name in names and value is not None:
            made[name] = value
    tokens = getattr(config, "mm_tokens_per_image", None) or getattr(config, "image_seq_length", None)
    patches = (side // patch) ** 2
    if "num_additional_image_tokens" in names:
        made["num_additional_image_tokens"] = int("clip" in getattr(vision, "model_type", ""))
    ratio = getattr(config, "downsample_ratio", None) or 1 / (getattr(config, "scale_factor", None) or 1)
    patches = int(patches * ratio**2)
    for name in ("image_seq_length", "image_seq_len", "num_image_tokens", "num_image_token"):
        if name in names:
            made[name] = tokens if tokens and tokens <= patches else patches
    return made
