"""`var` and `dab` against their definitions as matrices, and what they must leave alone."""

import json
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.masking_utils import sliding_window_causal_mask_function

from model_adapters.base_mask import base_mask, ordinary_decode, ordinary_prefill
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.dab.kernel import AttentionBalancing
from model_adapters.interventions.record import EditRecord, summarize_edits
from model_adapters.interventions.reference import causal_mask, causal_weights
from model_adapters.interventions.var.kernel import AttentionRedistribution
from model_adapters.layout import Layout
from model_adapters.notices import say_effects
from tests.oracles.base_masks import BATCH, FUNCTIONS, PADDING, N, base_of, matrices
from tests.oracles.remasking import (
    DOCS,
    PLAIN,
    SCALE,
    Doc,
    draw_doc,
    layout_of,
    own_rows,
    padded,
    plain_of,
    tensors,
)
from tests.oracles.text_rows import (
    CASES,
    Case,
    DocWithText,
    alpha_of,
    answer,
    text_sinks_of,
    view_with_text,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def prefill(
    name: str, qkv: list[torch.Tensor], docs: list[Doc], record: EditRecord | None = None
) -> torch.Tensor:
    return CASES[name].built().prefill(*qkv, view_with_text(docs, record=record), scale=SCALE)


def assert_definition(name: str, qkv: list[torch.Tensor], docs: list[Doc]) -> None:
    got, want = (own_rows(x, docs) for x in (prefill(name, qkv, docs), answer(CASES[name], *qkv, docs)))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads_and_groups", [(3, 1), (4, 2), (14, 7)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_each_doc_and_a_batch_of_all_equal_the_matrices(name: str, heads_and_groups: tuple[int, int]) -> None:
    heads, groups = heads_and_groups
    for docs in (*([doc] for doc in DOCS.values()), padded(list(DOCS.values()), extra=3)):
        assert_definition(name, tensors(len(docs), docs[0].layout.length, heads=heads, groups=groups), docs)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_base_model_s_weights_are_edited_and_nothing_that_it_hides_is_seen(case: str, name: str) -> None:
    qkv = tensors(len(BATCH), N)
    view = view_with_text(BATCH, base=base_of(name))
    got = CASES[case].built().prefill(*qkv, view, scale=SCALE)
    want = answer(CASES[case], *qkv, BATCH, list(matrices(name)))
    torch.testing.assert_close(own_rows(got, BATCH), own_rows(want, BATCH), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    parts=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=9), min_size=1, max_size=3),
    sinks=st.sampled_from([0, 0.1, 0.5, 1]),
    heads_and_groups=st.sampled_from([(2, 1), (4, 2), (14, 7)]),
    seed=st.integers(0, 999),
)
def test_random_batches_equal_the_matrices(
    name: str, parts: list[list[int]], sinks: float, heads_and_groups: tuple[int, int], seed: int
) -> None:
    drawn = [draw_doc(layout_of([*part, 1]), seed=seed, sinks=sinks) for part in parts]
    docs = padded(drawn, extra=seed % 3)
    heads, groups = heads_and_groups
    qkv = tensors(len(docs), docs[0].layout.length, heads=heads, groups=groups, seed=seed)
    assert_definition(name, qkv, docs)


@pytest.mark.parametrize("name", CASES)
def test_many_chunks_equal_the_matrix(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_adapters.interventions import mass

    monkeypatch.setattr(mass, "_SCORES_AT_ONCE", 70)
    assert_definition(name, tensors(1, PLAIN.layout.length), [PLAIN])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["var", "var_all_heads_after_first", "dab"])
