"""Block masking by parts against the materialised mask, on every odd layout we could think of."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from model_adapters.attention import attend_to_end, causal_prefill, decode_step
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.reference import causal_mask, masked_attention
from model_adapters.layout import ImageTokens, Layout, Span, padding_of

SCALE = 0.3


def layout_of(parts: Sequence[int | tuple[int, ...]], *, padding: int = 0, right: int = 0) -> Layout:
    """Alternating text and image lengths, text first; padding on the left and on the right.

    An image of several spans is (span, text, span, ...).
    """
    images, place = [], padding
    for i, part in enumerate(parts):
        spans = []
        for j, size in enumerate(part if isinstance(part, tuple) else (part,)):
            if i % 2 and j % 2 == 0:
                spans.append(Span(place, place + size))
            place += size
        if spans:
            images.append(ImageTokens(tuple(spans)))
    return Layout(place + right, padding, tuple(images), right)


RAGGED = [
    layout_of([3, 5, 0, 5, 0, 5, 4]),  # equal images without text between
    layout_of([3, 5, 2, 5, 2, 5, 4]),  # equal images, equal text between
    layout_of([3, 5, 2, 5, 7, 5, 4]),  # equal images, unequal text between
    layout_of([0, 5, 0, 2, 1, 9, 4]),  # unequal images, an image first
    layout_of([2, 1, 0, 1, 0, 1, 1]),  # images of one token
    layout_of([4, 6, 5]),  # one image
    layout_of([9]),  # text only
    layout_of([3, 5, 0, 5]),  # ends with an image
    layout_of([3, 5, 0, 5, 1], padding=6),
    layout_of([1, 4, 0, 4, 0, 4, 3, 4, 3, 2, 0, 2, 5], padding=1),
    layout_of([3, 5, 0, 5, 1], right=6),
    layout_of([0, 5, 2, 3], right=2),  # ends with an image, then padding
    layout_of([2, 4, 1, 3, 1], padding=3, right=4),
    layout_of([9], right=3),
    layout_of([3, (2, 1, 3), 2, (2, 1, 3), 4]),  # images of two spans
    layout_of([0, (1, 2, 1, 1, 4), 0, 5, 1, 5, 0, (3, 1, 3), 0], padding=2, right=1),  # and of one between
    layout_of([2, (2, 1, 2, 1, 2), 3]),  # one image of three spans
    layout_of([1, (2, 0, 3), 1, (2, 3, 3), 2], right=4),  # adjacent spans are one
]


def ragged_batch() -> tuple[Layout, ...]:
    """All of them, padded to one length, every other one on the right."""
    longest = max(layout.length for layout in RAGGED)
    batch = []
    for b, layout in enumerate(RAGGED):
        more = longest - layout.length
        shift = 0 if b % 2 else more
        spans = tuple(image.moved(shift) for image in layout.images)
        right = layout.right_padding + more - shift
        batch.append(Layout(longest, layout.padding + shift, spans, right))
    return tuple(batch)


def tensors(
    rows: int, n: int, *, heads: int = 4, groups: int = 2, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    shapes = [(rows, heads, n, 8), (rows, heads // groups, n, 8), (rows, heads // groups, n, 8)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def oracle(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
    rows = zip(q, k, v, masks, strict=True)
    return torch.stack([masked_attention(*row, scale=SCALE) for row in rows])


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("layout", RAGGED, ids=range(len(RAGGED)))
@pytest.mark.parametrize("groups", [1, 2])
def test_block_split_equals_the_materialised_mask(layout: Layout, prefix: bool, groups: int) -> None:
    q, k, v = tensors(1, layout.length, groups=groups)
    got = BlockMask(prefix=prefix).prefill(q, k, v, LayerView((layout,)), scale=SCALE)
    want = oracle(q, k, v, [block_mask(layout, prefix=prefix)])
    tokens = layout.tokens
    torch.testing.assert_close(got[:, :, tokens], want[:, :, tokens], rtol=0, atol=1e-12)


@pytest.mark.parametrize("prefix", [False, True])
def test_block_split_of_a_batch_of_different_layouts(prefix: bool) -> None:
    batch = ragged_batch()
    q, k, v = tensors(len(batch), batch[0].length)
    got = BlockMask(prefix=prefix).prefill(q, k, v, LayerView(batch), scale=SCALE)
    want = oracle(q, k, v, [block_mask(layout, prefix=prefix) for layout in batch])
    for b, layout in enumerate(batch):
        tokens = layout.tokens
        torch.testing.assert_close(got[b, :, tokens], want[b, :, tokens], rtol=0, atol=1e-12)


@pytest.mark.parametrize("prefix", [False, True])
def test_gradients_of_a_batch_are_those_of_the_materialised_mask(prefix: bool) -> None:
    batch = ragged_batch()
    inputs = [x.requires_grad_() for x in tensors(len(batch), batch[0].length)]
    tokens = torch.stack([torch.arange(layout.length) for layout in batch])
    real = torch.stack([(at >= one.padding) & (at < one.end) for at, one in zip(tokens, batch, strict=True)])
    weights = torch.randn(inputs[0].shape, dtype=torch.float64) * real[:, None, :, None]
    got = BlockMask(prefix=prefix).prefill(*inputs, LayerView(batch), scale=SCALE)
    want = oracle(*inputs, [block_mask(layout, prefix=prefix) for layout in batch])
    want = torch.where(real[:, None, :, None], want, 0.0)
    for mine, theirs in zip(
        *(torch.autograd.grad((out * weights).sum(), inputs) for out in (got, want)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lengths", [(12,), (12, 13)])
def test_a_backward_pass_makes_as_many_large_gradients_with_many_images_as_with_few(
    lengths: tuple[int, ...],
) -> None:
    """Not one for each image and each text between: 20 images took twice the time that they need."""

    class Large(TorchDispatchMode):
        """Counts tensors of the query's size."""

        def __init__(self, size: int) -> None:
            super().__init__()
            self.size, self.count = size, 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **kwargs or {})
            self.count += isinstance(out, torch.Tensor) and out.numel() >= self.size
            return out

    counts = []
    for images in (4, 12):
        sizes = itertools.islice(itertools.cycle(lengths), images)
        layout = layout_of([*itertools.chain.from_iterable((3, size) for size in sizes), 4])
        inputs = [x.requires_grad_() for x in tensors(1, layout.length)]
        out = BlockMask().prefill(*inputs, LayerView((layout,)), scale=SCALE)
        with Large(inputs[0].numel()) as large:
            out.backward(torch.ones_like(out))
        counts.append(large.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_block_split_in_low_precision_errs_like_the_dense_masked_attention(dtype: torch.dtype) -> None:
    layout = layout_of([20, 40, 0, 40, 3, 40, 30])
    exact = tensors(1, layout.length)
    want = oracle(*exact, [block_mask(layout)])
    q, k, v = (x.to(dtype) for x in exact)
    got = BlockMask().prefill(q, k, v, LayerView((layout,)), scale=SCALE).double()
    dense = scaled_dot_product_attention(
        q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), attn_mask=block_mask(layout), scale=SCALE
    ).double()
    tolerance = 2 * (dense - want).abs().max().item()  # the reference's own error at this precision
    assert (got - want).abs().max().item() <= tolerance


