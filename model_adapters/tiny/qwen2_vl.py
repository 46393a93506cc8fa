"""A tiny Qwen2-VL."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    CHAT_TEMPLATE,
    Making,
    check_new,
    decoder_settings,
    make_tokenizer,
    seeded,
    write_checkpoint,
)

_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def make_tiny_qwen2_vl(
    out: Path,
    *,
    patch_size: int = 8,
    min_tokens: int = 4,
    max_tokens: int = 16,
    **how: Any,
) -> None:
    """Write a Qwen2-VL checkpoint with random weights.

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
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLTextConfig,
        Qwen2VLVideoProcessor,
        Qwen2VLVisionConfig,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(_SPECIAL_TOKENS, corpus=making.corpus, words=making.words)
    tokens = {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL_TOKENS}
    frequencies = making.hidden // 8  # four heads; a pair of dimensions each
    side = 3 * frequencies // 8  # the published checkpoints' shares: a quarter, three eighths each
    config = Qwen2VLConfig(
        vision_config=Qwen2VLVisionConfig(
            depth=making.vision_layers,
            embed_dim=making.hidden,
            hidden_size=making.hidden,
            mlp_ratio=2,
            num_heads=4,
            patch_size=patch_size,
            initializer_range=making.weight_scale,
        ),
        text_config=Qwen2VLTextConfig(
            **decoder_settings(tokenizer, making),
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [frequencies - 2 * side, side, side],
            },
            bos_token_id=tokens["<|endoftext|>"],
            eos_token_id=tokens["<|im_end|>"],
            pad_token_id=tokens["<|endoftext|>"],
        ),
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = Qwen2VLForConditionalGeneration(config)
    pixels = {
        "shortest_edge": min_tokens * (2 * patch_size) ** 2,
        "longest_edge": max_tokens * (2 * patch_size) ** 2,
    }
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, patch_size=patch_size),
        video_processor=Qwen2VLVideoProcessor(size=pixels, patch_size=patch_size),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    write_checkpoint(out, model, processor, making)
