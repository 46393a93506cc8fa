"""A tiny Idefics2; Mantis-8B-Idefics2 has the same files."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    Making,
    check_new,
    decoder_settings,
    draw,
    make_tokenizer,
    seeded,
    token_ids,
    turns,
    write_checkpoint,
)

IDEFICS_TURNS = {
    "start": "{{ message['role'] | capitalize }}:{{ ' ' if message['content'][0]['type'] == 'text' }}",
    "image": "<image>",
    "end": "<end_of_utterance>\n",
    "answer": "Assistant:",
}
"""Shaped as those of Idefics2, Idefics3 and SmolVLM."""
_SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>")


def make_tiny_idefics2(
    out: Path,
    *,
    latents: int = 8,
    patch_size: int = 8,
    shortest_edge: int = 24,
    longest_edge: int = 64,
    splits: bool = True,
    **how: Any,
) -> None:
    """Write an Idefics2 checkpoint with random weights.

    Args:
        out: the folder; it must be new or empty.
        latents: tokens of a view.
        patch_size: pixels a side of a patch.
        shortest_edge: pixels, at least, of a view's shorter side.
        longest_edge: pixels, at most, of a view's longer side.
        splits: an image is its four quarters and itself.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        Idefics2Config,
        Idefics2ForConditionalGeneration,
        Idefics2ImageProcessor,
        Idefics2Processor,
        MistralConfig,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(
        _SPECIAL_TOKENS, corpus=making.corpus, words=making.words,
        bos="<s>", eos="<end_of_utterance>", pad="<unk>",
    )  # fmt: skip
    config = Idefics2Config(
        vision_config={
            "hidden_size": making.hidden,
            "intermediate_size": 2 * making.hidden,
            "num_hidden_layers": making.vision_layers,
            "num_attention_heads": 4,
            "image_size": longest_edge,
            "patch_size": patch_size,
            "initializer_range": making.weight_scale,
        },
        perceiver_config={
            "hidden_size": making.hidden,
            "resampler_n_latents": latents,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": making.hidden // 4,
            "num_key_value_heads": 2,
            "initializer_range": making.weight_scale,
        },
        text_config=MistralConfig(**decoder_settings(tokenizer, making), **token_ids(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    with seeded(making.seed):
        model = Idefics2ForConditionalGeneration(config)
        draw(model.model.connector.perceiver_resampler.latents, making)
    processor = Idefics2Processor(
        image_processor=Idefics2ImageProcessor(
            size={"shortest_edge": shortest_edge, "longest_edge": longest_edge}, do_image_splitting=splits
        ),
        tokenizer=tokenizer,
        image_seq_len=latents,
        chat_template=turns(**IDEFICS_TURNS),
    )
    write_checkpoint(out, model, processor, making)