def test_low_precision_errs_like_the_matrix_in_that_precision(
    name: str, dtype: torch.dtype, device: str
) -> None:
    """The tolerance: the matrix's weights and values in that precision, summed in it."""
    docs = padded([draw_doc(layout_of([10, 30, 0, 30, 3, 30, 20]), seed=i) for i in range(2)], extra=3)
    qkv = tensors(2, docs[0].layout.length, heads=14, groups=7, width=16, dtype=dtype)
    wide = [x.double() for x in qkv]
    exact = own_rows(answer(CASES[name], *wide, docs), docs)
    rounded = []
    for b, doc in enumerate(docs):
        mask = causal_mask(doc.layout)
        weights = CASES[name].weights(alpha_of(wide[0][b], wide[1][b], mask), doc, mask)
        rounded.append(weights.to(dtype) @ qkv[2][b].repeat_interleave(7, dim=0))
    allowed = (own_rows(torch.stack(rounded), docs).double() - exact).abs()
    got = prefill(name, [x.to(device) for x in qkv], docs)
    assert got.dtype == dtype
    error = (own_rows(got.cpu(), docs).double() - exact).abs()
    assert error.mean() <= 2 * allowed.mean()
    assert error.max() <= 2 * allowed.max()


# What must stay


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", [None, "window_and_images_both_ways"])
@pytest.mark.parametrize("name", CASES)
def test_rows_that_are_not_edited_are_the_base_model_s_bit_for_bit(
    name: str, base: str | None, dtype: torch.dtype
) -> None:
    qkv = tensors(len(BATCH), N, dtype=dtype)
    view = view_with_text(BATCH, base=None if base is None else base_of(base))
    got = CASES[name].built().prefill(*qkv, view, scale=SCALE)
    plain = ordinary_prefill(*qkv, view.layouts, view.base, scale=SCALE)
    edited = untouched = 0
    for b, doc in enumerate(BATCH):
        mask = causal_mask(doc.layout) if base is None else matrices(base)[b]
        alpha = alpha_of(qkv[0][b].double(), qkv[1][b].double(), mask)
        change = (CASES[name].weights(alpha, doc, mask) - alpha).abs().amax(dim=-1)
        same = (got[b] == plain[b]).all(dim=-1)
        assert bool(same[change == 0].all())
        assert not bool(same[change > 0.01].any())
        edited += int((change > 0.01).sum())
        text = ~doc.visual & doc.layout.is_token(torch.device("cpu"))
        text[: doc.layout.images[-1].end if doc.layout.images else 0] = False
        untouched += int((change[:, text] == 0).sum())
    assert edited > (10 if base is None else 2)  # rows of four heads
    assert untouched > 20 or "all_heads" in name or name == "dab_most_rows"


