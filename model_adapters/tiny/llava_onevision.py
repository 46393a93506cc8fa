"""A tiny LLaVA-OneVision."""

from pathlib import Path

from model_adapters.tiny.common import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    WEIGHT_SCALE,
    check_new,
    make_tokenizer,
    qwen2_config,
    seeded,
    siglip_config,
    write_checkpoint,
)


def make_tiny_llava_onevision(
    out: Path, *, seed: int = 0, image_size: int = 48, patch_size: int = 8, hidden: int = 64, layers: int = 6
) -> None:
    """Write a LLaVA-OneVision checkpoint (SigLIP and Qwen2) with random weights.

    Args:
        out: the folder; it must be new or empty.
        seed: of the weights.
        image_size: pixels a side of a tile.
        patch_size: pixels a side of a patch; (image_size / patch_size)^2 tokens a tile.
        hidden: width of both towers, a multiple of 32.
        layers: of the decoder.

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
    tokenizer = make_tokenizer()
    tokens = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    grid = [[image_size * a, image_size * b] for a in (1, 2) for b in (1, 2)]
    config = LlavaOnevisionConfig(
        vision_config=siglip_config(hidden=hidden, image_size=image_size, patch_size=patch_size),
        text_config=qwen2_config(tokenizer, hidden=hidden, layers=layers),
        image_token_index=tokens["<image>"],
        video_token_index=tokens["<video>"],
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
        initializer_range=WEIGHT_SCALE,
    )
    with seeded(seed):
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
    write_checkpoint(out, model, processor, seed=seed)