def test_causal_prefill_of_a_padded_batch_equals_the_materialised_mask() -> None:
    layouts = (Layout(11, 4), Layout(11, 0), Layout(11, 10), Layout(11, 0, (), 5), Layout(11, 2, (), 8))
    q, k, v = tensors(5, 11)
    want = oracle(q, k, v, [causal_mask(layout) for layout in layouts])
    torch.testing.assert_close(causal_prefill(q, k, v, layouts, scale=SCALE), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "keys"), [(1, 9), (9, 9), (5, 9), (256, 300), (257, 300), (600, 601)])
def test_last_rows_see_all_keys_up_to_themselves(rows: int, keys: int) -> None:
    q, k, v = tensors(1, keys)
    want = oracle(q, k, v, [causal_mask(Layout(keys))])[:, :, keys - rows :]
    got = attend_to_end(q[:, :, keys - rows :], k, v, scale=SCALE)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_a_generated_token_sees_all_but_padding() -> None:
    layouts = (Layout(6, 2), Layout(6, 0), Layout(6, 1, (), 2))
    q, k, v = tensors(3, 8)
    right = causal_mask(Layout(8, 1))
    right[:, 4:6] = False  # padding between the prompt and what was generated
    want = oracle(q, k, v, [causal_mask(Layout(8, 2)), causal_mask(Layout(8, 0)), right])[:, :, -1:]
    torch.testing.assert_close(
        decode_step(q[:, :, -1:], k, v, layouts, scale=SCALE), want, rtol=0, atol=1e-12
    )


