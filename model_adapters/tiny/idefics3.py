"""A tiny Idefics3; the first SmolVLMs have the same files."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    Making,
    check_new,
    llama_config,
    make_tokenizer,
    seeded,
    turns,
    write_checkpoint,
)
from model_adapters.tiny.idefics2 import IDEFICS_TURNS

_TILE_TOKENS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
IMAGE_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *_TILE_TOKENS)
_SPECIAL_TOKENS = ("<|begin_of_text|>", "<|finetune_right_pad_id|>", *IMAGE_TOKENS)


def tiles_config(making: Making, *, tile: int, patch_size: int) -> dict[str, Any]:
    """Of tower and connector."""
    vision = {
        "hidden_size": making.hidden,
        "intermediate_size": 2 * making.hidden,
        "num_hidden_layers": making.vision_layers,
        "num_attention_heads": 4,
        "image_size": tile,
        "patch_size": patch_size,
        "initializer_range": making.weight_scale,
    }
    return {"vision_config": vision, "scale_factor": 2}


def make_tiny_idefics3(
    out: Path, *, tile: int = 32, patch_size: int = 8, longest_edge: int = 64, **how: Any
) -> None:
    """Write an Idefics3 checkpoint with random weights.

    Args:
        out: the folder; it must be new or empty.
        tile: pixels a side of a tile, which is (tile / patch_size / 2)^2 tokens.
        patch_size: pixels a side of a patch.
        longest_edge: pixels of an image's longer side before it is cut into tiles.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(
        _SPECIAL_TOKENS, corpus=making.corpus, words=making.words,
        bos="<|begin_of_text|>", eos="<end_of_utterance>", pad="<|finetune_right_pad_id|>",
    )  # fmt: skip
    config = Idefics3Config(
        text_config=llama_config(tokenizer, making),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
        **tiles_config(making, tile=tile, patch_size=patch_size),
    )
    with seeded(making.seed):
        model = Idefics3ForConditionalGeneration(config)
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": longest_edge}, max_image_size={"longest_edge": tile}
        ),
        tokenizer=tokenizer,
        image_seq_len=(tile // patch_size // 2) ** 2,
        chat_template=turns(first="<|begin_of_text|>", **IDEFICS_TURNS),
    )
    write_checkpoint(out, model, processor, making)
