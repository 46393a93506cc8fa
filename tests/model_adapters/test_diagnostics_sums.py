"""Sums of attention over groups are those of the materialised weights, under every intervention."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_adapters.diagnostics import sums as module
from model_adapters.diagnostics.groups import TokenGroups, key_groups, row_groups
from model_adapters.diagnostics.sums import AttentionSums, DocSums
from model_adapters.engine import Engine
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.reference import causal_weights
from tests.model_adapters.test_weights import WEIGHED
from tests.model_adapters.test_weights import view as view_with_text_sinks
from tests.oracles import diagnostics as oracle
from tests.oracles.base_masks import BATCH, FUNCTIONS, N, base_of, matrices
from tests.oracles.remasking import METHODS, SCALE, Doc, tensors, view_of, weights_of

pytestmark = pytest.mark.slow
HEADS = 4
WATCHED: dict[str, Intervention] = {"none": NoIntervention(), "block": BlockMask(), **METHODS}


def inside_of(doc: Doc) -> list[Tensor]:
    """Every third token of each image, as if a truth box were there."""
    return [torch.arange(image.length) % 3 == 0 for image in doc.layout.images]


def watched(
    intervention: Intervention, query: Tensor, key: Tensor, view: LayerView, *, generated: int = 0
) -> list[DocSums]:
    """The sums of a batch; the last `generated` tokens are decoding steps."""
    sums = AttentionSums(frozenset({0}), depth=1, sinks=True, tokens=True)
    sums.begin([inside_of(doc) for doc in BATCH])
    sums.observe(query[:, :, :N], key[:, :, :N], view, intervention, scale=SCALE)
    for step in range(generated):
        keys = key[:, :, : N + step + 1]
        sums.observe_generated(query[:, :, N + step : N + step + 1], keys, view, intervention, scale=SCALE)
    return sums.docs


def check(found: DocSums, alpha: Tensor, doc: Doc, *, generated: int = 0) -> None:
    """Against the oracle, to float64's rounding."""
    inside = torch.zeros(N, dtype=torch.bool)
    for image, marks in zip(doc.layout.images, inside_of(doc), strict=True):
        inside[image.indices()] = marks
    of_key = torch.bincount(
        TokenGroups.of(doc.layout, inside_of(doc)).keys.clamp(min=0)[doc.layout.tokens],
        minlength=len(found.tokens_of),
    )
    assert torch.equal(found.tokens_of, of_key)
    wanted = oracle.sums_of(
        alpha.numpy(), doc.layout, sinks=doc.sinks.numpy(), inside=inside.numpy(), generated=generated
    )
    rows, keys = row_groups(found.images), key_groups(found.images)
    assert found.mass.shape == (1, HEADS, len(rows), len(keys))
    for q, row in enumerate(rows):
        assert found.rows[q] == wanted.rows[tuple(row)]
        assert found.entropy_rows[0, q] == len(wanted.entropy[tuple(row)])
        assert float(found.entropy[0, q]) == pytest.approx(sum(wanted.entropy[tuple(row)]), abs=1e-10)
        for g, key_group in enumerate(keys):
            for head in range(HEADS):
                value = wanted.mass[head, tuple(row), tuple(key_group)]
                assert float(found.mass[0, head, q, g]) == pytest.approx(value, abs=1e-10)
        if tuple(row) in wanted.tokens:
            assert found.tokens is not None
            np.testing.assert_allclose(found.tokens[0, q], wanted.tokens[tuple(row)], atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 2**21])
@pytest.mark.parametrize("name", WATCHED)
def test_sums_are_those_of_the_materialised_weights(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._WEIGHTS_AT_ONCE, "cpu", chunk)
    query, key, _ = tensors(len(BATCH), N, heads=HEADS, groups=2)
    found = watched(WATCHED[name], query, key, view_of(BATCH))
    for b, doc in enumerate(BATCH):
        alpha = causal_weights(query[b], key[b], doc.layout, scale=SCALE)
        if name == "block" and len(doc.layout.images) > 1:
            alpha = alpha * block_mask(doc.layout)
            alpha = alpha / alpha.sum(dim=-1, keepdim=True).clamp(min=1e-300)
        elif name in METHODS:
            alpha = weights_of(name, alpha, doc)
        check(found[b], alpha, doc)


