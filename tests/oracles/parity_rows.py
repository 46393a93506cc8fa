"""Attention with a mask, written out row by row in float64 (METHODS 3 to 5): the arithmetic of `parity`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.makers.parity_docs import (
    EDGES,
    SIGMA,
    Bools,
    Floats,
)

LEAST_LEFT = 1e-6
"""METHODS 4: a row with less than this beside its sinks is not masked."""


@dataclass
class Row:
    """What the oracle knows of one row of a batch, tokens by their place in the padded prompt.

    Attributes:
        image: int (N), the number of each token's image, -1 for text and padding.
        delimiters: the tokens that mark images, for ``delimiters``, of several images.
        grounded: G, bool (N).
        score: c, (N).
        sinks: of each layer, bool (N).
    """

    image: NDArray[np.int64]
    grounded: Bools
    score: Floats
    sinks: dict[int, Bools] = field(default_factory=dict)
    delimiters: list[int] = field(default_factory=list)

    def grown(self, keys: int, layer: int) -> tuple[NDArray[np.int64], Bools, Floats, Bools]:
        """The same of `keys` tokens: generated ones are text."""
        more = (0, keys - len(self.image))
        sinks = self.sinks.get(layer, np.zeros(len(self.image), dtype=bool))
        return (
            np.pad(self.image, more, constant_values=-1),
            np.pad(self.grounded, more),
            np.pad(self.score, more),
            np.pad(sinks, more),
        )


def softmax(scores: Floats) -> Floats:
    """Over the last axis; a row that sees nothing gives zeros."""
    largest = scores.max(axis=-1, keepdims=True)
    raised = np.exp(scores - np.where(np.isfinite(largest), largest, 0.0))
    total: Floats = raised.sum(axis=-1, keepdims=True)
    return np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)


def blocked_keys(i: int, image: NDArray[np.int64], prompt: int) -> Bools:
    """What row i loses by `EDGES` (METHODS 5, knockout): bool (S), with `prompt` tokens before the answer."""
    index = np.arange(len(image))
    first, last = (np.flatnonzero(image >= 0)[[0, -1]]) if (image >= 0).any() else (prompt, prompt)
    groups = {
        "prefix": index < first,
        "image": image >= 0,
        "image[1]": image == 0,
        "image[2]": image == 1,
        "other": (image >= 0) & (image != image[i]),
        "question": (index > last) & (index < prompt),
        "answer": index >= prompt,
    }
    lost = np.zeros(len(image), dtype=bool)
    for query, key in (edge.split(">") for edge in EDGES.split("+")):
        if groups[query][i]:
            lost |= groups[key]
    lost[i] = False
    return lost


def edited_row(
    mask: str,
    alpha: Floats,
    scores: Floats,
    raw: Floats,
    prompt: int,
    i: int,
    image: NDArray[np.int64],
    grounded: Bools,
    score: Floats,
    sinks: Bools,
) -> Floats:
    """One row's weights (H, S) by METHODS 3, 4 and 5.

    Args:
        mask: the intervention.
        alpha: (H, S), the weights without a mask.
        scores: (H, S), -inf where the row may not look.
        raw: (H, S), also there.
        prompt: how many tokens are not generated.
        i: the row's own token.
        image: (S).
        grounded: (S).
        score: (S).
        sinks: (S).
    """
    if mask == "block":
        if image[i] < 0 or image.max() < 1:
            return alpha
        return softmax(np.where(image == image[i], scores, -np.inf))
    if mask in ("var", "dab"):
        if image[i] >= 0 or image.max() < 0 or i < np.nonzero(image >= 0)[0][-1]:
            return alpha
        return redistributed(alpha, image, sinks) if mask == "var" else balanced(alpha, image, scores)
    if mask == "knockout":
        return softmax(np.where(blocked_keys(i, image, prompt), -np.inf, scores))
    if mask == "sofa":
        later = (image > image[i]) & (image[i] >= 0) & ~np.isfinite(scores).any(axis=0)
        return softmax(np.where(later, raw + np.log(SIGMA), scores))
    eta = alpha[:, sinks].sum(axis=1, keepdims=True)
    others = np.where(sinks, 0.0, alpha)
    left = others.sum(axis=1, keepdims=True)
    without = np.where(left < LEAST_LEFT, alpha, others / np.where(left < LEAST_LEFT, 1.0, left))
    if mask == "mask_only":
        return without
    opened = (image > image[i]) & grounded & ~sinks & (image[i] >= 0)
    if not opened.any():
        return without if mask == "ar_masking_empty_rows" else alpha
    pi = np.where(opened, np.exp(score), 0.0)
    pi /= pi.sum()
    if mask == "unmask_only":
        return np.where(eta > 0, (alpha + eta * pi) / (1 + eta), alpha)
    rest = np.divide(others, left, out=np.zeros_like(others), where=left > 0)
    return np.where(eta > 0, (1 - eta) * rest + eta * pi, alpha)


def redistributed(alpha: Floats, image: NDArray[np.int64], sinks: Bools) -> Floats:
    """VAR's weights (H, S) of a row of text after the images, one head after the other."""
    visual, others = sinks & (image >= 0), ~sinks & (image >= 0)
    out = alpha.copy()
    for head, own in zip(out, alpha, strict=True):
        on_images, on_sinks = own[image >= 0].sum(), own[visual].sum()
        if visual.any() and on_sinks / (on_images + 1e-6) <= 0.5 and on_images >= 0.2:
            freed = 0.4 * own[sinks].sum()
            head[sinks] = 0.6 * own[sinks]
            head[others] += freed * own[others] / own[others].sum()
    return out


