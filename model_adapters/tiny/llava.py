"""A tiny LLaVA-Interleave."""

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


def make_tiny_llava(out: Path, *, image_size: int = 48, patch_size: int = 8, **how: Any) -> None:
    """Write a LLaVA checkpoint as LLaVA-Interleave's are (SigLIP and Qwen2), with random weights.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of an image.
        patch_size: pixels a side of a patch; (image_size / patch_size)^2 tokens an image.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        SiglipImageProcessor,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(corpus=making.corpus, words=making.words)
    tokens = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    config = LlavaConfig(
        vision_config=siglip_config(making, image_size=image_size, patch_size=patch_size),
        text_config=qwen2_config(tokenizer, making),
        image_token_index=tokens["<image>"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = LlavaForConditionalGeneration(config)
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": image_size, "width": image_size}),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )
    write_checkpoint(out, model, processor, making)
