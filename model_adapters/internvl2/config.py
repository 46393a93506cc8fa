"""The original `config.json` as transformers' own InternVLConfig."""

from collections.abc import Mapping
from typing import Any

from mimic_eval.records import UserError
from model_adapters.internvl2.files import fitting

Settings = Mapping[str, Any]

_TEXT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
)
_TEXT_OF = {
    "InternLM2ForCausalLM": ("llama", _TEXT),
    "LlamaForCausalLM": ("llama", (*_TEXT, "attention_bias", "mlp_bias", "head_dim")),
    "Phi3ForCausalLM": (
        "phi3",
        (*_TEXT, "original_max_position_embeddings", "partial_rotary_factor", "sliding_window"),
    ),
    "Qwen2ForCausalLM": ("qwen2", (*_TEXT, "use_sliding_window", "sliding_window", "max_window_layers")),
}
_NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
_ROPE = {"InternLM2ForCausalLM": ("dynamic", "linear"), "Phi3ForCausalLM": ("su", "longrope")}
_PHI3_LENGTH = 4096
_MOST_TILES = 256
_Q_NORM_EPS = 1e-6  # fixed in the native class


def decoder_kind(settings: Settings) -> str:
    """The class name of the language model.

    Raises:
        UserError: none, or one that InternVL2 does not have.
    """
    kinds = settings.get("llm_config", {}).get("architectures") or ["none"]
    if kinds[0] not in _TEXT_OF:
        raise UserError(f"its language model is {kinds[0]}; known are {', '.join(sorted(_TEXT_OF))}")
    return str(kinds[0])


def tile_settings(settings: Settings) -> tuple[int, int]:
    """The least and the most tiles of an image, its thumbnail apart."""
    if not settings.get("dynamic_image_size", False):
        return 1, 1
    least, most = int(settings.get("min_dynamic_patch", 1)), int(settings.get("max_dynamic_patch", 6))
    if not 1 <= least <= most <= _MOST_TILES:
        raise UserError(f"its min_dynamic_patch is {least}, its max_dynamic_patch {most}")
    return least, most


def native_config(settings: Settings, *, image_token_id: int) -> Any:
    """The native configuration.

    Args:
        settings: of an original `config.json`. What it leaves out has the original classes' defaults.
        image_token_id: of the image placeholder.

    Raises:
        UserError: something the native class does not do.
    """
    with fitting("config.json"):
        _check(settings)
        return _native_config(settings, image_token_id)


def _native_config(settings: Settings, image_token_id: int) -> Any:
    from transformers import InternVLConfig, InternVLVisionConfig

    vision, text = settings["vision_config"], settings["llm_config"]
    ratio = float(settings.get("downsample_ratio", 0.5))
    if not 0 < ratio <= 1:
        raise UserError(f"its downsample_ratio is {ratio}")
    side = vision["image_size"] // vision["patch_size"]
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return InternVLConfig(
        vision_config=InternVLVisionConfig(
            **{key: vision[key] for key in (*sizes, "image_size", "patch_size")},
            num_channels=vision.get("num_channels", 3),
            hidden_act=vision.get("hidden_act", "gelu"),
            norm_type=vision.get("norm_type", "rms_norm"),
            layer_norm_eps=vision.get("layer_norm_eps", 1e-6),
            attention_bias=vision.get("qkv_bias", False),
            use_qk_norm=vision.get("qk_normalization", True),
            use_mean_pooling=True,
        ),
        text_config=_text_config(settings),
        image_token_id=image_token_id,
        image_seq_length=int(side**2 * ratio**2),
        downsample_ratio=ratio,
        vision_feature_layer=-1,
        tie_word_embeddings=bool(text.get("tie_word_embeddings", False)),
        dtype=settings.get("torch_dtype") or settings.get("dtype"),
        architectures=["InternVLForConditionalGeneration"],
    )


def _text_config(settings: Settings) -> Any:
    from transformers import CONFIG_MAPPING

    text, kind = settings["llm_config"], decoder_kind(settings)
    model_type, keys = _TEXT_OF[kind]
    copied = {key: text[key] for key in keys if text.get(key) is not None}
    if kind == "InternLM2ForCausalLM":
        copied["attention_bias"] = bool(text.get("bias", True))
    if kind == "Phi3ForCausalLM" and "rope_scaling" in copied:
        # "su" was Phi3's first name for it, and its length stood beside it
        length = text.get("original_max_position_embeddings", _PHI3_LENGTH)
        copied["rope_scaling"] = {
            **copied["rope_scaling"],
            "type": "longrope",
            "original_max_position_embeddings": length,
        }
    return CONFIG_MAPPING[model_type](
        **copied, tie_word_embeddings=bool(text.get("tie_word_embeddings", False)), pad_token_id=None
    )


def _check(settings: Settings) -> None:
    """Refuse what the native class does in another way, or not at all."""
    vision, text = settings.get("vision_config", {}), settings.get("llm_config", {})
    kind = decoder_kind(settings)
    for part, section, keys in (
        ("vision_config", vision, ("hidden_size", "image_size", "patch_size", *_NEEDED[2:])),
        ("llm_config", text, _NEEDED),
    ):
        for key in keys:
            if not isinstance(section.get(key), int):
                raise UserError(f"its {part} has no {key}")
            if section[key] < 1:
                raise UserError(f"its {part}'s {key} is {section[key]}")
    if (version := settings.get("ps_version", "v1")) != "v2":
        raise UserError(f"its ps_version is {version}: only v2 (InternVL2 and later) can be converted")
    if (layer := settings.get("select_layer", -1)) != -1:
        raise UserError(f"its select_layer is {layer}: only -1 can be converted")
    if (size := settings.get("force_image_size") or vision["image_size"]) != vision["image_size"]:
        raise UserError(
            f"its force_image_size is {size}, its vision tower's image_size {vision['image_size']}"
        )
    if settings.get("dynamic_image_size", False) and not settings.get("use_thumbnail", False):
        raise UserError("its use_thumbnail is false: the native processor always adds a thumbnail")
    if settings.get("pad2square", False):
        raise UserError("its pad2square is true: the native processor does not pad")
    for key in ("use_backbone_lora", "use_llm_lora"):
        if settings.get(key):
            raise UserError(f"its {key} is {settings[key]}: merge the LoRA weights first")
    if vision.get("qk_normalization", True) and vision.get("layer_norm_eps", 1e-6) != _Q_NORM_EPS:
        raise UserError(f"its qk_normalization has layer_norm_eps {vision['layer_norm_eps']}: only 1e-6 fits")
    scaling = text.get("rope_scaling") or {}
    rope = scaling.get("type", scaling.get("rope_type", "none"))
    if scaling and kind in _ROPE and rope not in _ROPE[kind]:
        raise UserError(f"its rope_scaling is {rope}; for {kind} it can be {' or '.join(_ROPE[kind])}")
    if text.get("rope_pos_id_version", "default") != "default":
        raise UserError(f"its rope_pos_id_version is {text['rope_pos_id_version']}: only default fits")
