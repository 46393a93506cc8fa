"""A small config of any model type, from the defaults of its own config class."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH = 64
"""All widths are equal, so that whatever one part hands to another fits."""

_HEADS = 4
_KV_HEADS = 2
_PATCHES = 4
"""Patches a side of an image."""

_LAYERS = 4
_MOST_LAYERS = 8


def _named(value: int, names: str) -> dict[str, int]:
    return dict.fromkeys(names.split(), value)


_FIELDS: dict[str, int] = {
    **_named(
        WIDTH,
        """adapter_in_dim adapter_input_size adapter_out_dim d_model decoder_hidden_size dim embed_dim
        encoder_hidden_size hidden_dim hidden_size image_text_hidden_size image_token_embed_dim
        kv_dim mm_embed_dim moe_hidden_size out_hidden_size output_dim output_hidden_size
        output_proj_dims patch_embed_hidden_size projection_dim projection_hidden_dim
        projection_hidden_size projector_hidden_size projector_input_dim projector_output_dim
        text_hidden_size vision_hidden_size vision_output_dim word_embed_proj_dim""",
    ),
    **_named(
        2 * WIDTH,
        """alignment_intermediate_size d_ff decoder_ffn_dim dense_intermediate_size encoder_ffn_dim ffn_dim
        intermediate_size intermediate_size_mlp merged_hidden_size mlp_dim moe_intermediate_size
        moe_shared_expert_intermediate_size projection_intermediate_size share_expert_dim
        shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size""",
    ),
    **_named(
        _HEADS,
        """attention_heads conf_num_attention_heads decoder_attention_heads encoder_attention_heads
        index_n_heads linear_num_heads linear_num_value_heads mamba_num_heads num_attention_heads
        num_heads num_sliding_attention_heads swa_num_attention_heads resampler_heads
        resampler_n_heads""",
    ),
    **_named(_KV_HEADS, "linear_num_key_heads num_key_value_heads swa_num_key_value_heads"),
    **_named(
        WIDTH // _HEADS,
        """d_kv global_head_dim head_dim index_head_dim linear_head_dim linear_key_head_dim
        linear_value_head_dim mamba_head_dim qk_head_dim query_pre_attn_scalar resampler_dim_head
        resampler_head_dim swa_head_dim v_head_dim""",
    ),
    **_named(8, "qk_nope_head_dim qk_rope_head_dim rotary_dim"),
    **_named(4, "moe_num_experts n_routed_experts num_experts num_local_experts"),
    **_named(2, "moe_k moe_topk num_experts_per_tok num_registers top_k_experts"),
    **_named(1, "n_group topk_group"),
    **_named(2, "resampler_depth depth"),
    **_named(4, "mm_tokens_per_image vision_soft_tokens_per_image"),
    **_named(
        16,
        """chunk_size hidden_size_per_layer_input kv_lora_rank latent_query_num resampler_n_latents
        ssm_state_size""",
    ),
    **_named(24, "sliding_window sliding_window_size"),
    **_named(32, "attention_chunk_size base_channels q_lora_rank"),
    "max_image_size": 128,
    "num_embeddings": 64,
}
"""What a field becomes, if the class's default is larger."""

_DEPTHS = _named(
    0,
    """num_hidden_layers depth layers n_layers num_layers decoder_layers encoder_layers num_decoder_layers
        conf_num_hidden_layers""",
)
_KINDS = _named(
    0, "layer_types layers_block_type mlp_layer_types indexer_types no_rope_layers layer_rope_theta"
)
_DISTINCT = _named(
    0,
    """cross_attention_layers deepstack_visual_indexes fullatt_block_indexes global_attn_indexes
        intermediate_layers_indices vision_feature_layer""",
)