def balanced(alpha: Floats, image: NDArray[np.int64], scores: Floats) -> Floats:
    """DAB's weights (H, S) of a row of text after the images, by the tokens that a sliding window leaves."""
    out, seen = alpha.copy(), np.isfinite(scores[0])
    images = [own for m in range(image.max() + 1) if (own := (image == m) & seen).any()]
    for head, own in zip(out, alpha, strict=True):
        masses = [own[tokens].sum() for tokens in images]
        if sum(masses) > 0.2:
            for tokens, mass in zip(images, masses, strict=True):
                head[tokens] += 0.5 * (np.mean(masses) - mass) / tokens.sum()
    return out


@dataclass(frozen=True)
class Attended:
    """Attention of one layer, from its weights (B, H, T, S) and values (B, H, S, D) in float64.

    Attributes:
        edited_weights: by the mask.
        plain_weights: of ordinary causal attention.
        values: of each query's head.
    """

    edited_weights: Tensor
    plain_weights: Tensor
    values: Tensor

    @property
    def edited(self) -> Tensor:
        """What attention gives with the mask: (B, H, T, D) in float64."""
        return self.edited_weights @ self.values

    @property
    def plain(self) -> Tensor:
        """The same of ordinary causal attention."""
        return self.plain_weights @ self.values

    def rounded(self, dtype: torch.dtype) -> Tensor:
        """`edited` from weights and values in a dtype, summed in it by torch; the result in float64."""
        return (self.edited_weights.to(dtype) @ self.values.to(dtype)).double()


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Bools,
    rows: Sequence["Row"],
    *,
    mask: str,
    layer: int,
    scale: float,
) -> Attended:
    """Attention with a mask, row by row.

    Args:
        query: (B, H, T, D), the last T tokens.
        key: (B, KV, S, D).
        value: (B, KV, S, D).
        seen: (B, T, S), where ordinary attention may look; a row without any is left at zero.
        rows: of the batch.
        mask: of `MASKS`; ``none`` in a layer that is not changed.
        layer: whose sinks.
        scale: factor on the scores.
    """
    groups = query.shape[1] // key.shape[1]
    q, k = (x.detach().double().numpy() for x in (query, key))
    k = k.repeat(groups, axis=1)
    values = value.detach().double().repeat_interleave(groups, dim=1)
    count, keys = q.shape[2], k.shape[2]
    plain = np.zeros((*q.shape[:3], keys))
    edited = plain if mask == "none" else np.zeros_like(plain)
    for b, row in enumerate(rows):
        raw = q[b] @ k[b].transpose(0, 2, 1) * scale
        scores, prompt = np.where(seen[b], raw, -np.inf), len(row.image)
        plain[b] = softmax(scores)
        if mask == "none":
            continue
        edited[b], known = plain[b], row.grown(keys, layer)
        for t in np.flatnonzero(seen[b].any(axis=-1)):
            given = plain[b, :, t], scores[:, t], raw[:, t]
            edited[b, :, t] = edited_row(mask, *given, prompt, keys - count + int(t), *known)
    return Attended(torch.from_numpy(edited), torch.from_numpy(plain), values)
