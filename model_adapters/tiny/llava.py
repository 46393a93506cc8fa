"""A tiny LLaVA-Interleave."""

from pathlib import Path

from model_adapters.tiny.common import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    WEIGHT_SCALE,
    check_new,
    make_tokenizer,
    seeded,
    write_note,
)


def make_tiny_llava(
    out: Path, *, seed: int = 0, image_size: int = 48, patch_size: int = 8, hidden: int = 64, layers: int = 6
) -> None:
    """Write a LLaVA checkpoint as LLaVA-Interleave's are (SigLIP and Qwen2), with random weights.

    Args:
        out: the folder; it must be new or empty.
        seed: of the weights.
        image_size: pixels a side of an image.
        patch_size: pixels a side of a patch; (image_size / patch_size)^2 tokens an image.
        hidden: width of both towers, a multiple of 32.
        layers: of the decoder.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen2Config,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    check_new(out)
    tokenizer = make_tokenizer()
    tokens = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=image_size,
            patch_size=patch_size,
            vision_use_head=False,
            initializer_range=WEIGHT_SCALE,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=False,
            initializer_range=WEIGHT_SCALE,
        ),
        image_token_index=tokens["<image>"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )
    with seeded(seed):
        model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokens["<|im_end|>"]
    model.generation_config.pad_token_id = tokens["<|endoftext|>"]
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": image_size, "width": image_size}),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    write_note(out, seed=seed)
