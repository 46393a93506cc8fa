"""Base masks in pieces against transformers' masks as matrices, with every intervention on top."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import masking_utils as masks
from transformers.masking_utils import (
    causal_mask_function,
    sliding_window_causal_mask_function,
)

from model_adapters import base_mask as module
from model_adapters.base_mask import BaseMask, base_mask, ordinary_decode
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.reference import causal_mask, masked_attention, weighted
from model_adapters.relevance.attention import text_attention_sums
from tests.oracles.base_masks import BATCH, FUNCTIONS, IMAGES, PADDING, N, base_of, matrices
from tests.oracles.remasking import (
    METHODS,
    SCALE,
    own_rows,
    tensors,
    view_of,
    weights_of,
)


def view(name: str, record: EditRecord | None = None) -> LayerView:
    plain = view_of(BATCH, record=record)
    return LayerView(plain.layouts, 0, plain.sinks, plain.relevance, record, base_of(name))


def assert_equal(intervention: Intervention, name: str, want: Callable[[int, Tensor], Tensor]) -> None:
    """`want` gives the output (H, N, D) of a doc from its mask (N, N)."""
    qkv = tensors(len(BATCH), N)
    got = intervention.prefill(*qkv, view(name), scale=SCALE)
    expected = torch.stack([want(b, mask) for b, mask in enumerate(matrices(name))])
    torch.testing.assert_close(own_rows(got, BATCH), own_rows(expected, BATCH), rtol=0, atol=1e-12)


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces in sequences of a few dozen tokens."""
    monkeypatch.setattr(module.chunks, "__kwdefaults__", {"at_once": 7})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_base_model_alone(name: str) -> None:
    q, k, v = tensors(len(BATCH), N)
    assert_equal(
        NoIntervention(), name, lambda b, mask: masked_attention(q[b], k[b], v[b], mask, scale=SCALE)
    )


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_block_masking_allows_what_both_allow(name: str, prefix: bool) -> None:
    """Within an image the base mask rules, in both directions if it says so."""
    q, k, v = tensors(len(BATCH), N)

    def want(b: int, mask: Tensor) -> Tensor:
        layout = BATCH[b].layout
        block = torch.ones(N, N, dtype=torch.bool)
        for image in layout.images if len(layout.images) > 1 else ():
            tokens = image.indices()
            block[tokens] = False
            block[tokens[:, None], tokens] = True
            if prefix:
                block[tokens, layout.text_prefix.start : layout.text_prefix.end] = True
        assert torch.equal(block & causal_mask(layout), block_mask(layout, prefix=prefix))
        return masked_attention(q[b], k[b], v[b], mask & block, scale=SCALE)

    assert_equal(BlockMask(prefix=prefix), name, want)


def alpha_of(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """(H, N, N): the base model's weights."""
    scores = query @ key.repeat_interleave(2, dim=0).transpose(1, 2) * SCALE
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1).nan_to_num()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_remasking_edits_the_base_model_s_weights(name: str, method: str) -> None:
    q, k, v = tensors(len(BATCH), N)
    assert_equal(
        METHODS[method],
        name,
        lambda b, mask: weighted(weights_of(method, alpha_of(q[b], k[b], mask), BATCH[b]), v[b]),
    )


@pytest.mark.parametrize("method", ["ar", "unmask_only"])
def test_rows_that_are_not_edited_are_the_base_model_s_bit_for_bit(method: str) -> None:
    qkv = tensors(len(BATCH), N, dtype=torch.float32)
    name = "window_and_images_both_ways"
    plain = NoIntervention().prefill(*qkv, view(name), scale=SCALE)
    got = METHODS[method].prefill(*qkv, view(name), scale=SCALE)
    equal = (got == plain).all(dim=-1)
    for b, mask in enumerate(matrices(name)):
        sees_no_sink = ~(mask & BATCH[b].sinks).any(dim=-1)
        assert bool(equal[b][:, sees_no_sink].all())
    assert not bool(equal.all())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["window", "window_and_images_both_ways"])
