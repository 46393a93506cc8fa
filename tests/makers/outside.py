"""Checkpoints of Grounding DINO, SAM and CLIP with random weights, in transformers' classes and format."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def make_clip(folder: Path, *, seed: int = 0, large: bool = False) -> None:
    """A tiny CLIP of 4 x 4 patches of 8 pixels, or of ViT-L/14-336's shape; a tokenizer of single bytes."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    tokens = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    text = vision = _tower(32, 2, 4)
    side, patch, joint = 32, 8, 24
    if large:
        text, vision = _tower(768, 12, 12), _tower(1024, 24, 16)
        side, patch, joint = 336, 14, 768
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            text_config={**text, **tokens, "vocab_size": len(words), "max_position_embeddings": 77},
            vision_config={**vision, "image_size": side, "patch_size": patch},
            projection_dim=joint,
        )
    )
    with torch.no_grad():  # an identity at first: here it must show whether it is used
        model.vision_model.post_layernorm.weight.normal_(1, 0.5)
        model.vision_model.post_layernorm.bias.normal_(0, 0.5)
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def _tower(width: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": (4 if width > 32 else 2) * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def make_grounding(folder: Path, *, seed: int = 0, large: bool = False) -> None:
    """A Grounding DINO on a tiny Swin and a tiny BERT, or one of SwinT-OGC's shape."""
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
    if large:
        config = GroundingDinoConfig(
            backbone_config=SwinConfig(
                embed_dim=96,
                depths=[2, 2, 6, 2],
                num_heads=[3, 6, 12, 24],
                window_size=7,
                out_indices=[2, 3, 4],
            ),
            text_config=BertConfig(vocab_size=len(words)),
            disable_custom_kernels=True,
        )
        size = {"shortest_edge": 800, "longest_edge": 1333}
    else:
        config, size = _tiny_grounding(len(words)), {"shortest_edge": 96, "longest_edge": 144}
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=size), tokenizer).save_pretrained(folder)


def _tiny_grounding(words: int) -> Any:
    from transformers import BertConfig, GroundingDinoConfig, SwinConfig

    return GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2, out_indices=[2, 3, 4]
        ),
        text_config=BertConfig(
            vocab_size=words,
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


def make_sam(folder: Path, *, seed: int = 2, large: bool = False) -> None:
    """A tiny SAM of 64 x 64 pixels, or one of ViT-B's shape, whose masks pass the pipeline's thresholds."""
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    torch.manual_seed(seed)
    if large:
        model, processor = SamModel(SamConfig()), SamImageProcessor()
    else:
        model = SamModel(
            SamConfig(
                vision_config={
                    "hidden_size": 16,
                    "output_channels": 16,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "image_size": 64,
                    "patch_size": 8,
                    "window_size": 4,
                    "global_attn_indexes": [1],
                    "num_pos_feats": 8,
                    "mlp_dim": 32,
                },
                prompt_encoder_config={
                    "hidden_size": 16,
                    "image_size": 64,
                    "patch_size": 8,
                    "mask_input_channels": 4,
                },
                mask_decoder_config=_MASK_DECODER,
            )
        )
        processor = SamImageProcessor(
            size={"longest_edge": 64},
            pad_size={"height": 64, "width": 64},
            mask_size={"longest_edge": 32},
            mask_pad_size={"height": 32, "width": 32},
        )
    _with_masks(model, score=0.75)
    model.save_pretrained(folder)
    SamProcessor(processor).save_pretrained(folder)


def make_sam2(folder: Path, *, seed: int = 1, video: bool = False) -> None:
    """A tiny SAM 2, as an image model or as a video model, which is what the Hub's checkpoints are."""
    from transformers import (
        Sam2Config,
        Sam2ImageProcessor,
        Sam2Model,
        Sam2Processor,
        Sam2VideoConfig,
        Sam2VideoModel,
        Sam2VideoProcessor,
        Sam2VideoVideoProcessor,
    )

    parts: dict[str, Any] = {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "num_attention_heads": 1,
                "image_size": [64, 64],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2],
                "blocks_per_stage": [1, 1, 2, 1],
                "window_size_per_stage": [4, 2, 2, 2],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [2, 2],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 16,
        },
        "prompt_encoder_config": {
            "hidden_size": 16,
            "image_size": 64,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        "mask_decoder_config": _MASK_DECODER,
    }
    torch.manual_seed(seed)
    images = Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    if video:
        widths = {
            "memory_attention_hidden_size": 16,
            "memory_attention_feed_forward_hidden_size": 16,
            "memory_attention_num_layers": 1,
            "memory_encoder_hidden_size": 16,
            "memory_encoder_output_channels": 8,
            "memory_fuser_embed_dim": 16,
            "memory_fuser_intermediate_dim": 16,
            "mask_downsampler_embed_dim": 16,
            "memory_attention_rope_feat_sizes": [4, 4],
        }
        model: Any = Sam2VideoModel(Sam2VideoConfig(image_size=64, **widths, **parts))
        processor: Any = Sam2VideoProcessor(images, Sam2VideoVideoProcessor())
    else:
        model, processor = Sam2Model(Sam2Config(**parts)), Sam2Processor(images)
    _with_masks(model, score=4.0)  # before a sigmoid
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


_MASK_DECODER = {
    "hidden_size": 16,
    "mlp_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_depth": 2,
    "iou_head_hidden_dim": 16,
}


def _with_masks(model: Any, *, score: float) -> None:
    """Random weights whose masks have sharp edges and a good score, so that the pipeline keeps some."""
    decoder = model.mask_decoder
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 2 / weight[0].numel() ** 0.5)
        for head in decoder.output_hypernetworks_mlps:
            head.proj_out.weight.mul_(300)
        decoder.iou_prediction_head.proj_out.weight.mul_(0.1)
        decoder.iou_prediction_head.proj_out.bias.fill_(score)
