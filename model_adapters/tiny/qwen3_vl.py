"""A tiny Qwen3-VL."""

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

_HEAD_DIM = 24  # not the width over the heads, as in the published checkpoints


def make_tiny_qwen3_vl(
    out: Path, *, patch_size: int = 8, min_tokens: int = 4, max_tokens: int = 16, **how: Any
) -> None:
    """Write a Qwen3-VL checkpoint with random weights.

    Every layer of its tower but the last gives the decoder a feature map of its own (DeepStack).

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
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )
    from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

    check_new(out)
    making = Making(**how)
    tokenizer = qwen_tokenizer(making)
    depth = making.vision_layers + 1
    config = Qwen3VLConfig(
        vision_config={
            "depth": depth,
            "hidden_size": making.hidden,
            "out_hidden_size": making.hidden,
            "intermediate_size": 2 * making.hidden,
            "num_heads": 4,
            "patch_size": patch_size,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": list(range(depth - 1)),
            "initializer_range": making.weight_scale,
        },
        text_config={
            **decoder_settings(tokenizer, making),
            "head_dim": _HEAD_DIM,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_interleaved": True,
                "mrope_section": mrope_section(_HEAD_DIM // 2),
            },
            "pad_token_id": tokenizer.pad_token_id,
        },
        **qwen_token_ids(tokenizer),
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = Qwen3VLForConditionalGeneration(config)
    pixels = qwen_pixels(patch_size, min_tokens, max_tokens)
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size=pixels,
            patch_size=patch_size,
            image_mean=IMAGENET_STANDARD_MEAN,
            image_std=IMAGENET_STANDARD_STD,
        ),
        video_processor=Qwen3VLVideoProcessor(size=pixels, patch_size=patch_size),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    write_checkpoint(out, model, processor, making)