@pytest.mark.parametrize("base", [None, "window_and_images_both_ways"])
@pytest.mark.parametrize("name", WEIGHED)
def test_sums_of_every_intervention_are_those_of_its_weights(name: str, base: str | None) -> None:
    """`test_weights` holds that these are the weights of its attention, negative ones too."""
    query, key, _ = tensors(len(BATCH), N, heads=HEADS, groups=2)
    shown = view_with_text_sinks(base)
    found = watched(WEIGHED[name], query, key, shown)
    for b, doc in enumerate(BATCH):
        alpha = torch.zeros(HEADS, N, N, dtype=torch.float64)
        rows = torch.arange(doc.layout.padding, doc.layout.end)
        alpha[:, rows] = WEIGHED[name].weights(query[b, :, rows], key[b], shown, b, rows, scale=SCALE)
        check(found[b], alpha, doc)


@pytest.mark.parametrize("base", FUNCTIONS)
def test_sums_follow_the_base_mask(base: str) -> None:
    query, key, _ = tensors(len(BATCH), N, heads=HEADS, groups=2)
    plain = view_of(BATCH)
    view = LayerView(plain.layouts, 0, plain.sinks, plain.relevance, None, base_of(base))
    found = watched(NoIntervention(), query, key, view)
    allowed = matrices(base)
    for b, doc in enumerate(BATCH):
        scores = (query[b] @ key[b].repeat_interleave(2, dim=0).mT * SCALE).masked_fill(
            ~allowed[b], -torch.inf
        )
        check(found[b], scores.softmax(dim=-1).nan_to_num(0.0), doc)


@pytest.mark.parametrize("name", ["none", "mask_only"])
def test_generated_tokens_are_rows_and_keys_of_the_answer(name: str) -> None:
    generated = 3
    query, key, _ = tensors(len(BATCH), N + generated, heads=HEADS, groups=2)
    found = watched(WATCHED[name], query, key, view_of(BATCH), generated=generated)
    for b, doc in enumerate(BATCH):
        tokens = torch.cat([doc.layout.is_token(torch.device("cpu")), torch.ones(generated).bool()])
        scores = query[b] @ key[b].repeat_interleave(2, dim=0).mT * SCALE
        seen = torch.ones(N + generated, N + generated).tril().bool() & tokens
        alpha = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1).nan_to_num(0.0)
        if name == "mask_only":
            sinks = torch.nn.functional.pad(doc.sinks, (0, generated))
            left = alpha * ~sinks
            total = left.sum(dim=-1, keepdim=True)
            alpha = torch.where(total >= 1e-6, left / total.clamp(min=1e-300), alpha)
        check(found[b], alpha, doc, generated=generated)


def test_mass_of_a_row_is_one_and_of_an_image_under_block_stays_in_it() -> None:
    query, key, _ = tensors(len(BATCH), N, heads=HEADS, groups=2)
    for sums in watched(BlockMask(), query, key, view_of(BATCH)):
        torch.testing.assert_close(
            sums.mass[0].sum(dim=-1), sums.rows.double().expand(HEADS, -1), rtol=0, atol=1e-12
        )
        if sums.images > 1:
            for m, row in enumerate(row_groups(sums.images)):
                if row.name == "image":
                    own = [g.image == row.image for g in key_groups(sums.images)]
                    assert float(sums.mass[0, :, m][:, ~torch.tensor(own)].abs().max()) == 0


def test_an_observer_of_sinks_needs_a_way_to_find_them() -> None:
    sums = AttentionSums(frozenset({0}), depth=1, sinks=True)
    with pytest.raises(ValueError, match="an observer needs `find_sinks`"):
        Engine(NoIntervention(), frozenset(), observers=(sums,))


def test_inside_marks_must_fit_the_images() -> None:
    with pytest.raises(ValueError, match="a value for each token of each image"):
        TokenGroups.of(BATCH[0].layout, [torch.ones(99, dtype=torch.bool)])


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import counting  # noqa: E402


@pytest.mark.parametrize("name", ["none", "block", "ar"])
def test_memory_is_linear_in_the_length_of_the_prompt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes: with chunks of a fixed number of weights, twice the tokens hold about twice the memory."""
    monkeypatch.setitem(module._WEIGHTS_AT_ONCE, "cpu", 2**17)
    shape = counting.Shape(heads=4, kv_heads=2, width=8)

    def held(tokens: int) -> int:
        layout = counting.layout_of(4, tokens)
        query, key, _ = counting.draw(layout, shape)
        view = LayerView((layout,), 0, *counting.given(layout))
        sums = AttentionSums(frozenset({0}), depth=1, sinks=True)
        sums.begin([None])
        mask = counting.INTERVENTIONS[name]
        return counting.peak_bytes(lambda: sums.observe(query, key, view, mask, scale=0.3))

    short, long = held(300), held(600)
    assert long < 2.2 * short
    assert long < 4 * 2400**2  # less than one N x N of one head
