"""Attention Remasking in closed form against Eq. 10 as a matrix, and what it must leave alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from model_adapters.attention import causal_prefill, decode_step
from model_adapters.interventions.base import LayerView, Relevance
from model_adapters.interventions.mass import ordinary_with_lse, written_out_lse
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.reference import causal_weights
from model_adapters.interventions.remasking.kernel import AttentionRemasking, UnmaskOnly
from model_adapters.interventions.remasking.masking import MaskOnly
from model_adapters.interventions.remasking.reference import opened_links
from model_adapters.layout import Layout
from tests.oracles.remasking import (
    DOCS,
    METHODS,
    PLAIN,
    SCALE,
    Doc,
    assert_oracle,
    draw_doc,
    grounded_at,
    layout_of,
    links_of,
    oracle,
    own_rows,
    padded,
    plain_of,
    prefill,
    sinks_in,
    tensors,
    view_of,
    weights_of,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
OPENING = ("ar", "unmask_only", "ar_later_tokens", "unmask_only_later_tokens")


@pytest.mark.parametrize("heads_and_groups", [(3, 1), (4, 2), (14, 7)], ids=str)
@pytest.mark.parametrize("doc", DOCS.values(), ids=DOCS)
@pytest.mark.parametrize("name", METHODS)
def test_closed_form_equals_equation_10_as_a_matrix(
    name: str, doc: Doc, heads_and_groups: tuple[int, int]
) -> None:
    heads, groups = heads_and_groups
    assert_oracle(name, tensors(1, doc.layout.length, heads=heads, groups=groups), [doc])


@pytest.mark.parametrize("extra", [0, 5])
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_different_docs_equals_the_matrices(name: str, extra: int) -> None:
    docs = padded(list(DOCS.values()), extra=extra)
    assert_oracle(name, tensors(len(docs), docs[0].layout.length), docs)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    parts=st.lists(
        st.lists(
            st.integers(0, 6) | st.lists(st.integers(0, 3), min_size=3, max_size=5).map(tuple),
            min_size=1,
            max_size=11,
        ),
        min_size=1,
        max_size=3,
    ),
    densities=st.tuples(st.sampled_from([0, 0.1, 0.5, 1]), st.sampled_from([0, 0.1, 0.5, 1])),
    heads_and_groups=st.sampled_from([(2, 1), (4, 2), (14, 7)]),
    seed=st.integers(0, 999),
)
def test_random_batches_equal_the_matrices(
    name: str,
    parts: list[list[int | tuple[int, ...]]],
    densities: tuple[float, float],
    heads_and_groups: tuple[int, int],
    seed: int,
) -> None:
    layouts = [layout_of([_filled(p, i % 2) for i, p in enumerate([*part, 1])]) for part in parts]
    drawn = [draw_doc(layout, seed=seed, sinks=densities[0], grounded=densities[1]) for layout in layouts]
    docs = padded(drawn, extra=seed % 3)
    heads, groups = heads_and_groups
    assert_oracle(
        name, tensors(len(docs), docs[0].layout.length, heads=heads, groups=groups, seed=seed), docs
    )


def _filled(part: int | tuple[int, ...], image: int) -> int | tuple[int, ...]:
    """A part whose image spans hold a token each."""
    if isinstance(part, int):
        return part or image
    return tuple(size or image * (j % 2 == 0) for j, size in enumerate(part))


@pytest.mark.parametrize("name", METHODS)
def test_many_chunks_equal_the_matrix(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_adapters.interventions import mass

    monkeypatch.setattr(mass, "_SCORES_AT_ONCE", 25)
    assert_oracle(name, tensors(1, PLAIN.layout.length), [PLAIN])


@pytest.mark.parametrize(("few", "block"), [(0, 1), (0, 4), (3, 128)])
@pytest.mark.parametrize("name", OPENING)
def test_many_sets_of_opened_keys_equal_the_matrix(
    name: str, few: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scores that differ by thousands no share is 0/0."""
    from model_adapters.interventions.remasking import links

    monkeypatch.setattr(links, "_FEW", few)
    monkeypatch.setattr(links, "_BLOCK", block)
    docs = padded(list(DOCS.values()), extra=2)
    steep = [replace(doc, score=doc.score * 500) for doc in docs]
    for own in (docs, steep):
        got = prefill(name, tensors(len(own), own[0].layout.length), own)
        assert bool(got.isfinite().all())
    assert_oracle(name, tensors(len(docs), docs[0].layout.length, heads=14, groups=7), docs)


