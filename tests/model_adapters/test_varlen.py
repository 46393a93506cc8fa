"""Attention of all images of a batch in one call, on a stand-in for the kernel that only a GPU has."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from model_adapters import varlen
from model_adapters.attention import attend
from model_adapters.interventions import mass
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.mass import written_out_lse
from model_adapters.layout import Layout, Span
from tests.model_adapters.test_attention import SCALE, oracle, ragged_batch, tensors
from tests.oracles.remasking import DOCS, METHODS, assert_oracle, padded, plain_of, prefill
from tests.oracles.remasking import tensors as remasking_tensors

CPU = torch.device("cpu")
SHAPE = (torch.float32, 4, 2, 8)


def stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    scale: float,
    causal: bool = True,
) -> tuple[Tensor, Tensor]:
    """What the kernel promises, sequence by sequence."""
    out, logs, groups = [], [], query.shape[1] // key.shape[1]
    packed = (query.split(list(queries)), key.split(list(keys)), value.split(list(keys)))
    for q, k, v in zip(*packed, strict=True):
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        scores = torch.einsum("thd,shd->hts", q, k) * scale
        if causal:
            ahead = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q)).logical_not()
            scores = scores.masked_fill(ahead, -torch.inf)
        out.append(torch.einsum("hts,shd->thd", scores.softmax(-1), v))
        logs.append(scores.logsumexp(-1))
    return torch.cat(out), torch.cat(logs, dim=1)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stand-in in place; how many images each call of `attend_packed` had."""
    calls: list[int] = []
    real = varlen.attend_packed

    def counted(*tensors: Any, scale: float) -> Tensor:
        calls.append(len(tensors[3]))
        return real(*tensors, scale=scale)

    monkeypatch.setattr(varlen, "attend_packed", counted)
    monkeypatch.setattr(varlen, "_kernel", stand_in)
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
    monkeypatch.setattr(varlen, "_kernel", stand_in)
    assert varlen.agrees(CPU, *SHAPE)

    def other_logs(*given: Any, **options: Any) -> tuple[Tensor, Tensor]:  # base 2, as some kernels have it
        out, lse = stand_in(*given, **options)
        return out, lse / math.log(2)

    monkeypatch.setattr(varlen, "_kernel", other_logs)
    assert not varlen.agrees(CPU, *SHAPE)

    def first_keys(
        *given: Any, scale: float, causal: bool
    ) -> tuple[Tensor, Tensor]:  # aligned at the first key, not at the last
        query, key, value, queries, keys = given
        starts = [sum(keys[:i]) for i in range(len(keys))]
        kept = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, queries, strict=True)])
        return stand_in(query, key[kept], value[kept], queries, queries, scale=scale)

    monkeypatch.setattr(varlen, "_kernel", first_keys)
    assert not varlen.agrees(CPU, *SHAPE)


def test_a_cpu_and_single_precision_have_no_kernel() -> None:
    assert not varlen.works(CPU, torch.bfloat16, 4, 2, 8)
    assert BlockMask().kernel(CPU, torch.bfloat16, 4, 2, 8) == "sdpa"
    assert not varlen.works(torch.device("cuda", 0), torch.float32, 4, 2, 8)


def test_torch_has_the_function_with_these_arguments() -> None:
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    inspect.signature(varlen_attn).bind(
        *(None,) * 5, 1, 1, return_aux=AuxRequest(lse=True), scale=1.0, window_size=(-1, 0), enable_gqa=True
    )


def test_the_call_of_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments, and the shapes that come back, with torch's function replaced."""
    import torch.nn.attention.varlen as theirs

    given: dict[str, Any] = {}

    def recorded(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, key_ends: Tensor, *most: int,
                 **options: Any) -> tuple[Tensor, Tensor]:  # fmt: skip
        given.update(options, ends=ends.tolist(), key_ends=key_ends.tolist(), most=most)
        counts = (ends.diff().tolist(), key_ends.diff().tolist())
        causal = options["window_size"] == (-1, 0)
        return stand_in(query, key, value, *counts, scale=options["scale"], causal=causal)

    monkeypatch.setattr(theirs, "varlen_attn", recorded)
    for causal, keys in ((True, 5), (False, 7)):
        q, k, v = (torch.randn(3, heads, n, 8) for heads, n in ((4, 5), (2, keys), (2, keys)))
        out, lse = varlen.attend_batch(q, k, v, scale=SCALE, causal=causal)
        assert out.shape == (3, 4, 5, 8)
        assert lse.shape == (3, 4, 5)
        want = attend(q, k, v, scale=SCALE, causal=causal)
        torch.testing.assert_close(out, want, rtol=0, atol=1e-5)
        logs = written_out_lse(q, k, scale=SCALE, causal=causal)
        torch.testing.assert_close(lse, logs, rtol=0, atol=1e-5)
        assert given["return_aux"].lse
        assert given["enable_gqa"]
        assert (given["ends"], given["most"]) == ([0, 5, 10, 15], (5, keys))
        assert given["window_size"] == ((-1, 0) if causal else (-1, -1))


@pytest.mark.parametrize("name", METHODS)
def test_where_the_kernel_works_every_method_takes_it_and_other_rows_stay(
    packed: list[int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call gives attention and log-sum-exp; no private operator and no second pass."""
    monkeypatch.setattr(mass, "_runs_flash", lambda *given, **options: False)
    monkeypatch.setattr(mass, "written_out_lse", None)
    batch = padded([DOCS["text_between"], DOCS["several_spans"], DOCS["no_sinks"]])
    qkv = remasking_tensors(3, batch[0].layout.length)
    assert_oracle(name, qkv, batch)
    assert torch.equal(prefill(name, qkv, batch)[2], plain_of(qkv, batch)[2])
    assert METHODS[name].kernel(CPU, torch.bfloat16, 4, 2, 8) == "varlen"


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
