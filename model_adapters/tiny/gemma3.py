"""A tiny Gemma 3."""

from pathlib import Path
from typing import Any

from model_adapters.tiny.common import (
    Making,
    check_new,
    decoder_settings,
    draw,
    make_tokenizer,
    seeded,
    siglip_config,
    token_ids,
    turns,
    write_checkpoint,
)

_NAMED_TOKENS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
_SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *_NAMED_TOKENS.values())
_SIDE = 4
_SMALLER = 0.05  # tied embeddings of the usual scale have the model repeat its last token
_TEMPLATE = turns(
    first="{{ bos_token }}",
    start="<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n",
    image="<start_of_image>",
    end="<end_of_turn>\n",
    answer="<start_of_turn>model\n",
)


def make_tiny_gemma3(
    out: Path, *, image_size: int = 64, patch_size: int = 8, sliding_window: int = 16, **how: Any
) -> None:
    """Write a Gemma 3 checkpoint with random weights; an image is 4 x 4 tokens.

    Args:
        out: the folder; it must be new or empty.
        image_size: pixels a side of an image.
        patch_size: pixels a side of a patch.
        sliding_window: tokens that a query sees in every second layer, the first among them.
        **how: see `Making`.

    Raises:
        UserError: the folder is not empty.
    """
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
    )

    check_new(out)
    making = Making(**how)
    tokenizer = make_tokenizer(
        _SPECIAL_TOKENS, corpus=making.corpus, words=making.words,
        bos="<bos>", eos="<end_of_turn>", pad="<pad>", named=_NAMED_TOKENS,
    )  # fmt: skip
    config = Gemma3Config(
        vision_config=siglip_config(making, image_size=image_size, patch_size=patch_size),
        text_config=Gemma3TextConfig(
            **decoder_settings(tokenizer, making),
            **token_ids(tokenizer),
            head_dim=making.hidden // 4,
            query_pre_attn_scalar=making.hidden // 4,
            sliding_window=sliding_window,
            layer_types=["full_attention" if i % 2 else "sliding_attention" for i in range(making.layers)],
        ),
        mm_tokens_per_image=_SIDE**2,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    with seeded(making.seed):
        model = Gemma3ForConditionalGeneration(config)
        draw(model.model.multi_modal_projector.mm_input_projection_weight, making)
    model.get_input_embeddings().weight.data.mul_(_SMALLER)
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": image_size, "width": image_size}),
        tokenizer=tokenizer,
        image_seq_length=_SIDE**2,
        chat_template=_TEMPLATE,
    )
    write_checkpoint(out, model, processor, making)
