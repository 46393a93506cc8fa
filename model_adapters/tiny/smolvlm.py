"""A tiny SmolVLM2: an Idefics3 with another tokenizer."""

from pathlib import Path
from typing import Any

from model_adapters.patches import allow_smolvlm
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
from model_adapters.tiny.idefics3 import IMAGE_TOKENS, tiles_config

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *IMAGE_TOKENS)
_NAMED_TOKENS = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


def make_tiny_smolvlm(
    out: Path, *, tile: int = 32, patch_size: int = 8, longest_edge: int = 64, **how: Any
) -> None:
    """Write a SmolVLM2 checkpoint with random weights.

    Args:
        out: the folder; it must be new or empty.
        tile: see `make_tiny_idefics3`.
        patch_size: pixels a side of a patch.
        longest_edge: see `make_tiny_idefics3`.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    check_new(out)
    allow_smolvlm()
    making = Making(**how)
    tokenizer = make_tokenizer(
        _SPECIAL_TOKENS, corpus=making.corpus, words=making.words,
        eos="<end_of_utterance>", pad="<|im_end|>", named=_NAMED_TOKENS,
    )  # fmt: skip
    config = SmolVLMConfig(
        text_config=llama_config(tokenizer, making),
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
        **tiles_config(making, tile=tile, patch_size=patch_size),
    )
    with seeded(making.seed):
        model = SmolVLMForConditionalGeneration(config)
    sizes = {"size": {"longest_edge": longest_edge}, "max_image_size": {"longest_edge": tile}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**sizes),
        video_processor=SmolVLMVideoProcessor(**sizes),
        tokenizer=tokenizer,
        image_seq_len=(tile // patch_size // 2) ** 2,
        chat_template=turns(first="<|im_start|>", **IDEFICS_TURNS),
    )
    write_checkpoint(out, model, processor, making)