def tiny_config(model_type: str, *, vocabulary: int, changes: Mapping[str, Any] | None = None) -> Any:
    """A config of a few layers, 64 wide.

    Args:
        model_type: as transformers names it.
        vocabulary: tokens.
        changes: dotted field to value, in addition.

    Raises:
        Exception: whatever the config class says of sizes that it checks.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    fields = kind().to_dict()
    for name, part in kind.sub_configs.items():
        made: Any = part
        if "vision" in name and fields.get(name) is None and hasattr(made, "model_type"):
            fields[name] = made().to_dict()
    fields = shrink(fields, vocabulary)
    _add_sections(kind, fields)
    for path, value in (changes or {}).items():
        *folders, name = path.split(".")
        part = fields
        for folder in folders:
            part = part[folder]
        part[name] = value
    return kind.from_dict(fields)


def _add_sections(kind: Any, fields: dict[str, Any]) -> None:
    """Sections of a rotary embedding of several axes, where a class takes a large head's by default."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    name = next((part for part in ("text_config", "llm_config", "language_config") if part in fields), None)
    part = fields if name is None else fields[name]
    own = part.get("model_type") or fields.get("model_type")
    kinds = [kind, *([CONFIG_MAPPING[own]] if own in CONFIG_MAPPING else [])]
    if name is not None and isinstance(kind.sub_configs.get(name), type):
        kinds.append(kind.sub_configs[name])
    if not any("mrope_section" in _modeling_source(each) for each in kinds):
        return
    heads = part.get("head_dim") or part["hidden_size"] // part["num_attention_heads"]
    rope = part.get("rope_parameters")
    for each in [rope] if "rope_type" in (rope or {}) else (rope or {}).values():
        if isinstance(each, dict) and not each.get("mrope_section"):
            share = each.get("partial_rotary_factor", part.get("partial_rotary_factor", 1.0)) or 1.0
            half = int(heads * share) // 2
            small = half * 3 // 8
            each["mrope_section"] = (
                [small, small, half - 2 * small]
                if "ernie" in str(kind.model_type)
                else [half - 2 * small, small, small]
            )


def _modeling_source(kind: Any) -> str:
    """The text of the modeling file beside a config class."""
    path = Path(inspect.getfile(kind))
    beside = path.with_name(path.name.replace("configuration_", "modeling_"))
    return beside.read_text(encoding="utf-8") if beside.is_file() else ""


def shrink(fields: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    """The fields of a config tree, made small; what no rule names stays.

    Args:
        fields: of `to_dict`.
        vocabulary: tokens.
    """
    depths = {name: fields[name] for name in _DEPTHS if isinstance(fields.get(name), int)}
    before = max(depths.values(), default=0)
    after = _depth(fields, before)
    made: dict[str, Any] = {}
    for name, value in fields.items():
        if (
            isinstance(value, dict)
            and name != "per_layer_config"
            and all(isinstance(key, str) for key in value)
        ):
            made[name] = _rope(value) if str(name).startswith("rope_") else shrink(value, vocabulary)
        elif name in depths:
            made[name] = min(value, after)
        elif name == "vocab_size" or name.startswith("vocab_size_per"):
            made[name] = vocabulary
        elif name == "image_size":
            made[name] = _image_size(fields, value)
        elif name == "per_layer_config" and isinstance(value, dict):
            made[name] = {
                layer: shrink(own, vocabulary) for layer, own in value.items() if int(layer) < after
            }
        elif name.endswith(("_token_id", "_token_index")) and isinstance(value, int) and value >= vocabulary:
            made[name] = 0
        elif isinstance(value, list) and before and len(value) == before:
            made[name] = value[:after]
        elif name in _DISTINCT and isinstance(value, list):
            own = len(value) if any(index < 0 for index in value) else min(len(value), after)
            made[name] = [-1 - i if value[0] < 0 else i for i in range(own)]
        elif name == "image_grid_pinpoints" and isinstance(value, list):
            side = _image_size(fields.get("vision_config") or fields, 0)
            made[name] = [[a * side, b * side] for a in (1, 2) for b in (1, 2)]
        elif isinstance(value, int) and not isinstance(value, bool) and name in _FIELDS:
            made[name] = min(value, _FIELDS[name]) if value > 0 else value
        else:
            made[name] = value
    if fields.get("qk_rope_head_dim") and fields.get("head_dim") == fields["qk_rope_head_dim"]:
        made["head_dim"] = made["qk_rope_head_dim"]
    if isinstance(made.get("num_key_value_heads"), int) and fields.get("num_key_value_heads") == fields.get(
        "num_attention_heads"
    ):
        made["num_key_value_heads"] = made["num_attention_heads"]
    return made


def _depth(fields: Mapping[str, Any], before: int) -> int:
    """Layers that show each kind of layer once at least."""
    after = _LAYERS
    for name in _KINDS:
        kinds = fields.get(name)
        if isinstance(kinds, Sequence) and not isinstance(kinds, str) and len(kinds) == before:
            seen = [kinds.index(kind) for kind in set(kinds)]
            after = max(after, max(seen) + 1)
    return min(after, _MOST_LAYERS, before) if before else 0


def _image_size(fields: Mapping[str, Any], value: Any) -> Any:
    patch = fields.get("patch_size", 16)
    side = _PATCHES * (patch[0] if isinstance(patch, list | tuple) else patch or 16)
    return [side, side] if isinstance(value, list | tuple) else side


def _rope(value: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings; `_add_sections` makes the sections of several axes."""
    made = {k: _rope(v) if isinstance(v, dict) else v for k, v in value.items()}
    if isinstance(made.get("mrope_section"), list):
        del made["mrope_section"]
    return made
