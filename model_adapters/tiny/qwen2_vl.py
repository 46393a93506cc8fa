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
    turns,
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
QWEN_TEMPLATE = turns(
    start="<|im_start|>{{ message['role'] }}\n",
    image="<|vision_start|><|image_pad|><|vision_end|>",
    end="<|im_end|>\n",
    answer="<|im_start|>assistant\n",
)
"""Shaped as that of Qwen2.5-VL and Qwen3-VL."""


def qwen_tokenizer(making: Making) -> Any:
    """A tokenizer with the special tokens of all Qwen-VL models."""
    return make_tokenizer(_SPECIAL_TOKENS, corpus=making.corpus, words=making.words)


def qwen_token_ids(tokenizer: Any) -> dict[str, int]:
    """The ids that a Qwen-VL config names."""
    names = {"image": "image_pad", "video": "video_pad", "vision_start": None, "vision_end": None}
    return {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token or name}|>")
        for name, token in names.items()
    }


def qwen_pixels(patch_size: int, min_tokens: int, max_tokens: int) -> dict[str, int]:
    """The processors' bounds on the pixels of an image."""
    pixels = (2 * patch_size) ** 2
    return {"shortest_edge": min_tokens * pixels, "longest_edge": max_tokens * pixels}


def mrope_section(frequencies: int) -> list[int]:
    """The published checkpoints' shares: about a quarter for time, three eighths for height and width."""
    side = 3 * frequencies // 8
    return [frequencies - 2 * side, side, side]


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
    tokenizer = qwen_tokenizer(making)
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
                "mrope_section": mrope_section(making.hidden // 8),  # four heads; a pair of dimensions each
            },
            bos_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        **qwen_token_ids(tokenizer),
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = Qwen2VLForConditionalGeneration(config)
    pixels = qwen_pixels(patch_size, min_tokens, max_tokens)
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, patch_size=patch_size),
        video_processor=Qwen2VLVideoProcessor(size=pixels, patch_size=patch_size),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    write_checkpoint(out, model, processor, making)
