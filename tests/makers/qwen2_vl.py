"""Docs for tiny Qwen2-VL checkpoints, their answers by our model, and by transformers' own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from model_adapters.families.base import PreparedBatch
from model_adapters.models import Qwen2VLMask

STEPS = 12
SETTINGS: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False, "temperature": 0, "until": []}
GRIDS = {(80, 50): (3, 5), (60, 200): (7, 2), (64, 64): (4, 4), (40, 120): (8, 2), (210, 70): (2, 6)}
"""From width and height to rows and columns of tokens of 16 pixels a side, of which an image has 4 to 16."""
SIZES = list(GRIDS)


def picture(seed: int, size: tuple[int, int] | None = None) -> Image.Image:
    width, height = size or SIZES[seed % len(SIZES)]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


DOCS = [
    *(([picture(n + m) for m in range(n)], f"What is in {n} images?{' And why?' * n}") for n in range(6)),
    ([picture(m) for m in (3, 1)], "How many?"),
    ([picture(m) for m in (5, 4, 3, 2)], "Which?"),
]
IMAGES = [images for images, _ in DOCS]


def prompt(model: Qwen2VLMask, images: int, text: str) -> str:
    content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
    return model.family.prompt([{"role": "user", "content": content}])


def prepared(model: Qwen2VLMask, rows: Sequence[int]) -> PreparedBatch:
    texts = [prompt(model, len(DOCS[i][0]), DOCS[i][1]) for i in rows]
    batch = model.family.prepare([IMAGES[i] for i in rows], texts)
    return batch._replace(inputs=batch.inputs.to("cpu", model.model.dtype))


def answers(model: Qwen2VLMask, rows: Sequence[int] = range(len(DOCS))) -> list[str]:
    texts = [prompt(model, len(DOCS[i][0]), DOCS[i][1]) for i in rows]
    return [reply.text for reply in model.reply([IMAGES[i] for i in rows], texts, SETTINGS)]


def theirs(tiny: Path, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    from transformers import Qwen2VLForConditionalGeneration

    parts = {"text_config": attention, "vision_config": "sdpa"}
    return Qwen2VLForConditionalGeneration.from_pretrained(tiny, dtype=dtype, attn_implementation=parts)


def generate(model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """New tokens (B, T), and the logits (B, T, V) that chose them, before `generate` makes them float32."""
    logits: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, out: logits.append(out[:, -1].clone()))
    try:
        out = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False, pad_token_id=0)
    finally:
        handle.remove()
    return out[:, -len(logits) :], torch.stack(logits, dim=1)


def own_generate(model: Qwen2VLMask, batch: PreparedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode(), model.engine.running(model.model, batch.layouts):
        return generate(model.model, batch.inputs)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()
