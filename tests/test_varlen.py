"""Attention of all images of a batch in one call, on a stand-in for the kernel that only a GPU has."""

import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_attention import SCALE, oracle, ragged_batch, tensors
from torch import Tensor

from model_adapters import varlen
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.layout import Layout, Span

CPU = torch.device("cpu")
SHAPE = (torch.float32, 4, 2, 8)


def stand_in(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequence[int], keys: Sequence[int], *, scale: float
) -> Tensor:
    """What `attend_packed` promises, sequence by sequence."""
    out, groups = [], query.shape[1] // key.shape[1]
    packed = (query.split(list(queries)), key.split(list(keys)), value.split(list(keys)))
    for q, k, v in zip(*packed, strict=True):
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        scores = torch.einsum("thd,shd->hts", q, k) * scale
        ahead = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q)).logical_not()
        out.append(torch.einsum("hts,shd->thd", scores.masked_fill(ahead, -torch.inf).softmax(-1), v))
    return torch.cat(out)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stand-in in place; how many images each call had."""
    calls: list[int] = []

    def counted(*tensors: Any, scale: float) -> Tensor:
        calls.append(len(tensors[3]))
        return stand_in(*tensors, scale=scale)

    monkeypatch.setattr(varlen, "attend_packed", counted)
    monkeypatch.setattr(varlen, "works", lambda *given: True)
    return calls


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_of_different_layouts_in_one_call(packed: list[int], prefix: bool, groups: int) -> None:
    batch = ragged_batch()
    q, k, v = tensors(len(batch), batch[0].length, groups=groups)
    got = BlockMask(prefix=prefix).prefill(q, k, v, LayerView(batch), scale=SCALE)
    want = oracle(q, k, v, [block_mask(layout, prefix=prefix) for layout in batch])
    for b, layout in enumerate(batch):
        own = slice(layout.padding, None)
        torch.testing.assert_close(got[b, :, own], want[b, :, own], rtol=0, atol=1e-12)
    assert packed == [sum(len(own.images) for own in batch if len(own.images) > 1)]


def test_without_several_images_nothing_is_packed(packed: list[int]) -> None:
    layout = Layout(9, 2, (Span(3, 6),))
    q, k, v = tensors(1, 9)
    got = BlockMask().prefill(q, k, v, LayerView((layout,)), scale=SCALE)
    want = oracle(q, k, v, [block_mask(layout)])
    torch.testing.assert_close(got[:, :, 2:], want[:, :, 2:], rtol=0, atol=1e-12)
    assert packed == []


def test_gradients_go_through_the_call_after_an_evaluation(packed: list[int]) -> None:
    layout = Layout(12, 0, (Span(1, 5), Span(6, 10)))
    q, k, v = tensors(1, 12)
    with torch.inference_mode():
        BlockMask().prefill(q, k, v, LayerView((layout,)), scale=SCALE)
    q.requires_grad_()
    BlockMask().prefill(q, k, v, LayerView((layout,)), scale=SCALE).sum().backward()
    assert q.grad is not None
    assert (q.grad.abs().sum(dim=(0, 1, 3))[1:5] > 0).any()


def test_a_kernel_is_taken_only_if_it_computes_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not varlen.agrees(CPU, *SHAPE)  # torch has no such kernel on a CPU
    monkeypatch.setattr(varlen, "attend_packed", stand_in)
    assert varlen.agrees(CPU, *SHAPE)

    def first_keys(*given: Any, scale: float) -> Tensor:  # aligned at the first key, not at the last
        query, key, value, queries, keys = given
        starts = [sum(keys[:i]) for i in range(len(keys))]
        kept = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, queries, strict=True)])
        return stand_in(query, key[kept], value[kept], queries, queries, scale=scale)

    monkeypatch.setattr(varlen, "attend_packed", first_keys)
    assert not varlen.agrees(CPU, *SHAPE)


def test_a_cpu_and_single_precision_have_no_kernel() -> None:
    assert not varlen.works(CPU, torch.bfloat16, 4, 2, 8)
    assert BlockMask().kernel(CPU, torch.bfloat16, 4, 2, 8) == "sdpa"
    assert not varlen.works(torch.device("cuda", 0), torch.float32, 4, 2, 8)


def test_torch_has_the_function_with_these_arguments() -> None:
    from torch.nn.attention.varlen import varlen_attn

    inspect.signature(varlen_attn).bind(*(None,) * 5, 1, 1, scale=1.0, window_size=(-1, 0), enable_gqa=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_mask_gives() -> None:
    device = torch.device("cuda", 0)
    for dtype in (torch.bfloat16, torch.float16):
        assert varlen.works(device, dtype, 4, 2, 64) in (True, False)
        q, k, v = (torch.randn(2, heads, 40, 64, device=device, dtype=dtype) for heads in (4, 2, 2))
        batch = (Layout(40, 0, (Span(3, 15), Span(15, 30))), Layout(40, 4, (Span(6, 9), Span(10, 31))))
        got = BlockMask().prefill(q, k, v, LayerView(batch), scale=SCALE).cpu().double()
        want = oracle(*(x.cpu().double() for x in (q, k, v)), [block_mask(own) for own in batch])
        for b, own in enumerate(batch):
            assert (got[b, :, own.padding :] - want[b, :, own.padding :]).abs().max() < 0.03