def test_changing_one_image_changes_no_other_image_but_the_text_after_it() -> None:
    layout = layout_of([3, 5, 2, 5, 2, 5, 4])
    q, k, v = tensors(1, layout.length)
    before = BlockMask().prefill(q, k, v, LayerView((layout,)), scale=SCALE)
    first = layout.images[0]
    k[:, :, first.start : first.end] += 1.0
    v[:, :, first.start : first.end] += 1.0
    moved = (BlockMask().prefill(q, k, v, LayerView((layout,)), scale=SCALE) != before).any(dim=(0, 1, 3))
    for span in layout.images[1:]:
        assert not moved[span.start : span.end].any()
    for run in layout.text[1:]:
        assert moved[run.start : run.end].all()


def test_one_image_is_not_masked() -> None:
    layout = layout_of([4, 6, 5])
    assert torch.equal(block_mask(layout), causal_mask(layout))


def test_no_mask_grows_with_n_squared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mask that reaches the kernel is at most (text run) x N: it grows with N, not with N x N."""
    from model_adapters import attention

    sizes: list[int] = []
    real = attention.scaled_dot_product_attention

    def watching(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, attn_mask: torch.Tensor | None, **kw: object
    ) -> torch.Tensor:
        sizes.append(0 if attn_mask is None else attn_mask.numel())
        return real(q, k, v, attn_mask=attn_mask, **kw)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", watching)
    largest = []
    for images in (10, 40):
        layout = layout_of([3, *itertools.chain.from_iterable([50, 0] for _ in range(images - 1)), 50, 20])
        sizes.clear()
        BlockMask().prefill(*tensors(1, layout.length), LayerView((layout,)), scale=SCALE)
        largest.append(max(sizes))
        assert max(sizes) == 2 * 20 * layout.length  # once for each of the two query heads of a KV head
    assert largest[1] < 4.1 * largest[0]


@pytest.mark.parametrize(
    ("length", "padding", "spans"),
    [
        (5, 5, []),
        (5, -1, []),
        (9, 2, [(1, 4)]),
        (9, 0, [(3, 3)]),
        (9, 0, [(1, 5), (4, 8)]),
        (9, 0, [(4, 10)]),
    ],
)
def test_a_layout_that_does_not_add_up_is_refused(
    length: int, padding: int, spans: list[tuple[int, int]]
) -> None:
    with pytest.raises(ValueError, match=r"padding must leave|image spans must rise within"):
        Layout(length, padding, tuple(Span(*span) for span in spans))


@pytest.mark.parametrize("prefix", [False, True])
def test_what_cuts_an_image_is_text_and_its_spans_are_one_causal_block(prefix: bool) -> None:
    """Written out row by row, without the layout's own helpers."""
    layout = Layout(14, 1, (ImageTokens((Span(3, 5), Span(6, 8))), Span(9, 12)), 1)
    image = [-1, -1, -1, 0, 0, -1, 0, 0, -1, 1, 1, 1, -1, -1]
    mask = block_mask(layout, prefix=prefix)
    for i, j in itertools.product(range(14), repeat=2):
        sees = 1 <= j <= i <= 12
        if image[i] >= 0:
            sees = sees and (image[j] == image[i] or (prefix and j < 3))
        assert bool(mask[i, j]) is sees, (i, j)
    assert layout.text == (Span(1, 3), Span(5, 6), Span(8, 9), Span(12, 13))
    assert layout.image_numbers().tolist() == image
    assert layout.images[0].indices().tolist() == [3, 4, 6, 7]
    assert (layout.images[0].start, layout.images[0].end, layout.images[0].length) == (3, 8, 4)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    parts=st.lists(
        st.integers(0, 4) | st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), max_size=9
    ),
    padding=st.integers(0, 3),
    right=st.integers(0, 3),
    prefix=st.booleans(),
)
def test_random_images_of_several_spans_equal_the_mask(
    parts: list[int | tuple[int, ...]], padding: int, right: int, prefix: bool
) -> None:
    """Spans are never empty; text may be."""
    layout = layout_of(
        [
            part if i % 2 == 0 else tuple(size or j % 2 == 0 for j, size in enumerate(part))
            for i, part in enumerate([own if isinstance(own, tuple) else (own,) for own in [1, *parts]])
        ],
        padding=padding,
        right=right,
    )
    q, k, v = tensors(1, layout.length)
    got = BlockMask(prefix=prefix).prefill(q, k, v, LayerView((layout,)), scale=SCALE)
    want = oracle(q, k, v, [block_mask(layout, prefix=prefix)])
    torch.testing.assert_close(got[:, :, layout.tokens], want[:, :, layout.tokens], rtol=0, atol=1e-12)


