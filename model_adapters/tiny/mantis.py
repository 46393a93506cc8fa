"""A tiny Mantis of LLaVA's shape."""

import json
from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    Making,
    check_new,
    llama_config,
    make_tokenizer,
    seeded,
    siglip_config,
    turns,
    write_note,
)

_SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<image>",
    "<|pad|>",
)


def make_tiny_mantis(out: Path, *, image_size: int = 32, patch_size: int = 8, **how: Any) -> None:
    """Write a checkpoint as Mantis-8B-siglip-llama3's is, with random weights.

    Its files are those of its training code's processor, which transformers does not have: nothing but a
    tokenizer and how images are resized. Its config keeps no class token, of a tower without one: that
    leaves the first patch out.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of an image.
        patch_size: pixels a side of a patch.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import LlavaConfig, LlavaForConditionalGeneration, SiglipImageProcessor

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(
        _SPECIAL_TOKENS, corpus=making.corpus, words=making.words,
        bos="<|begin_of_text|>", eos="<|end_of_text|>", pad="<|pad|>",
    )  # fmt: skip
    tokenizer.chat_template = turns(
        first="{{ bos_token }}",
        start="<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n",
        image="",  # it knows no image
        end="<|eot_id|>",
        answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
    )
    config = LlavaConfig(
        vision_config=siglip_config(making, image_size=image_size, patch_size=patch_size),
        text_config=llama_config(tokenizer, making),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = LlavaForConditionalGeneration(config)
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    SiglipImageProcessor(size={"height": image_size, "width": image_size}).save_pretrained(out)
    path = out / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"processor_class": "MLlavaProcessor"}) + "\n", encoding="utf-8")
    write_note(out, seed=making.seed)