@pytest.mark.parametrize(
    ("mask", "arguments"),
    [
        ("var", {"p": 1.0}),
        ("var", {"p": 1.0, "heads": "all", "rows": "after_first"}),
        ("dab", {"alpha": 0.0}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_p_1_or_alpha_0_a_mask_is_none_bit_for_bit(
    mask: str, arguments: dict[str, object], dtype: torch.dtype
) -> None:
    docs = padded(list(DOCS.values()), extra=2)
    query, key, value = tensors(len(docs), docs[0].layout.length + 1, dtype=dtype)
    record = EditRecord(len(docs))
    built, view = Case(mask, arguments).built(), view_with_text(docs, record=record)
    prompt = [x[:, :, :-1] for x in (query, key, value)]
    assert torch.equal(built.prefill(*prompt, view, scale=SCALE), plain_of(prompt, docs))
    step = (query[:, :, -1:], key, value)
    plain = ordinary_decode(*step, view.layouts, None, scale=SCALE)
    assert torch.equal(built.decode(*step, view, scale=SCALE), plain)
    summary = summarize_edits(record.docs())
    assert (summary["docs"], summary["docs_unchanged"]) == (len(docs), len(docs))
    assert summary["counts"]["rows"] > summary["counts"]["edited_rows"] == 0


@pytest.mark.parametrize("doc", ["no_sinks", "text_only", "all_visual_are_sinks"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("var")])
def test_var_needs_a_visual_sink_and_another_visual_token(name: str, doc: str) -> None:
    qkv = tensors(1, DOCS[doc].layout.length, dtype=torch.float32)
    assert bool(text_sinks_of(DOCS[doc]).any())
    record = EditRecord(1)
    assert torch.equal(prefill(name, qkv, [DOCS[doc]], record), plain_of(qkv, [DOCS[doc]]))
    counts = summarize_edits(record.docs())["counts"]
    if doc == "all_visual_are_sinks" and "all_heads" in name:
        assert counts["skipped_rows"] == counts["rows"] > 0
    assert (counts["rows"] == 0) == (doc == "text_only")


def test_dab_leaves_a_single_image_alone() -> None:
    doc = DOCS["one_image"]
    qkv = tensors(1, doc.layout.length, dtype=torch.float32)
    assert torch.equal(prefill("dab_most_rows", qkv, [doc]), plain_of(qkv, [doc]))


# Numbers worked out by hand


def equal_scores(n: int, *, heads: int = 2) -> list[torch.Tensor]:
    """Every key has the same score: alpha_ij = 1 / (i + 1); a value is its token's number in base 2."""
    value = 2.0 ** torch.arange(n, dtype=torch.float64)
    query, key = torch.zeros(1, heads, n, 1).double(), torch.zeros(1, 1, n, 1).double()
    return [query, key, value[None, None, :, None]]


def hand_made() -> Doc:
    """Text sink 0; image 1-3 with sink 2; image 4-6; text 7, 8, of which 8 is no sink."""
    layout = layout_of([1, 3, 0, 3, 2])
    sinks = torch.zeros(9, dtype=torch.bool)
    sinks[2] = True
    return Doc(layout, sinks, torch.zeros(9, dtype=torch.bool), torch.zeros(9))


def test_var_by_hand() -> None:
    """Row 8 has 1/9 on each key; 1 and 5 visual tokens are a sink and others, and token 0 is a text sink."""
    record = EditRecord(1)
    got = prefill("var", equal_scores(9), [hand_made()], record)[0, 0, :, 0]
    freed = 0.4 * 2 / 9
    weights = [0.6 / 9, *3 * [1 / 9 + freed / 5], *3 * [1 / 9 + freed / 5], 1 / 9, 1 / 9]
    weights[2] = 0.6 / 9
    assert float(got[8]) == pytest.approx(sum(w * 2**j for j, w in enumerate(weights)), rel=1e-12)
    assert sum(weights) == pytest.approx(1)
    counts = summarize_edits(record.docs())["counts"]
    assert counts["rows"] == counts["edited_rows"] == 4  # two heads, rows 7 and 8
    assert counts["heads"] == counts["edited_heads"] == 2
    assert counts["moved_mass"] == pytest.approx(2 * (0.4 * 2 / 8 + 0.4 * 2 / 9))
    assert counts["mean_moved_mass"] == pytest.approx((0.4 * 2 / 8 + 0.4 * 2 / 9) / 2)


def test_dab_by_hand() -> None:
    """Row 8 has 4/9 and 2/9 on images of 4 and 2 tokens: half of the way to 3/9 is 1/18."""
    doc = draw_doc(layout_of([1, 4, 0, 2, 2]), sinks=0)
    record = EditRecord(1)
    got = prefill("dab", equal_scores(9), [doc], record)[0, 0, :, 0]
    weights = [1 / 9, *4 * [1 / 9 - 1 / 18 / 4], *2 * [1 / 9 + 1 / 18 / 2], 1 / 9, 1 / 9]
    assert float(got[8]) == pytest.approx(sum(w * 2**j for j, w in enumerate(weights)), rel=1e-12)
    counts = summarize_edits(record.docs())["counts"]
    assert counts["edited_rows"] == 4
    assert counts["moved_mass"] == pytest.approx(2 * (1 / 16 + 1 / 18))
    assert counts["negative_weights"] == counts["negative_mass"] == 0


def test_dab_counts_the_weights_that_become_negative() -> None:
    """A token without attention in the image that gives has less than nothing afterwards."""
    doc = draw_doc(layout_of([1, 4, 0, 2, 1]), sinks=0)
    query, key, value = equal_scores(8)
    query[:, :1] = 1.0  # the first head: tokens 1 and 2 hold nothing
    key[:, :, 1:3] = -1000.0
    record = EditRecord(1)
    got = prefill("dab_most_rows", [query, key, value], [doc], record)
    torch.testing.assert_close(
        own_rows(got, [doc]), own_rows(answer(CASES["dab_most_rows"], query, key, value, [doc]), [doc])
    )
    counts = summarize_edits(record.docs())["counts"]
    # Head 0 has 2/6 on each image: nothing to move. Head 1 has 4/8 and 2/8: every weight stays above 0.
    assert (counts["edited_rows"], counts["negative_weights"]) == (1, 0)
    key[:, :, 3] = 5.0  # now head 0 has most of its attention on image 0, though none on tokens 1 and 2
    record = EditRecord(1)
    prefill("dab_most_rows", [query, key, value], [doc], record)
    weights = CASES["dab_most_rows"].weights(
        alpha_of(query[0], key[0], causal_mask(doc.layout)), doc, causal_mask(doc.layout)
    )
    counts = summarize_edits(record.docs())["counts"]
    assert counts["negative_weights"] == int((weights < 0).sum()) == 2  # tokens 1 and 2 of head 0
    assert counts["rows_with_negative_weights"] == 1
    assert counts["negative_mass"] == pytest.approx(float(-weights.clamp(max=0).sum()))


@pytest.mark.parametrize("doc", DOCS.values(), ids=DOCS)
@pytest.mark.parametrize("name", CASES)
def test_a_row_s_weights_still_sum_to_one_and_text_gains_nothing(name: str, doc: Doc) -> None:
    query, key, _ = tensors(1, doc.layout.length)
    alpha = causal_weights(query[0], key[0], doc.layout, scale=SCALE)
    weights = CASES[name].weights(alpha, doc, causal_mask(doc.layout))
    own = doc.layout.tokens
    torch.testing.assert_close(weights[:, own].sum(-1), torch.ones_like(alpha[:, own, 0]), rtol=0, atol=1e-12)
    assert bool((weights <= alpha)[..., ~doc.visual].all())
    if name.startswith("dab"):
        assert torch.equal(weights[..., ~doc.visual], alpha[..., ~doc.visual])


# Generated tokens, memory, gradients, the record


def grown(doc: Doc, new: int) -> DocWithText:
    """With generated tokens behind the prompt, which are no sinks."""
    layout = doc.layout
    more = Layout(layout.length + new, layout.padding, layout.images)
    given = (doc.sinks, doc.grounded, doc.score, text_sinks_of(doc))
    return DocWithText(more, *(torch.nn.functional.pad(x, (0, new)) for x in given))


@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_a_generated_token_is_edited_as_the_last_row_of_a_longer_prompt(name: str, new: int) -> None:
    docs = padded(list(DOCS.values()), extra=1, left_only=True)
    longer = [grown(doc, new) for doc in docs]
    query, key, value = tensors(len(docs), longer[0].layout.length)
    record = EditRecord(len(docs))
    view = view_with_text(docs, record=record)
    got = CASES[name].built().decode(query[:, :, -1:], key, value, view, scale=SCALE)
    edited = 0
    for b, doc in enumerate(longer):
        mask = causal_mask(doc.layout)
        alpha = alpha_of(query[b], key[b], mask)
        weights = CASES[name].weights(alpha, doc, mask)[:, -1]
        want = (weights[:, None] @ value[b].repeat_interleave(2, dim=0))[:, 0]
        torch.testing.assert_close(got[b, :, 0], want, rtol=0, atol=1e-12)
        edited += int((weights != alpha[:, -1]).any(dim=-1).sum())
    counts = summarize_edits(record.docs())["counts"]
    assert counts["generated_rows"] == 4 * sum(bool(doc.layout.images) for doc in docs)
    assert counts["edited_generated_rows"] == edited > 10


@pytest.mark.parametrize(("generated", "window"), [(1, 12), (5, 18), (3, 100)])
@pytest.mark.parametrize("name", CASES)
def test_a_generated_token_is_edited_within_its_window_of_a_cache_that_dropped_keys(
    name: str, generated: int, window: int
) -> None:
    """transformers' sliding cache keeps the last `window` - 1 keys and the new one."""
    total = N + generated
    dropped = max(0, total - window)
    full = tensors(len(BATCH), total)
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
    view, built, edited = view_with_text(BATCH, base=base), CASES[name].built(), 0
    got = built.decode(query, key, value, view, scale=SCALE)
    for b, doc in enumerate(BATCH):
        longer = grown(doc, generated)
        seen = causal_mask(Layout(total)) & padding[b]
        seen &= torch.arange(total) > torch.arange(total)[:, None] - window
        alpha = alpha_of(full[0][b], full[1][b], seen)
        # Tokens behind padding on the right are generated ones; the definition knows one end of a row only.
        whole = DocWithText(
            Layout(total, longer.layout.padding, longer.layout.images), *list(vars(longer).values())[1:]
        )
        weights = CASES[name].weights(alpha, whole, seen)[:, -1:]
        want = (weights @ full[2][b].repeat_interleave(2, dim=0))[:, 0]
        torch.testing.assert_close(got[b, :, 0], want, rtol=0, atol=1e-12)
        read = built.generated_weights(query[b], key[b], view, b, scale=SCALE)
        torch.testing.assert_close(read, weights[:, 0, dropped:], rtol=0, atol=1e-12)
        edited += int((weights != alpha[:, -1:]).any())
    assert edited > 2


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


@pytest.mark.parametrize("name", ["var_all_heads_after_first", "dab_most_rows"])
def test_no_tensor_grows_with_n_squared(name: str) -> None:
    """Half of the tokens are rows that are edited."""
    doc = draw_doc(layout_of([20, 490, 0, 490, 1000]), sinks=0.1)
    qkv = tensors(1, 2000, heads=2, dtype=torch.float32)
    with _Largest() as watch:
        prefill(name, qkv, [doc], EditRecord(1))
    assert watch.largest <= 2 * 2**18  # heads times the scores at once
    assert watch.largest < 2000 * 2000 / 4


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_matrix(name: str, extra: int) -> None:
    """Where a row is chosen by a threshold the derivative is that of the chosen side."""
    docs = padded([PLAIN, DOCS["unequal_images"]], extra=extra) if extra else [PLAIN]
    qkv = [x.requires_grad_() for x in tensors(len(docs), docs[0].layout.length)]
    found = []
    for out in (prefill(name, qkv, docs), answer(CASES[name], *qkv, docs)):
        found.append(torch.autograd.grad(own_rows(out, docs).square().sum(), qkv))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_the_record_counts_what_the_matrix_shows(name: str) -> None:
    docs = padded(list(DOCS.values()))
    query, key, value = tensors(len(docs), docs[0].layout.length)
    record = EditRecord(len(docs))
    prefill(name, [query, key, value], docs, record)
    edited = heads = negative = 0
    moved = 0.0
    for b, doc in enumerate(docs):
        mask = causal_mask(doc.layout)
        alpha = alpha_of(query[b], key[b], mask)
        change = CASES[name].weights(alpha, doc, mask) - alpha
        rows = (change != 0).any(dim=-1)
        edited += int(rows.sum())
        heads += int(rows.any(dim=-1).sum())
        moved += float(change.clamp(min=0).sum())
        negative += int((alpha + change < 0).sum())
    summary = summarize_edits(record.docs())
    counts = summary["counts"]
    assert (counts["edited_rows"], counts["edited_heads"]) == (edited, heads)
    assert counts["moved_mass"] == pytest.approx(moved, rel=1e-9)
    assert counts["mean_moved_mass"] == pytest.approx(moved / edited, rel=1e-9)
    assert counts["heads"] == 4 * sum(
        bool(doc.layout.images) and doc.layout.images[-1].end < doc.layout.end for doc in docs
    )
    assert counts.get("negative_weights", 0) == negative
    assert summary["docs_unchanged"] == sum(not sums["count:edited_rows"] for sums in record.docs())
    if name.startswith("var"):
        without = sum(not bool(doc.sinks.any()) for doc in docs)
        assert (summary["docs_without_sinks"], summary["layer_docs"]) == (without, len(docs))
    else:
        assert "layer_docs" not in summary
    assert json.loads(json.dumps(summary)) == summary


def test_what_is_missing_or_out_of_range_is_said() -> None:
    qkv, layouts = tensors(1, 5), (Layout(5),)
    none = torch.zeros(1, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"mask=var needs `LayerView.sinks`, got None"):
        AttentionRedistribution().prefill(*qkv, LayerView(layouts), scale=SCALE)
    with pytest.raises(ValueError, match=r"mask=var needs `LayerView.text_sinks`, got None"):
        AttentionRedistribution().prefill(*qkv, LayerView(layouts, sinks=none), scale=SCALE)
    for made, message in (
        (partial(AttentionRedistribution, p=1.5), "`p` must be within 0-1, got 1.5"),
        (partial(AttentionRedistribution, rho=-0.1), "`rho` must be within 0-1, got -0.1"),
        (partial(AttentionRedistribution, heads="some"), "`heads` must be one of selected, all, got 'some'"),
        (partial(AttentionRedistribution, variant="x"), "`variant` must be one of paper, released, got 'x'"),
        (partial(AttentionRedistribution, rows="all"), "`rows` must be one of after_last, after_first, got"),
        (partial(AttentionBalancing, alpha=-1.0), "`alpha` must be at least 0, got -1.0"),
        (partial(AttentionBalancing, min_visual_share=2.0), "`min_visual_share` must be within 0-1, got 2.0"),
    ):
        with pytest.raises(ValueError, match=message):
            made()


def test_a_run_says_what_was_moved_in_rows_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"rows": 12000, "edited_rows": 3000, "moved_mass": 600.0, "mean_moved_mass": 0.2}
    var, dab = AttentionRedistribution(), AttentionBalancing()
    say_effects("var", {"edits": {"docs": 9, "docs_unchanged": 0, "counts": counts}}, var.describe)
    line = "edited 3,000 of 12,000 rows of text (of a token, head and layer)"
    line += " and moved 20.00% of a row's attention on average"
    assert capsys.readouterr().err == f"mask=var {line}\n"
    counts |= {"negative_weights": 31, "rows_with_negative_weights": 1200, "skipped_rows": 0}
    say_effects("dab", {"edits": {"docs": 9, "docs_unchanged": 0, "counts": counts}}, dab.describe)
    assert capsys.readouterr().err == f"mask=dab {line}; 31 weights in 1,200 rows became negative\n"
    none = {"rows": 24, "edited_rows": 0, "skipped_rows": 24}
    edits = {"docs": 2, "docs_unchanged": 2, "docs_without_sinks": 1, "counts": none}
    say_effects("var", {"edits": edits}, var.describe)
    assert capsys.readouterr().err.splitlines() == [
        "mask=var edited 0 of 24 rows of text (of a token, head and layer); 24 rows attend to no visual "
        "token but sinks and stay as they are",
        "mask=var changed nothing in 2 of 2 docs: 1 have no sinks",
    ]