def test_an_image_of_one_span_is_that_span_however_it_is_given() -> None:
    given = Layout(9, 0, (ImageTokens((Span(1, 3), Span(3, 5))), ImageTokens((Span(6, 8),))))
    assert given == Layout(9, 0, (Span(1, 5), Span(6, 8)))
    assert hash(given) == hash(Layout(9, 0, (Span(1, 5), Span(6, 8))))


def test_spans_of_two_images_may_not_be_mixed() -> None:
    with pytest.raises(ValueError, match="image spans must rise within"):
        Layout(12, 0, (ImageTokens((Span(1, 3), Span(6, 8))), Span(4, 5)))


def test_layout_tells_text_apart() -> None:
    layout = layout_of([3, 5, 0, 5, 2], padding=4)
    assert layout.text == (Span(4, 7), Span(17, 19))
    assert layout.text_prefix == Span(4, 7)
    assert layout_of([0, 5, 1, 5, 2]).text_prefix == Span(0, 0)
    layout = layout_of([3, 5, 0, 5, 2], padding=4, right=3)
    assert (layout.text, layout.end, layout.length) == ((Span(4, 7), Span(17, 19)), 19, 22)
    assert layout_of([4], right=2).text_prefix == Span(0, 4)


@pytest.mark.parametrize(
    ("row", "expected"), [([0, 0, 1, 1], (2, 0)), ([1, 1, 0], (0, 1)), ([0, 1, 0, 0], (1, 2)), ([1], (0, 0))]
)
def test_padding_is_read_from_either_side(row: list[int], expected: tuple[int, int]) -> None:
    assert padding_of(torch.tensor(row)) == expected


@pytest.mark.parametrize("row", [[0, 0], [1, 0, 1]])
def test_padding_between_tokens_is_refused(row: list[int]) -> None:
    with pytest.raises(ValueError, match=r"a row h(olds|as)"):
        padding_of(torch.tensor(row))