@pytest.mark.parametrize("name", [name for name in OPENING if links_of(name) == "later_tokens"])
def test_one_image_is_edited_where_its_own_later_tokens_are_opened(name: str) -> None:
    """With later images only, one image is the identity (METHODS 4)."""
    doc = sinks_in(draw_doc(layout_of([4, 9, 5]), seed=7, grounded=0.8), slice(0, 1))
    qkv = tensors(1, doc.layout.length)
    plain = plain_of(qkv, [doc])
    assert torch.equal(prefill(name.removesuffix("_later_tokens"), qkv, [doc]), plain)
    assert not torch.equal(prefill(name, qkv, [doc]), plain)
    assert_oracle(name, qkv, [doc])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", METHODS)
def test_low_precision_errs_like_the_matrix_in_that_precision(
    name: str, dtype: torch.dtype, device: str
) -> None:
    """The matrix in the same precision, on the same inputs, is what the tolerance is taken from."""
    docs = padded([draw_doc(layout_of([20, 40, 0, 40, 3, 40, 30]), seed=i) for i in range(2)], extra=3)
    qkv = tensors(2, docs[0].layout.length, heads=14, groups=7, width=16, dtype=dtype)
    exact = own_rows(oracle(name, *(x.double() for x in qkv), docs), docs)
    matrix = own_rows(oracle(name, *qkv, docs), docs).double()
    got = prefill(name, [x.to(device) for x in qkv], docs)
    assert got.dtype == dtype
    error = (own_rows(got.cpu(), docs).double() - exact).abs()
    allowed = (matrix - exact).abs()
    assert error.mean() <= 2 * allowed.mean()
    assert error.max() <= 2 * allowed.max()


def test_masked_rows_keep_their_digits_where_sinks_hold_nearly_everything() -> None:
    """(O - eta s) / (1 - eta) in bfloat16 loses all digits here: its error is above 1."""
    doc = sinks_in(draw_doc(layout_of([3, 8, 0, 8, 4])), slice(0, 1))
    q, k, v = tensors(1, doc.layout.length, dtype=torch.bfloat16)
    q[..., 0], k[..., 0] = 8.0, 0.0
    k[:, :, doc.sinks, 0] = 3.0  # scores of sinks are higher by 7.2
    alpha = causal_weights(q[0].double(), k[0].double(), doc.layout, scale=SCALE)
    left = 1 - alpha[:, :, doc.sinks].sum(-1)
    assert 1e-6 < left[:, 11:].min() < 0.01
    exact = oracle("mask_only", *(x.double() for x in (q, k, v)), [doc])
    got = prefill("mask_only", [q, k, v], [doc])
    plain, given_to_sinks = (
        plain_of([q, k, v], [doc]),
        alpha[..., doc.sinks] @ v[0].double().repeat_interleave(2, 0)[:, doc.sinks],
    )
    subtracted = (plain[0].double() - given_to_sinks) / left[..., None]
    assert (subtracted - exact[0]).abs().max() > 1
    assert (got.double() - exact).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("extra", [0, 4])
@pytest.mark.parametrize("name", OPENING)
def test_rows_with_nothing_to_open_or_no_sink_before_them_are_those_of_none_bit_for_bit(
    name: str, extra: int, dtype: torch.dtype
) -> None:
    docs = padded(list(DOCS.values()), extra=extra)
    qkv = tensors(len(docs), docs[0].layout.length, dtype=dtype)
    got, plain = prefill(name, qkv, docs), plain_of(qkv, docs)
    edited = 0
    for b, doc in enumerate(docs):
        links = opened_links(doc.layout, doc.sinks, doc.grounded, links=links_of(name)).any(dim=-1)
        may_change = links & (doc.sinks.cumsum(0) > 0)
        assert torch.equal(got[b][:, ~may_change], plain[b][:, ~may_change])
        assert (got[b][:, may_change] != plain[b][:, may_change]).any(dim=-1).all()
        edited += int(may_change.sum())
    assert edited > 50


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("doc", ["no_sinks", "text_only"])
def test_a_doc_without_sinks_is_that_of_none_bit_for_bit(name: str, doc: str) -> None:
    qkv = tensors(1, DOCS[doc].layout.length, dtype=torch.float32)
    assert torch.equal(prefill(name, qkv, [DOCS[doc]]), plain_of(qkv, [DOCS[doc]]))


