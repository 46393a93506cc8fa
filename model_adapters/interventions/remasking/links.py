"""Which links Attention Remasking opens in a doc, and the values that come through them (METHODS 4)."""

from typing import NamedTuple

import torch
from torch import Tensor

from model_adapters.interventions.base import Relevance
from model_adapters.interventions.mass import accumulator
from model_adapters.layout import Layout

LINKS = ("later_images", "later_tokens")
_FEW = 128  # sets of opened keys that are averaged one by one
_BLOCK = 128  # keys at a time, where there are more


class Links(NamedTuple):
    """The links that open in one doc and layer: from R rows, each to the last of K keys.

    Attributes:
        rows: int (R), tokens of images; U is empty for all other rows.
        image: int (R), the image of each row.
        start: int (R), where in `keys` the U of each row begins; it holds all from there on.
        keys: int (K), grounded tokens that are not sinks, sorted.
        score: float (K), c of the keys.
    """

    rows: Tensor
    image: Tensor
    start: Tensor
    keys: Tensor
    score: Tensor

    @property
    def counts(self) -> Tensor:
        """int (R), the size of each U."""
        return len(self.keys) - self.start


def find_links(
    layout: Layout, sinks: Tensor, relevance: Relevance, b: int, *, own_image: bool
) -> Links | None:
    """The links of doc `b`; None if none open. Both readings of U are the keys from some index on."""
    image = layout.image_numbers(sinks.device)
    keys = (relevance.grounded[b] & ~sinks & (image >= 0)).nonzero()[:, 0]
    rows = (image >= 0).nonzero()[:, 0]
    before = (keys, rows) if own_image else (image[keys], image[rows])
    start = torch.searchsorted(before[0].contiguous(), before[1].contiguous(), right=True)
    opens = start < len(keys)
    if not bool(opens.any()):
        return None
    rows, score = rows[opens], relevance.score[b, keys]
    return Links(rows, image[rows], start[opens], keys, score.to(accumulator(score.dtype)))


def suffix_means(values: Tensor, score: Tensor, starts: Tensor) -> Tensor:
    """For each start the mean of the values from it on, weighted by the softmax of their scores: Eq. 9's pi.

    Args:
        values: (KV, K, D).
        score: (K).
        starts: int (G), each below K.

    Returns:
        (KV, G, D).
    """
    if len(starts) > _FEW:
        return _all_suffix_means(values, score)[:, starts]
    later = torch.arange(len(score), device=score.device) >= starts[:, None]
    return score.expand_as(later).masked_fill(~later, float("-inf")).softmax(dim=-1) @ values


def _all_suffix_means(values: Tensor, score: Tensor) -> Tensor:
    """(KV, K, D): `_suffix_means` of every start, in blocks of keys; no K x K tensor.

    A block's own keys are averaged as they are; what lies behind it comes as its mean, with the share of its
    log-sum-exp.
    """
    heads, count, width = values.shape
    short = -count % _BLOCK
    score = torch.nn.functional.pad(score, (0, short), value=float("-inf")).reshape(-1, _BLOCK)
    blocks = torch.nn.functional.pad(values, (0, 0, 0, short)).reshape(heads, -1, _BLOCK, width)
    total = score.flatten().flip(0).logcumsumexp(dim=0).flip(0).reshape(score.shape)
    shares = (score[:, None, :] - total[:, :, None]).exp().triu()
    out = shares.nan_to_num(nan=0.0) @ blocks  # nan: rows of the padding
    for i in range(len(score) - 2, -1, -1):
        behind = (total[i + 1, 0] - total[i]).exp()
        out[:, i] += behind[:, None] * out[:, i + 1, :1]
    return out.flatten(1, 2)[:, :count]
