"""A tiny Qwen2.5-VL."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import Making, check_new, decoder_settings, seeded, write_checkpoint
from model_adapters.tiny.qwen2_vl import (
    QWEN_TEMPLATE,
    mrope_section,
    qwen_pixels,
    qwen_token_ids,
    qwen_tokenizer,
)


def make_tiny_qwen2_5_vl(
    out: Path, *, patch_size: int = 8, min_tokens: int = 4, max_tokens: int = 16, **how: Any
) -> None:
    """Write a Qwen2.5-VL checkpoint with random weights; its tower's first layers attend in windows.

    Args:
        out: the folder; it must be new or empty.
        patch_size: pixels a side of a patch; 2 x 2 patches are merged to a token.
        min_tokens: the fewest tokens of an image.
        max_tokens: the most tokens of an image; a long strip may have more.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = qwen_tokenizer(making)
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": making.vision_layers,
            "hidden_size": making.hidden,
            "out_hidden_size": making.hidden,
            "intermediate_size": 2 * making.hidden,
            "num_heads": 4,
            "patch_size": patch_size,
            "window_size": 4 * patch_size,
            "fullatt_block_indexes": [making.vision_layers - 1],
            "initializer_range": making.weight_scale,
        },
        text_config={
            **decoder_settings(tokenizer, making),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": mrope_section(making.hidden // 8),
            },
            "bos_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        **qwen_token_ids(tokenizer),
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = Qwen2_5_VLForConditionalGeneration(config)
    pixels = qwen_pixels(patch_size, min_tokens, max_tokens)
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, patch_size=patch_size),
        video_processor=Qwen2VLVideoProcessor(size=pixels, patch_size=patch_size),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    write_checkpoint(out, model, processor, making)
