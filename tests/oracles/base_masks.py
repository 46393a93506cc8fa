"""Base masks that are not plain causal over a batch of docs, as functions and as matrices."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import (
    and_masks,
    blockwise_overlay,
    causal_mask_function,
    chunked_causal_mask_function,
    or_masks,
    sdpa_mask,
    sliding_window_causal_mask_function,
    sliding_window_overlay,
)

from model_adapters.base_mask import BaseMask, base_mask
from tests.oracles.remasking import DOCS, Doc, padded

BATCH = padded(list(DOCS.values()), extra=1)
N = BATCH[0].layout.length
PADDING = torch.stack([doc.layout.is_token(torch.device("cpu")) for doc in BATCH])


def image_numbers(docs: list[Doc]) -> Tensor:
    """int (B, N): the number of each token's image, -1 elsewhere, as transformers' block_sequence_ids."""
    ids = torch.full((len(docs), N), -1)
    for b, doc in enumerate(docs):
        for m, image in enumerate(doc.layout.images):
            ids[b, image.indices()] = m
    return ids


IMAGES = image_numbers(BATCH)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "window": sliding_window_causal_mask_function(4),
    "chunks": chunked_causal_mask_function(5, PADDING.int().argmax(dim=1)),
    "images_both_ways": or_masks(causal_mask_function, blockwise_overlay(IMAGES)),
    "window_and_images_both_ways": and_masks(
        or_masks(causal_mask_function, blockwise_overlay(IMAGES)), sliding_window_overlay(6)
    ),
    "images_and_text_before_both_ways": or_masks(
        causal_mask_function, blockwise_overlay(torch.where(PADDING, 0, -1).cummin(dim=1).values)
    ),
}


def matrices(name: str) -> Tensor:
    """bool (B, N, N): transformers' mask, written out; rows of padding see nothing."""
    mask = sdpa_mask(
        len(BATCH),
        N,
        N,
        mask_function=FUNCTIONS[name],
        attention_mask=PADDING,
        allow_is_causal_skip=False,
    )
    assert mask is not None
    return mask[:, 0] & PADDING[:, :, None]


def base_of(name: str) -> BaseMask:
    base = base_mask(
        mask_function=FUNCTIONS[name], kv_length=N, attention_mask=PADDING, allow_is_causal_skip=False
    )
    assert base is not None
    return base
