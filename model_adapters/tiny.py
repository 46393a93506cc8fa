"""Tiny checkpoints with random weights, in the real architectures and the real on-disk format.

They run through exactly the code of a real checkpoint. Their answers mean nothing.
"""

import json
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from model_adapters.loading import NOTE

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ '\n' + part['text'] }}"
    "{% endif %}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CORPUS_SIZE = 400
_WEIGHT_SCALE = 0.2  # ten times the usual, so that answers depend on the images and not on the last token


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
    import torch
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} exists and is not empty: choose another folder, or remove it")
    tokenizer = _tokenizer()
    tokens = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    grid = [[image_size * a, image_size * b] for a in (1, 2) for b in (1, 2)]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=image_size,
            patch_size=patch_size,
            vision_use_head=False,
            initializer_range=_WEIGHT_SCALE,
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
            initializer_range=_WEIGHT_SCALE,
        ),
        image_token_index=tokens["<image>"],
        video_token_index=tokens["<video>"],
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
        initializer_range=_WEIGHT_SCALE,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    torch.random.set_rng_state(state)
    model.generation_config.eos_token_id = tokens["<|im_end|>"]
    model.generation_config.pad_token_id = tokens["<|endoftext|>"]
    pixels = {"height": image_size, "width": image_size}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=pixels, image_grid_pinpoints=grid),
        video_processor=LlavaOnevisionVideoProcessor(size=pixels),
        tokenizer=tokenizer,
        num_image_tokens=(image_size // patch_size) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    note = {"kind": "random", "seed": seed, "description": "random weights: its answers mean nothing"}
    (out / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def _tokenizer() -> Any:
    """A byte-level BPE tokenizer trained on sentences about numbers and things."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    numbers = "zero one two three four five six seven eight nine ten"
    things = "images number total object class category name answer question many every all list"
    lines = [
        f"{n} {t} {i}, how many {t} in the images?"
        for i in range(40)
        for n in numbers.split()[:5]
        for t in things.split()
    ]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        lines[:_CORPUS_SIZE] + numbers.split(),
        vocab_size=512,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
    )
