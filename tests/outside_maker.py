"""Tiny checkpoints of Grounding DINO and CLIP, in transformers' own classes and format."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def make_clip(folder: Path, *, seed: int = 0) -> None:
    """A CLIP with random weights: 4 x 4 patches of 8 pixels, and a tokenizer of single bytes."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    tokens = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            text_config={**shape, **tokens, "vocab_size": len(words), "max_position_embeddings": 77},
            vision_config={**shape, "image_size": 32, "patch_size": 8},
            projection_dim=24,
        )
    )
    with torch.no_grad():  # an identity at first: here it must show whether it is used
        model.vision_model.post_layernorm.weight.normal_(1, 0.5)
        model.vision_model.post_layernorm.bias.normal_(0, 0.5)
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def make_grounding(folder: Path, *, seed: int = 0) -> None:
    """A Grounding DINO with random weights on a tiny Swin and a tiny BERT."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    words = [f"[unused{i}]" for i in range(1100)]  # its special tokens stand at fixed places of BERT's list
    for place, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}.items():
        words[place] = word
    words[1012], words[1029] = ".", "?"
    words[200:204] = ["dog", "cat", "object", "chair"]
    torch.manual_seed(seed)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2, out_indices=[2, 3, 4]
        ),
        text_config=BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        ),
        num_queries=12,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        disable_custom_kernels=True,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    images = GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 144})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
