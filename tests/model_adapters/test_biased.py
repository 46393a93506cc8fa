"""SoFA and knockout against their matrices: odd layouts, any base mask, low precision, training."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from model_adapters.base_mask import BaseMask, ordinary_decode, ordinary_prefill
from model_adapters.interventions import biased
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.reference import causal_mask
from model_adapters.interventions.sofa.kernel import Sofa
from model_adapters.layout import Layout
from tests.model_adapters.test_attention import RAGGED, SCALE, layout_of, ragged_batch, tensors
from tests.oracles.base_masks import BATCH, FUNCTIONS, N, base_of, matrices
from tests.oracles.biased import BLOCK, BLOCKS, CASES, Case, draw, knockout, sofa

STATES = (torch.float32, torch.bfloat16)


def whole(case: Case, qkv: list[Tensor], layouts: tuple[Layout, ...], seen: list[Tensor]) -> Tensor:
    rows = [
        case.attention(tuple(x[b] for x in qkv), layout, seen[b], scale=SCALE)
        for b, layout in enumerate(layouts)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_odd_layouts_equals_the_matrices(name: str) -> None:
    batch = ragged_batch()
    qkv = tensors(len(batch), batch[0].length)
    got = CASES[name].mask.prefill(*qkv, LayerView(batch), scale=SCALE)
    want = whole(CASES[name], qkv, batch, [causal_mask(layout) for layout in batch])
    for b, layout in enumerate(batch):
        tokens = layout.tokens
        torch.testing.assert_close(got[b, :, tokens], want[b, :, tokens], rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", FUNCTIONS)
@pytest.mark.parametrize("name", CASES)
def test_any_base_mask_is_composed_with(name: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biased, "_SCORES_AT_ONCE", 4 * N * 5)  # five rows at a time
    layouts = tuple(doc.layout for doc in BATCH)
    qkv = tensors(len(BATCH), N)
    got = CASES[name].mask.prefill(*qkv, LayerView(layouts, base=base_of(base)), scale=SCALE)
    want = whole(CASES[name], qkv, layouts, list(matrices(base)))
    for b, layout in enumerate(layouts):
        tokens = layout.tokens
        torch.testing.assert_close(got[b, :, tokens], want[b, :, tokens], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", STATES)
@pytest.mark.parametrize("name", CASES)
def test_low_precision_errs_like_one_softmax_over_a_materialised_bias(name: str, dtype: torch.dtype) -> None:
    layout = layout_of([10, 24, 0, 24, 3, 24, 15])
    exact = tensors(1, layout.length)
    want = whole(CASES[name], exact, (layout,), [causal_mask(layout)])
    q, k, v = (x.to(dtype) for x in exact)
    got = CASES[name].mask.prefill(q, k, v, LayerView((layout,)), scale=SCALE).double()
    bias = CASES[name].factor(layout, causal_mask(layout)).log()[None].repeat(4, 1, 1)
    if (heads := CASES[name].heads) is not None:
        others = [head for head in range(4) if head not in heads]
        bias[others] = causal_mask(layout).double().log()
    keys, values = (x.repeat_interleave(2, 1) for x in (k, v))
    dense = scaled_dot_product_attention(q, keys, values, attn_mask=bias[None].to(dtype), scale=SCALE)
    error = (dense.double() - want).abs().max().item()
    assert (got - want).abs().max().item() <= 3 * error


@pytest.mark.parametrize("base", [None, "window_and_images_both_ways"])
@pytest.mark.parametrize("name", CASES)
def test_rows_that_do_not_change_are_the_base_models_bit_for_bit(name: str, base: str | None) -> None:
    layouts, case = tuple(doc.layout for doc in BATCH), CASES[name]
    qkv = tensors(len(BATCH), N, dtype=torch.float32)
    shown = LayerView(layouts, base=None if base is None else base_of(base))
    plain = ordinary_prefill(*qkv, layouts, shown.base, scale=SCALE)
    got = case.mask.prefill(*qkv, shown, scale=SCALE)
    changed = 0
    for b, layout in enumerate(layouts):
        seen = causal_mask(layout) if base is None else matrices(base)[b]
        same = (case.factor(layout, seen) == seen).all(dim=-1)
        same[: layout.padding] = same[layout.end :] = False
        for head in range(4):
            rows = same if case.heads is None or head in case.heads else layout.is_token(same.device)
            assert torch.equal(got[b, head, rows], plain[b, head, rows])
            changed += int((got[b, head] != plain[b, head]).any())
    assert changed


# Training


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", [*CASES, "block", "block_with_prefix"])
def test_gradients_are_those_of_the_matrices(name: str, padded: bool, dtype: torch.dtype) -> None:
    """block,prefix=true gave those of a merge without the log-sum-exps: 0.74 off where the largest is 3."""
    case = {**CASES, "block": BLOCKS[False], "block_with_prefix": BLOCKS[True]}[name]
    layout = layout_of([3, 5, 2, (2, 1, 3), 1, 4, 4], padding=2 * padded, right=3 * padded)
    exact = [x.requires_grad_() for x in tensors(1, layout.length)]
    upstream = draw((1, 4, layout.length, 8), 1) * layout.is_token(torch.device("cpu"))[:, None]
    want_out = whole(case, exact, (layout,), [causal_mask(layout)])
    want = torch.autograd.grad((want_out * upstream).sum(), exact)
    ours = [x.detach().to(dtype).requires_grad_() for x in exact]
    out = case.mask.prefill(*ours, LayerView((layout,)), scale=SCALE)
    got = torch.autograd.grad((out * upstream.to(dtype)).sum(), ours)
    for one, other in zip(got, want, strict=True):
        bar = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(one.double(), other, rtol=0, atol=bar)


@pytest.mark.parametrize("base", ["window", "images_both_ways"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_within_a_base_mask_are_those_of_the_matrices(name: str, base: str) -> None:
    layouts = tuple(doc.layout for doc in BATCH)
    qkv = [x.requires_grad_() for x in tensors(len(BATCH), N)]
    upstream = draw((len(BATCH), 4, N, 8), 1)
    for b, layout in enumerate(layouts):
        upstream[b, :, ~layout.is_token(torch.device("cpu"))] = 0
    want_out = whole(CASES[name], qkv, layouts, list(matrices(base)))
    want = torch.autograd.grad((want_out * upstream).sum(), qkv)
    out = CASES[name].mask.prefill(*qkv, LayerView(layouts, base=base_of(base)), scale=SCALE)
    got = torch.autograd.grad((out * upstream).sum(), qkv)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


# Size


class Largest(TorchDispatchMode):
    """Watches the number of elements of every tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple) else (out,):
            if isinstance(made, Tensor):
                self.numel = max(self.numel, made.numel())
        return out


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("window", [False, True])
def test_no_tensor_grows_with_n_squared(name: str, window: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,048 tokens and 4 heads: forward and backward."""
    from transformers.masking_utils import sliding_window_causal_mask_function

    monkeypatch.setattr(biased, "_SCORES_AT_ONCE", 2**18)
    layout = layout_of([10, 600, 5, 600, 5, 600, 228])
    base = BaseMask(sliding_window_causal_mask_function(64)) if window else None
    qkv = tensors(1, layout.length, dtype=torch.float32)
    view = LayerView((layout,), base=base, record=EditRecord(1))
    with Largest() as seen:
        CASES[name].mask.prefill(*qkv, view, scale=SCALE)
        if not window:
            qkv = [x.requires_grad_() for x in qkv]
            CASES[name].mask.prefill(*qkv, view, scale=SCALE).sum().backward()
    assert layout.length == 2048
    assert seen.numel <= max(2**20, 256 * 2048 * 2)  # of 4 x 2048 x 2048 = 2**24


# The record


@pytest.mark.parametrize("base", [None, "window_and_images_both_ways"])
@pytest.mark.parametrize("name", CASES)
def test_the_record_counts_rows_pairs_and_mass(name: str, base: str | None) -> None:
    layouts, case = tuple(doc.layout for doc in BATCH), CASES[name]
    qkv, record = tensors(len(BATCH), N), EditRecord(len(BATCH))
    base_mask = None if base is None else base_of(base)
    case.mask.prefill(*qkv, LayerView(layouts, record=record, base=base_mask), scale=SCALE)
    heads = len(case.heads or range(4))
    pairs, mass = ("count:opened_pairs", "count:moved_mass")
    if name.startswith("knockout"):
        pairs, mass = ("count:blocked_pairs", "count:removed_mass")
    for b, (layout, sums) in enumerate(zip(layouts, record.docs(), strict=True)):
        seen = causal_mask(layout) if base is None else matrices(base)[b]
        differs = case.factor(layout, seen) != seen
        assert sums.get("count:edited_rows", 0) == heads * int(differs.any(dim=-1).sum())
        assert sums.get(pairs, 0) == heads * int(differs.sum())
        before = causal_weights_of(qkv, b, seen)
        after = case.weights(qkv[0][b], qkv[1][b], layout, seen, scale=SCALE)
        moved = torch.where(differs, before if name.startswith("knockout") else after, 0.0).sum(dim=-1)
        if case.heads is not None:
            moved = moved[list(case.heads)]
        torch.testing.assert_close(sums.get(mass, 0.0), float(moved.sum()), rtol=0, atol=1e-9)
        assert sums["docs_unchanged"] == int(not differs.any())


def causal_weights_of(qkv: list[Tensor], b: int, seen: Tensor) -> Tensor:
    """(H, N, N) before the edit."""
    from model_adapters.interventions.reference import weights_by_factors

    return weights_by_factors(qkv[0][b], qkv[1][b], seen, scale=SCALE)


# Identities


def test_sigma_zero_is_the_base_model_bit_for_bit() -> None:
    batch = ragged_batch()
    for dtype in (torch.float64, *STATES):
        qkv = tensors(len(batch), batch[0].length, dtype=dtype)
        for own_image in (False, True):
            got = Sofa(sigma=0, own_image=own_image).prefill(*qkv, LayerView(batch), scale=SCALE)
            assert torch.equal(got, ordinary_prefill(*qkv, batch, None, scale=SCALE))


def test_averaging_outputs_is_another_method() -> None:
    """METHODS 5: sigma interpolates masks, not outputs."""
    layout = layout_of([3, 5, 0, 5, 0, 5, 4])
    qkv = tensors(1, layout.length)
    half, full, none = (
        Sofa(sigma=sigma).prefill(*qkv, LayerView((layout,)), scale=SCALE) for sigma in (0.5, 1.0, 0.0)
    )
    rows = layout.images[0].indices()
    apart = (half - (full + none) / 2)[:, :, rows].abs().mean() / (full - none)[:, :, rows].abs().mean()
    assert apart > 0.05


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, *STATES])
def test_knockout_with_the_edges_of_block_is_block(prefix: bool, dtype: torch.dtype) -> None:
    """To the float64 bar, not bit for bit: block gives several images to one call."""
    batch = tuple(layout for layout in ragged_batch() if len(layout.images) != 1)
    qkv = tensors(len(batch), batch[0].length, dtype=dtype)
    edges = BLOCK.replace("+image>prefix", "") if prefix else BLOCK
    got = knockout(edges).mask.prefill(*qkv, LayerView(batch), scale=SCALE)
    want = BlockMask(prefix=prefix).prefill(*qkv, LayerView(batch), scale=SCALE)
    for b, layout in enumerate(batch):
        tokens = layout.tokens
        bar = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 0.04}[dtype]
        torch.testing.assert_close(got[b, :, tokens], want[b, :, tokens], rtol=0, atol=bar)


PARTS = st.lists(
    st.integers(0, 4) | st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), max_size=9
)
GROUPS = ("prefix", "image", "between", "question", "last", "image[1]", "image[2]", "other", "later")


def random_layout(parts: list[int | tuple[int, ...]], padding: int, right: int) -> Layout:
    sizes = [
        part if i % 2 == 0 else tuple(size or j % 2 == 0 for j, size in enumerate(part))
        for i, part in enumerate([x if isinstance(x, tuple) else (x,) for x in [1, *parts]])
    ]
    return layout_of(sizes, padding=padding, right=right)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    parts=PARTS,
    padding=st.integers(0, 3),
    right=st.integers(0, 3),
    edges=st.sets(
        st.sampled_from(
            [
                f"{query}>{key}"
                for query, key in itertools.product(GROUPS, GROUPS)
                if query not in ("other", "later")
                and (key not in ("other", "later") or query.startswith("image"))
                and (query, key) != ("last", "last")
            ]
        ),
        min_size=1,
        max_size=5,
    ),
    sigma=st.floats(0.01, 1),
    own_image=st.booleans(),
)
def test_random_layouts_edges_and_sigmas_equal_the_matrices(
    parts: list[int | tuple[int, ...]],
    padding: int,
    right: int,
    edges: set[str],
    sigma: float,
    own_image: bool,
) -> None:
    layout = random_layout(parts, padding, right)
    qkv = tensors(1, layout.length)
    for case in (knockout("+".join(sorted(edges))), sofa(sigma, own_image=own_image)):
        got = case.mask.prefill(*qkv, LayerView((layout,)), scale=SCALE)
        want = whole(case, qkv, (layout,), [causal_mask(layout)])
        torch.testing.assert_close(got[:, :, layout.tokens], want[:, :, layout.tokens], rtol=0, atol=1e-12)


# What SoFA must not let through


@pytest.mark.parametrize("own_image", [False, True])
def test_no_token_after_the_last_image_is_seen_earlier(own_image: bool) -> None:
    layout = layout_of([3, 5, 2, (2, 1, 3), 1, 4, 6], padding=2)
    q, k, v = tensors(1, layout.length, dtype=torch.float32)
    mask = Sofa(sigma=0.5, own_image=own_image)
    before = mask.prefill(q, k, v, LayerView((layout,)), scale=SCALE)
    for place in range(layout.images[-1].end, layout.end):
        moved = [x.clone() for x in (q, k, v)]
        for x in moved:
            x[:, :, place] += 1.0
        after = mask.prefill(*moved, LayerView((layout,)), scale=SCALE)
        assert torch.equal(after[:, :, :place], before[:, :, :place])
        assert not torch.equal(after[:, :, place], before[:, :, place])


@pytest.mark.parametrize("own_image", [False, True])
def test_text_rows_and_generated_tokens_are_causal_bit_for_bit(own_image: bool) -> None:
    batch = ragged_batch()
    q, k, v = tensors(len(batch), batch[0].length + 2, dtype=torch.float32)
    mask, n = Sofa(sigma=0.5, own_image=own_image), batch[0].length
    prompt = [x[:, :, :n] for x in (q, k, v)]
    got, plain = (
        mask.prefill(*prompt, LayerView(batch), scale=SCALE),
        ordinary_prefill(*prompt, batch, None, scale=SCALE),
    )
    for b, layout in enumerate(batch):
        text = layout.image_numbers() < 0
        assert torch.equal(got[b][:, text], plain[b][:, text])
    step = mask.decode(q[:, :, -1:], k, v, LayerView(batch), scale=SCALE)
    assert torch.equal(step, ordinary_decode(q[:, :, -1:], k, v, batch, None, scale=SCALE))


def test_all_but_the_last_image_change_and_with_own_image_that_too() -> None:
    layout = layout_of([3, 5, 2, 5, 2, 5, 4])
    qkv = tensors(1, layout.length)
    plain = ordinary_prefill(*qkv, (layout,), None, scale=SCALE)
    for own_image in (False, True):
        got = Sofa(sigma=0.5, own_image=own_image).prefill(*qkv, LayerView((layout,)), scale=SCALE)
        moved = (got != plain).any(dim=(0, 1, 3))
        last = layout.images[-1].indices()
        assert [bool(moved[image.indices()].all()) for image in layout.images[:-1]] == [True, True]
        assert bool(moved[last[:-1]].all()) == bool(moved[last].any()) == own_image


def test_one_image_is_unchanged_unless_its_own_tokens_are_opened() -> None:
    layout = layout_of([4, 6, 5])
    qkv = tensors(1, layout.length)
    plain = ordinary_prefill(*qkv, (layout,), None, scale=SCALE)
    assert torch.equal(Sofa(sigma=0.5).prefill(*qkv, LayerView((layout,)), scale=SCALE), plain)
    own = Sofa(sigma=0.5, own_image=True).prefill(*qkv, LayerView((layout,)), scale=SCALE)
    assert not torch.equal(own, plain)


def test_layouts_of_the_table_hold_what_the_tests_say() -> None:
    assert any(len(layout.images) == 1 for layout in RAGGED)
    assert any(not layout.images for layout in RAGGED)
