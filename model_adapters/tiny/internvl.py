"""A tiny InternVL."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    CHAT_TEMPLATE,
    Making,
    check_new,
    make_tokenizer,
    qwen2_config,
    qwen3_config,
    seeded,
    write_checkpoint,
)

_NAMED_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def make_tiny_internvl(
    out: Path,
    *,
    image_size: int = 64,
    patch_size: int = 16,
    max_tiles: int = 4,
    decoder: str = "qwen2",
    **how: Any,
) -> None:
    """Write an InternVL checkpoint (InternViT and Qwen) with random weights.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of a tile.
        patch_size: pixels a side of a patch; (image_size / patch_size / 2)^2 tokens a tile.
        max_tiles: the most tiles of an image, its thumbnail apart.
        decoder: ``qwen2`` (InternVL2.5 and 3), or ``qwen3`` (InternVL3.5).
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    import torch
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        InternVLVisionConfig,
    )
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    check_new(out)
    making = Making(**how)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *_NAMED_TOKENS.values())
    tokenizer = make_tokenizer(special, corpus=making.corpus, words=making.words, named=_NAMED_TOKENS)
    tokens_a_tile = (image_size // patch_size // 2) ** 2
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=making.hidden,
            intermediate_size=2 * making.hidden,
            num_hidden_layers=making.vision_layers,
            num_attention_heads=4,
            attention_bias=True,
            image_size=image_size,
            patch_size=patch_size,
            layer_scale_init_value=1.0,
            initializer_range=making.weight_scale,
        ),
        text_config=(qwen3_config if decoder == "qwen3" else qwen2_config)(tokenizer, making),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=tokens_a_tile,
        tie_word_embeddings=False,
        initializer_range=making.weight_scale,
    )
    with seeded(making.seed):
        model = InternVLForConditionalGeneration(config)
        embeddings = model.model.vision_tower.embeddings
        for parameter in (embeddings.cls_token, embeddings.position_embeddings):  # zero unless drawn
            torch.nn.init.normal_(parameter, std=making.weight_scale)
    pixels = {"height": image_size, "width": image_size}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=pixels,
            crop_to_patches=True,
            max_patches=max_tiles,
            image_mean=IMAGENET_DEFAULT_MEAN,
            image_std=IMAGENET_DEFAULT_STD,
        ),
        video_processor=InternVLVideoProcessor(size=pixels),
        tokenizer=tokenizer,
        image_seq_length=tokens_a_tile,
        chat_template=CHAT_TEMPLATE.replace("<image>", "<IMG_CONTEXT>"),
    )
    write_checkpoint(out, model, processor, making)
