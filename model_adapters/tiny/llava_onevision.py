"""A tiny LLaVA-OneVision."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    Making,
    check_new,
    make_tokenizer,
    qwen2_config,
    seeded,
    siglip_config,
    write_checkpoint,
)


def make_tiny_llava_onevision(
    out: Path, *, image_size: int = 48, patch_size: int = 8, sides: int = 2, **how: Any
) -> None:
    """Write a LLaVA-OneVision checkpoint (SigLIP and Qwen2) with random weights.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of a tile.
        patch_size: pixels a side of a patch; (image_size / patch_size)^2 tokens a tile.
        sides: the most tiles a side of a single image; several images have one tile each.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(corpus=making.corpus, words=making.words)
    tokens = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    counts = range(1, sides + 1)
    grid = [[image_size * a, image_size * b] for a in counts for b in counts]
    config = LlavaOnevisionConfig(
        vision_config=siglip_config(making, image_size=image_size, patch_size=patch_size),
        text_config=qwen2_config(tokenizer, making),
        image_token_index=tokens["<image>"],
        video_token_index=tokens["<video>"],
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
        initializer_range=making.weight_scale,
    )
    with seeded(making.seed):
        model = LlavaOnevisionForConditionalGeneration(config)
    pixels = {"height": image_size, "width": image_size}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=pixels, image_grid_pinpoints=grid),
        video_processor=LlavaOnevisionVideoProcessor(size=pixels),
        tokenizer=tokenizer,
        num_image_tokens=(image_size // patch_size) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )
    write_checkpoint(out, model, processor, making)