@pytest.mark.parametrize("doc", DOCS.values(), ids=DOCS)
@pytest.mark.parametrize("name", METHODS)
def test_rows_of_the_matrix_sum_to_one_and_open_only_later_grounded_tokens(name: str, doc: Doc) -> None:
    query, key, _ = tensors(1, doc.layout.length)
    alpha = causal_weights(query[0], key[0], doc.layout, scale=SCALE)
    weights = weights_of(name, alpha, doc)
    own = slice(doc.layout.padding, None)
    torch.testing.assert_close(weights[:, own].sum(-1), torch.ones_like(alpha[:, own, 0]), rtol=0, atol=1e-12)
    new = ((weights > 0) & (alpha == 0)).any(dim=0)
    for i, j in new.nonzero().tolist():
        (mine,) = [m for m, image in enumerate(doc.layout.images) if i in image.indices().tolist()]
        (other,) = [m for m, image in enumerate(doc.layout.images) if j in image.indices().tolist()]
        assert other > mine or (links_of(name) == "later_tokens" and other == mine and j > i)
        assert doc.grounded[j]
        assert not doc.sinks[j]


@pytest.mark.parametrize("name", METHODS)
def test_no_token_after_the_last_image_changes_anything_at_or_before_it(name: str) -> None:
    docs = padded([draw_doc(layout_of([3, 9, 2, 9, 0, 9, 6]), seed=i, sinks=0.4) for i in range(2)], extra=2)
    qkv = tensors(2, docs[0].layout.length)
    before = prefill(name, qkv, docs)
    end = docs[0].layout.images[-1].end
    assert end == docs[1].layout.images[-1].end
    for place in range(end, docs[0].layout.length):
        moved = [x.clone() for x in qkv]
        for x in moved:
            x[:, :, place] += 1000.0
        after = prefill(name, moved, docs)
        assert torch.equal(after[:, :, :place], before[:, :, :place])
        assert not torch.equal(after[:, :, place], before[:, :, place])


@pytest.mark.parametrize("name", METHODS)
def test_no_generated_token_changes_anything_before_it(name: str) -> None:
    docs = padded([draw_doc(layout_of([3, 9, 2, 9, 4]), seed=i, sinks=0.4) for i in range(2)], extra=2)
    prompt, new = docs[0].layout.length, 4
    qkv = tensors(2, prompt + new)

    def states(qkv: list[torch.Tensor]) -> torch.Tensor:
        view = view_of(docs)
        parts = [METHODS[name].prefill(*(x[:, :, :prompt] for x in qkv), view, scale=SCALE)]
        for t in range(prompt, prompt + new):
            query, (key, value) = qkv[0][:, :, t : t + 1], (x[:, :, : t + 1] for x in qkv[1:])
            parts.append(METHODS[name].decode(query, key, value, view, scale=SCALE))
        return torch.cat(parts, dim=2)

    before = states(qkv)
    for t in range(prompt, prompt + new):
        moved = [x.clone() for x in qkv]
        for x in moved:
            x[:, :, t] += 1000.0
        after = states(moved)
        assert torch.equal(after[:, :, :t], before[:, :, :t])
        assert not torch.equal(after[:, :, t], before[:, :, t])


def test_a_picture_does_reach_an_earlier_one_through_its_grounded_tokens_only() -> None:
    layout = layout_of([3, 6, 0, 6, 2])
    doc = sinks_in(draw_doc(layout), slice(0, 1))
    first, second = layout.images
    grounded = torch.zeros(layout.length, dtype=torch.bool)
    grounded[second.start + 2] = True
    doc = grounded_at(doc, grounded)
    qkv = tensors(1, layout.length)
    before = prefill("ar", qkv, [doc])
    for place in range(second.start, second.end):
        moved = [x.clone() for x in qkv]
        moved[2][:, :, place] += 1.0
        changed = (prefill("ar", moved, [doc]) != before)[0, :, first.start : first.end].any(dim=-1)
        assert bool(changed.all()) is (place == second.start + 2)
        assert bool(changed.any()) is (place == second.start + 2)


