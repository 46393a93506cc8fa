"""Attention over groups of keys with weights, merged, against one softmax written out."""

import math

import pytest
import torch

from model_adapters.attention import attend
from model_adapters.segments import Keys, attend_segments

SCALE = 0.4


def written_out(query: torch.Tensor, groups: list[Keys], *, scale: float) -> torch.Tensor:
    """One softmax over all groups at once, with the biases added to the scores; (B, H, T, D)."""
    repeat = query.shape[1] // groups[0].key.shape[1]
    scores, values = [], []
    for group in groups:
        key, value = (x.repeat_interleave(repeat, dim=1).double() for x in (group.key, group.value))
        own = query.double() @ key.transpose(-1, -2) * scale + group.bias
        if group.causal:
            later = torch.ones(own.shape[-2:], dtype=torch.bool).triu(1)
            own = own.masked_fill(later, -math.inf)
        scores.append(own)
        values.append(value)
    return torch.cat(scores, dim=-1).softmax(dim=-1) @ torch.cat(values, dim=-2)


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def groups_of(sizes: list[int], biases: list[float], dtype: torch.dtype, kv: int = 2) -> list[Keys]:
    """The last one causal over T = its size."""
    made = []
    for i, (size, bias) in enumerate(zip(sizes, biases, strict=True)):
        key, value = (draw((3, kv, size, 8), 10 * i + j, dtype) for j in range(2))
        made.append(Keys(key, value, causal=i == len(sizes) - 1, bias=bias))
    return made


@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize(
    ("sizes", "biases"),
    [
        ([5, 7], [0.0, 0.0]),
        ([1, 1], [math.log(0.5), 0.0]),
        ([4, 9, 6], [math.log(0.1), -math.inf, 0.0]),
        ([0, 6], [0.0, 0.0]),
        ([3, 5], [40.0, 0.0]),  # the first takes nearly everything
    ],
)
def test_merged_groups_equal_one_softmax(sizes: list[int], biases: list[float], heads: int) -> None:
    query = draw((3, heads, sizes[-1], 8), 99)
    groups = groups_of(sizes, biases, torch.float64)
    want = written_out(query, [group for group in groups if group.bias != -math.inf], scale=SCALE)
    torch.testing.assert_close(attend_segments(query, groups, scale=SCALE), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_errs_like_one_call_on_joined_keys(dtype: torch.dtype) -> None:
    query, groups = draw((3, 4, 40, 8), 98, dtype), groups_of([30, 40], [0.0, 0.0], dtype)
    want = written_out(query, groups, scale=SCALE)
    joined = [
        torch.cat(pair, dim=2).repeat_interleave(2, 1) for pair in zip(*(g[:2] for g in groups), strict=True)
    ]
    mask = torch.cat(
        [torch.ones(40, 30, dtype=torch.bool), torch.ones(40, 40, dtype=torch.bool).tril()], dim=1
    )
    dense = torch.nn.functional.scaled_dot_product_attention(query, *joined, attn_mask=mask, scale=SCALE)
    error = (dense.double() - want).abs().max().item()
    assert (attend_segments(query, groups, scale=SCALE).double() - want).abs().max().item() <= 2 * error


def test_one_group_is_plain_attention_bit_for_bit() -> None:
    query, groups = draw((3, 4, 9, 8), 97), groups_of([4, 9], [-math.inf, -3.0], torch.float64)
    plain = attend(query, groups[1].key, groups[1].value, scale=SCALE, causal=True)
    assert torch.equal(attend_segments(query, groups, scale=SCALE), plain)


def test_queries_that_see_nothing_are_refused() -> None:
    groups = groups_of([4], [-math.inf], torch.float64)
    with pytest.raises(ValueError, match="must see at least one group"):
        attend_segments(draw((3, 4, 4, 8), 96), groups, scale=SCALE)
