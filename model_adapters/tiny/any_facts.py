"""What the rules for tiny checkpoints cannot know of a model type."""

from typing import Any

_PERCEPTION = {
    "embed_dim": 64,
    "depth": 2,
    "img_size": [56, 56],
    "global_pool": "",
    "use_post_transformer_norm": False,
    "init_values": 0.1,
    "ref_feat_shape": [4, 4],
}
_FASTVIT = {
    "inference_mode": True,
    "layers": [2, 2],
    "embed_dims": [8, 16],
    "mlp_ratios": [4, 4],
    "se_downsamples": [False, False],
    "downsamples": [False, True],
    "pos_embs": [None, None],
    "token_mixers": ["repmixer", "repmixer"],
    "lkc_use_act": True,
    "stem_use_scale_branch": False,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

FACTS: dict[str, dict[str, Any]] = {
    "aria": {
        "config": {"vision_config.image_size": 980, "vision_config.patch_size": 28},
        "arguments": {"size_conversion": {490: 128, 980: 128}},
        "image": {"max_image_size": 980},
    },
    "aya_vision": {"arguments": {"img_size": 56, "patch_size": 14, "downsample_factor": 2}},
    "cohere2_vision": {"image": {"patch_size": 2}},
    "cohere_compass": {
        "config": {"text_config.rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
        "named": {"image_token": "<|IMAGE_PAD|>", "video_token": "<|VIDEO_PAD|>"},
    },
    "deepseek_ocr2": {"config": {"text_config.mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}},
    "deepseek_vl_hybrid": {"image": {"high_res_size": {"height": 64, "width": 64}}},
    "diffusion_gemma": {
        "config": {
            "text_config.num_experts": 4,
            "text_config.top_k_experts": 2,
            "text_config.moe_intermediate_size": 128,
        },
        "image": {"max_soft_tokens": 70},
    },
    "ernie4_5_vl_moe": {"video": {"draw_on_frames": False}},
    "fast_vlm": {
        "processor": "LlavaProcessor",
        "config": {"vision_config.model_args": _FASTVIT, "vision_config.hidden_size": 32},
    },
    "fuyu": {"tokens": ["|SPEAKER|", "|NEWLINE|"]},
    "gemma4": {"image": {"max_soft_tokens": 70}},
    "gemma4_unified": {"image": {"max_soft_tokens": 70}},
    "gemma3n": {"config": {"text_config.num_kv_shared_layers": 0}},
    "glm_ocr": {"processor": "Glm46VProcessor"},
    "glmga": {"processor": "Glm46VProcessor"},
    "got_ocr2": {"config": {"vision_config.image_size": 1024, "vision_config.global_attn_indexes": []}},
    "granite4_vision": {"config": {"deepstack_layer_map": [[-1, 0], [-2, 1]], "downsample_rate": "2/4"}},
    "granite_docling": {"arguments": {"image_seq_len": 1}},
    "hunyuan_vl": {
        "config": {"text_config.head_dim": 16},
        "placeholder": "<image_start><image><image_end>",
    },
    "idefics2": {"arguments": {"image_seq_len": 16}},
    "kosmos-2": {"processor": "Kosmos2Processor"},
    "kosmos-2.5": {"processor": "Kosmos2_5Processor"},
    "llama4": {
        "config": {"vision_config.intermediate_size": 256},
        "ids": {"image_token_index": "<|patch|>"},
    },
    "minimax_m3_vl": {"tokens": ["]<]image[>[", "]<]video[>["]},
    "mistral3": {"config": {"vision_config.image_size": 112}},
    "mistral_large4": {"config": {"vision_config.image_size": 112}},
    "lighton_ocr": {"config": {"vision_config.image_size": 112}},
    "mllama": {"config": {"vision_config.vision_output_dim": 320}},
    "molmo2": {
        "config": {
            "vision_config.num_position_embeddings": 16,
            "adapter_config.vision_feature_layer": [3, 1],
        },
        "image": {"overlap_margins": [1, 1]},
    },
    "muse_glimmer": {"config": {"out_hidden_size": 256}},
    "ovis2": {"ids": {"image_token_id": "<IMG_ATOM>"}},
    "paligemma": {"image": {"image_seq_length": 16}},
    "perception_lm": {
        "config": {
            "vision_config.architecture": "vit_pe_core_large_patch14_336",
            "vision_config.model_args": _PERCEPTION,
            "vision_use_cls_token": True,
        },
        "image": {"tile_size": 56, "max_num_tiles": 4},
        "arguments": {"patch_size": 14, "pooling_ratio": 1},
    },
    "qianfan_ocr": {"placeholder": "<image>"},
    "qwen2_5_omni_thinker": {
        "processor": "Qwen2_5OmniProcessor",
        "config": {"vision_start_token_id": 0, "vision_end_token_id": 0},
    },
    "qwen3_omni_moe_thinker": {
        "processor": "Qwen3OmniMoeProcessor",
        "config": {"vision_start_token_id": 0, "vision_end_token_id": 0},
    },
    "qwen4_exp": {
        "config": {
            "text_config.indexer_n_heads": 4,
            "text_config.indexer_kv_heads": 1,
            "text_config.indexer_head_dim": 16,
            "text_config.indexer_budget": 64,
            "text_config.indexer_compress_ratio": 4,
        }
    },
    "step3p7": {"config": {"text_config.sliding_window": 24}, "image": {"patch_size": 56}},
    "unlimited_ocr": {"image": {"tile_size": 64}},
    "video_llava": {"config": {"vision_config.image_size": 224, "vision_config.patch_size": 14}},
    "vipllava": {"arguments": {"vision_feature_select_strategy": "default"}},
}
"""By model type:

- ``config``: dotted field to value; ``ids``: field of the config to token;
- ``processor``: its class, where transformers leaves it to the checkpoint's files; ``arguments`` of it;
- ``image``, ``video``: arguments of those processors;
- ``tokens``: more special tokens; ``named``: attribute of the tokenizer to token;
- ``placeholder``: an image in the chat template.
"""
