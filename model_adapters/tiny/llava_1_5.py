"""A tiny LLaVA-1.5."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    Making,
    check_new,
    clip_config,
    llama_config,
    make_tokenizer,
    seeded,
    turns,
    write_checkpoint,
)


def make_tiny_llava_1_5(out: Path, *, image_size: int = 32, patch_size: int = 8, **how: Any) -> None:
    """Write a LLaVA checkpoint as LLaVA-1.5's are (CLIP and Llama), with random weights.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of an image.
        patch_size: pixels a side of a patch; (image_size / patch_size)^2 tokens an image.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    check_new(out)
    making = Making(**how)
    special = ("<unk>", "<s>", "</s>", "<image>", "<pad>")
    tokenizer = make_tokenizer(
        special, corpus=making.corpus, words=making.words, bos="<s>", eos="</s>", pad="<pad>"
    )
    config = LlavaConfig(
        vision_config=clip_config(making, image_size=image_size, patch_size=patch_size),
        text_config=llama_config(tokenizer, making),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // patch_size) ** 2,
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = LlavaForConditionalGeneration(config)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
        ),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=turns(
            start="{{ message['role'] | upper }}: ", image="<image>\n", end=" ", answer="ASSISTANT:"
        ),
    )
    write_checkpoint(out, model, processor, making)