def test_the_record_counts_the_weights_of_edited_rows(name: str, method: str) -> None:
    q, k, v = tensors(len(BATCH), N)
    record = EditRecord(len(BATCH))
    METHODS[method].prefill(q, k, v, view(name, record), scale=SCALE)
    for b, mask in enumerate(matrices(name)):
        alpha = alpha_of(q[b], k[b], mask)
        weights = weights_of(method, alpha, BATCH[b])
        edited = (weights - alpha).abs().amax(dim=-1) > 1e-12  # more than rounding
        counts = (weights != 0).sum(dim=-1) * edited
        assert record.docs()[b]["nonzeros"] == int(counts.sum())
        assert record.docs()[b]["most_nonzeros"] == int(counts.max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_attention_of_text_to_images_is_the_base_model_s(name: str) -> None:
    q, k, _ = tensors(len(BATCH), N)
    layouts = [doc.layout for doc in BATCH]
    got = text_attention_sums(q, k, layouts, scale=SCALE, base=base_of(name))
    for b, mask in enumerate(matrices(name)):
        layout = layouts[b]
        if layout.images:
            behind = slice(layout.images[-1].end, layout.end)
            want = alpha_of(q[b], k[b], mask)[:, behind].sum(dim=(0, 1)) / q.shape[1]
            torch.testing.assert_close(got[b], want * (IMAGES[b] >= 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [None, "mask_only", "ar_masking_empty_rows"])
@pytest.mark.parametrize(("generated", "window"), [(1, 6), (5, 6), (3, 100)])
def test_a_generated_token_sees_its_window_of_a_cache_that_dropped_keys(
    generated: int, window: int, method: str | None
) -> None:
    """transformers' sliding cache keeps the last `window` - 1 keys and the new one."""
    total = N + generated
    dropped = max(0, total - window)
    rows = len(BATCH)
    full = tensors(rows, total)
    query, (key, value) = full[0][:, :, -1:], (x[:, :, dropped:] for x in full[1:])
    padding = torch.nn.functional.pad(PADDING, (0, generated), value=True)
    base = base_mask(
        mask_function=sliding_window_causal_mask_function(window),
        kv_length=total - dropped,
        q_offset=total - 1,
        kv_offset=dropped,
        attention_mask=padding,
        local_size=window,
    )
    assert (base is None) == (window == 100)
    seen = padding & (torch.arange(total) > total - 1 - window)
    sinks = torch.nn.functional.pad(view_of(BATCH).sinks, (0, generated))  # type: ignore[arg-type]
    if method is None:
        layouts = tuple(doc.layout for doc in BATCH)
        got = ordinary_decode(query, key, value, layouts, base, scale=SCALE)
    else:
        plain = view_of(BATCH)
        with_base = LayerView(plain.layouts, 0, plain.sinks, plain.relevance, None, base)
        got = METHODS[method].decode(query, key, value, with_base, scale=SCALE)
        seen = seen & ~sinks
    for b in range(rows):
        scores = query[b] @ full[1][b].repeat_interleave(2, dim=0).transpose(1, 2) * SCALE
        weights = scores.masked_fill(~seen[b], float("-inf")).softmax(dim=-1)
        want = weights @ full[2][b].repeat_interleave(2, dim=0)
        torch.testing.assert_close(got[b], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("how", "plain"),
    [
        ({"mask_function": causal_mask_function, "kv_length": 9}, True),
        ({"mask_function": causal_mask_function, "kv_length": 9, "allow_is_causal_skip": False}, True),
        ({"mask_function": FUNCTIONS["window"], "kv_length": 4, "local_size": 4}, True),
        ({"mask_function": FUNCTIONS["window"], "kv_length": 5, "local_size": 4}, False),
        ({"mask_function": FUNCTIONS["window"], "kv_length": 4, "kv_offset": 1, "local_size": 4}, False),
        ({"mask_function": FUNCTIONS["chunks"], "kv_length": 5, "local_size": 5}, True),
        (
            {"mask_function": FUNCTIONS["images_both_ways"], "kv_length": 9, "allow_is_causal_skip": False},
            False,
        ),
    ],
)
def test_a_plain_causal_mask_is_told_from_others(how: dict[str, Any], plain: bool) -> None:
    assert (base_mask(batch_size=1, q_length=1, dtype=torch.float32, config=None, **how) is None) == plain


def test_transformers_gives_the_mask_interface_what_we_read() -> None:
    """The names of its arguments are not promised anywhere."""
    import inspect

    ours = set(inspect.signature(base_mask).parameters) - {"others"}
    assert ours <= set(inspect.signature(masks.sdpa_mask).parameters)


def test_no_tensor_of_n_times_n_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,048 tokens, at most 256 rows are looked at together, over the keys of their window."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from model_adapters.layout import Layout, Span

    monkeypatch.setattr(module.chunks, "__kwdefaults__", {"at_once": 256})
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    n = 2048
    layout = Layout(n, images=(Span(10, 900), Span(910, 1900)))
    base = BaseMask(sliding_window_causal_mask_function(64))
    qkv = tensors(1, n, heads=2, groups=1, dtype=torch.float32)
    with Watch():
        BlockMask().prefill(*qkv, LayerView((layout,), base=base), scale=SCALE)
    assert largest <= 256 * n
