"""A tiny LLaVA-NeXT."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    Making,
    check_new,
    clip_config,
    decoder_settings,
    make_tokenizer,
    seeded,
    token_ids,
    turns,
    write_checkpoint,
)


def make_tiny_llava_next(out: Path, *, image_size: int = 16, patch_size: int = 8, **how: Any) -> None:
    """Write a LLaVA-NeXT checkpoint as the published with Mistral are, with random weights.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of a tile.
        patch_size: pixels a side of a patch; (image_size / patch_size)^2 tokens a tile.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
        MistralConfig,
    )

    check_new(out)
    making = Making(**how)
    special = ("<unk>", "<s>", "</s>", "<image>", "<pad>")
    tokenizer = make_tokenizer(
        special, corpus=making.corpus, words=making.words, bos="<s>", eos="</s>", pad="<pad>"
    )
    tiles = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]
    pinpoints = [[image_size * rows, image_size * columns] for rows, columns in tiles]
    config = LlavaNextConfig(
        vision_config=clip_config(making, image_size=image_size, patch_size=patch_size),
        text_config=MistralConfig(
            **decoder_settings(tokenizer, making), **token_ids(tokenizer), sliding_window=None
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        image_seq_length=(image_size // patch_size) ** 2,
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = LlavaNextForConditionalGeneration(config)
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": image_size},
            crop_size={"height": image_size, "width": image_size},
            image_grid_pinpoints=pinpoints,
        ),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=turns(start="[INST] ", image="<image>\n", end=" [/INST]", answer=""),
    )
    write_checkpoint(out, model, processor, making)