@pytest.mark.parametrize("name", ["mask_only", "ar_masking_empty_rows"])
def test_a_generated_token_sees_no_sink_as_the_last_row_of_a_longer_prompt(name: str) -> None:
    docs = padded(list(DOCS.values()), extra=1, left_only=True)
    prompt = docs[0].layout.length
    for new in (1, 3):
        longer = [
            Doc(
                Layout(prompt + new, doc.layout.padding, doc.layout.images),
                *(torch.nn.functional.pad(x, (0, new)) for x in (doc.sinks, doc.grounded, doc.score)),
            )
            for doc in docs
        ]
        query, key, value = tensors(len(docs), prompt + new)
        got = METHODS[name].decode(query[:, :, -1:], key, value, view_of(docs), scale=SCALE)
        for want in (prefill(name, [query, key, value], longer), oracle(name, query, key, value, longer)):
            torch.testing.assert_close(got, want[:, :, -1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPENING)
def test_decoding_is_ordinary_where_only_pictures_are_edited(name: str) -> None:
    docs = padded([PLAIN, DOCS["one_image"]])
    query, key, value = tensors(2, docs[0].layout.length + 2)
    view = view_of(docs)
    got = METHODS[name].decode(query[:, :, -1:], key, value, view, scale=SCALE)
    assert torch.equal(got, decode_step(query[:, :, -1:], key, value, view.layouts, scale=SCALE))


class _Largest(TorchDispatchMode):
    """The most elements of a tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.numel())
        return result


@pytest.mark.parametrize("sinks", [0.02, 1.0])
@pytest.mark.parametrize("name", METHODS)
def test_no_tensor_grows_with_n_squared(name: str, sinks: float) -> None:
    doc = draw_doc(layout_of([20, 490, 0, 490, 0, 490, 0, 490, 20]), sinks=sinks, grounded=0.5)
    doc = replace(doc, sinks=doc.sinks & (torch.arange(2000) < 1900))
    assert doc.layout.length == 2000
    qkv = tensors(1, 2000, heads=2, dtype=torch.float32)
    with _Largest() as watch:
        prefill(name, qkv, [doc], EditRecord(1))
        query, key, value = (torch.cat([x, x[:, :, :1]], dim=2) for x in qkv)
        METHODS[name].decode(query[:, :, -1:], key, value, view_of([doc]), scale=SCALE)
    assert watch.largest < 2000 * 2000 / 4
    with _Largest() as watch:
        oracle(name, *qkv, [doc])
    assert watch.largest >= 2000 * 2000  # the watch sees what the matrix needs


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("paddings", [(0, 0), (0, 5)])
def test_the_attention_beside_its_log_sum_exp_is_that_of_none(
    paddings: tuple[int, int], turned: bool, dtype: torch.dtype, device: str
) -> None:
    layouts = tuple(Layout(70, padding) for padding in paddings)
    qkv = [x.to(device) for x in tensors(2, 70, dtype=dtype)]
    if turned:  # as transformers passes them: (B, N, H, D) in memory
        qkv = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in qkv]
    got = ordinary_with_lse(*qkv, layouts, None, scale=SCALE)
    assert torch.equal(got.out, causal_prefill(*qkv, layouts, scale=SCALE))
    tolerance = 8 * torch.finfo(dtype).eps
    for b, layout in enumerate(layouts):
        own = slice(layout.padding, None)
        want = written_out_lse(*(x[b : b + 1, :, own].double() for x in qkv[:2]), scale=SCALE)
        torch.testing.assert_close(got.lse[b : b + 1, :, own].double(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_without_the_fused_kernel_the_result_and_identity_rows_hold(name: str) -> None:
    docs = padded([PLAIN, DOCS["unequal_images"]])
    qkv = tensors(2, docs[0].layout.length)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert_oracle(name, qkv, docs)
        if name in OPENING:
            last = docs[0].layout.images[-1]  # its rows too stay as they are, unless later tokens are opened
            text = torch.arange(docs[0].layout.length) >= (last.end if "later_tokens" in name else last.start)
            assert torch.equal(prefill(name, qkv, docs)[0][:, text], plain_of(qkv, docs)[0][:, text])


def test_what_is_missing_or_unknown_is_said() -> None:
    qkv, layouts = tensors(1, 5), (Layout(5),)
    for method in METHODS.values():
        with pytest.raises(ValueError, match=rf"mask={method.name} needs `LayerView.sinks`, got None"):
            method.prefill(*qkv, LayerView(layouts), scale=SCALE)
    none = torch.zeros(1, 5, dtype=torch.bool)
    for name in OPENING:
        with pytest.raises(
            ValueError, match=rf"mask={METHODS[name].name} needs `LayerView.relevance`, got None"
        ):
            METHODS[name].prefill(*qkv, LayerView(layouts, sinks=none), scale=SCALE)
    with pytest.raises(ValueError, match="`empty_rows` must be one of keep, mask, got 'drop'"):
        AttentionRemasking(empty_rows="drop")
    assert AttentionRemasking(empty_rows="mask").settings() == {"empty_rows": "mask", "links": "later_images"}
    assert MaskOnly().settings() == {}
    assert UnmaskOnly(links="later_tokens").settings() == {"links": "later_tokens"}
    relevance = Relevance(none, torch.zeros(1, 5))
    view = LayerView(layouts, sinks=none, relevance=relevance)
    assert torch.equal(
        UnmaskOnly().prefill(*qkv, view, scale=SCALE), causal_prefill(*qkv, layouts, scale=SCALE)
    )
