"""Whole models against the oracle: the rows of benchmarks/parity.py, identity, and the leakage rule."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageOps
from torch import Tensor

from model_adapters.interventions.base import Relevance
from model_adapters.layout import Layout
from tests.makers.parity_docs import BESIDE, FAMILIES, MASKS, OPENING, Doc
from tests.oracles.parity_models import Weighted, asked_of, make_setup, prompt_of
from tests.oracles.parity_rows import attend
from tests.oracles.parity_runs import AGAINST, Comparison, Row, apart

pytestmark = pytest.mark.slow
STEPS = 3


@pytest.fixture(scope="module", params=list(FAMILIES))
def comparison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    setup = make_setup(FAMILIES[request.param], tmp_path_factory.mktemp("parity"))
    return Comparison(setup, steps=STEPS, direct=False)


FULL = "MIMIC_PARITY" in os.environ
"""Every mask in every dtype; else those of `FEW` in float64: their dtypes are compared for `ar`, which has
the same kernel, and at random in test_remasking.py, test_text_rows.py and test_segments.py."""
TEXT_ROWS, SEGMENTS = ("var", "dab"), ("sofa", "knockout")
FEW = ("ar_masking_empty_rows", "mask_only", "unmask_only", *TEXT_ROWS, *SEGMENTS)


def rows_of(comparison: Comparison, mask: str, against: str = AGAINST[0]) -> list[Row]:
    if mask in FEW and not FULL:
        return comparison.rows(mask, against=against, dtypes=["float64"], batches=[8])
    rows = comparison.rows(mask, against=against, dtypes=["float32"], batches=[1, 8])
    return rows + comparison.rows(mask, against=against, dtypes=["float64", "bfloat16"], batches=[8])


def assert_parity(rows: Sequence[Row]) -> None:
    for row in rows:
        assert 0 < row.error <= row.tolerance, row
        assert row.same_text in (None, 8), row
        assert row.sinks_moved == 0 or row.dtype == "bfloat16", row


# The table


def test_none_is_transformers_own_generate(comparison: Comparison) -> None:
    rows = rows_of(comparison, "none", AGAINST[1])
    assert_parity(rows)
    assert sum(row.same_text == 8 for row in rows) == 3
    assert len(set(comparison.truth("none", AGAINST[1]).texts)) >= 4  # answers depend on the docs


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_is_the_oracles_in_logits_and_attention(comparison: Comparison, mask: str) -> None:
    if mask in SEGMENTS and not FULL and comparison.setup.case.name != "llava_onevision":
        pytest.skip("MIMIC_PARITY compares it for every family")
    rows = rows_of(comparison, mask)
    assert_parity(rows)
    assert [row.scope for row in rows].count("attention") == len({row.dtype for row in rows})
    if mask == "none":
        return
    for row in rows:  # the mask does far more than any bar lets pass
        assert row.docs_with_sinks >= 2
        if row.scope == "attention" or row.dtype != "bfloat16":
            gentle = mask in TEXT_ROWS and row.dtype == "bfloat16"
            assert row.edit > (5 if gentle else 20) * row.tolerance, row
            assert row.edited_docs >= 4, row


FULL = "MIMIC_PARITY" in os.environ
"""Masks of several passes for each family (a CPU minute); else for that of `ONE`."""
ONE = {"focus": "qwen2_vl", "orders": "internvl"}


@pytest.mark.parametrize("mask", BESIDE)
def test_a_mask_beside_attention_is_the_oracles_in_logits(comparison: Comparison, mask: str) -> None:
    """Of layers' outputs, and of several passes (for further families: test_named_families.py)."""
    if not FULL and ONE.get(mask, comparison.setup.case.name) != comparison.setup.case.name:
        return
    rows = comparison.rows(mask, dtypes=["float64", "bfloat16"], batches=[8])
    if FULL:
        rows += comparison.rows(mask, dtypes=["float32"], batches=[1, 8])
    assert_parity(rows)
    for row in rows:
        assert row.dtype == "bfloat16" or row.edited_docs >= 4, row
        assert row.dtype == "bfloat16" or row.edit > 20 * row.tolerance, row


def test_the_bars_tell_the_masks_apart(comparison: Comparison) -> None:
    """Each mask's oracle, on one and the same attention, is far from every other's."""
    ours = comparison.ours("none", "float64")
    tokens, doc = comparison.truth("ar").tokens[1:2], comparison.setup.docs[1:2]
    with ours.watched() as calls:
        ours.logits(doc, tokens)
    oracle = comparison.reference("float64")
    (row,) = oracle.known(doc, oracle.inputs(doc)["input_ids"], weighted=True)
    row.sinks |= comparison.truth("ar").sinks[1]
    call = calls[2]
    seen = np.tril(np.ones((1, call.query.shape[2], call.query.shape[2]), dtype=bool))
    made = {
        mask: attend(
            call.query, call.key, call.value, seen, [row], mask=mask, layer=2, scale=call.scale
        ).edited
        for mask in MASKS
    }
    for mask, out in made.items():
        assert all(apart(out, other) > 0.1 for name, other in made.items() if name != mask)


# Identity


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mask", ["ar", "unmask_only"])
def test_docs_with_one_image_or_without_sinks_are_those_of_none_bit_for_bit(
    comparison: Comparison, mask: str, dtype: str
) -> None:
    docs, truth = comparison.setup.docs, comparison.truth("none")
    sinks = [dict(own) for own in comparison.truth(mask).sinks]
    without = 3
    assert any(found.any() for found in sinks[without].values())
    sinks[without] = {layer: np.zeros_like(found) for layer, found in sinks[without].items()}
    alone = [b for b, doc in enumerate(docs) if len(doc.images) == 1]
    assert len(alone) == 2
    assert all(any(found.any() for found in sinks[b].values()) for b in alone)
    plain = comparison.ours("none", dtype).logits(docs, truth.tokens).logits
    masked = comparison.ours(mask, dtype).logits(docs, truth.tokens, fixed=sinks).logits
    same = {b for b in range(len(docs)) if torch.equal(plain[b], masked[b])}
    assert {*alone, without} <= same
    assert len(same) <= 5


# The leakage rule


class Held:
    """A doc of several images in one of our models, with sinks, G and pi that stay as they are.

    Args:
        comparison: the family.
        mask: of `MASKS`.
        doc: alone in its batch.
    """

    def __init__(self, comparison: Comparison, mask: str, doc: int = 1) -> None:
        self.ours = comparison.ours(mask, "float32")
        self.sinks = comparison.truth(mask).sinks[doc] if self.ours.model.engine.find_sinks else {}
        self.doc = comparison.setup.docs[doc]
        batch, self.relevance = self.prepared(self.doc)
        self.inputs, (self.layout,) = batch.inputs, batch.layouts
        self.after = self.layout.images[-1].end

    def prepared(self, doc: Doc) -> tuple[Any, Relevance]:
        family = self.ours.model.family
        batch = family.prepare([list(doc.images)], [prompt_of(family, doc)])
        places = family.places(batch.inputs, [list(doc.images)])
        return batch, Weighted().relevance([asked_of(doc)], places, batch.layouts)

    def states(self, inputs: Any, *, more: Sequence[int] = ()) -> Tensor:
        """The first layer's input and each layer's output (L + 1, N, D), of a prompt and `more` text."""
        length = self.layout.length + len(more)
        grown = dict(inputs)
        for name, filled in (("input_ids", list(more)), ("attention_mask", [1] * len(more))):
            grown[name] = torch.cat([grown[name], torch.tensor([filled], dtype=torch.long)], dim=1)
        if "mm_token_type_ids" in grown:
            kinds = grown["mm_token_type_ids"]
            grown["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(1, len(more))], dim=1)
        layout = Layout(length, self.layout.padding, self.layout.images)
        pad = (0, len(more))
        relevance = Relevance(*(torch.nn.functional.pad(own, pad) for own in self.relevance))
        with self.running(layout, relevance), self.listening() as heard, torch.inference_mode():
            self.ours.model.model(**grown)
        return torch.stack(heard)[:, 0]

    def decoded(self, tokens: Tensor) -> Tensor:
        """The same from the cache, while tokens (T) are generated: (L + 1, T - 1, D) of all but the last."""
        engine = self.ours.model.engine
        with self.listening() as heard:
            self.ours.logits([self.doc], tokens[None], fixed=[self.sinks] if engine.find_sinks else None)
        depth = len(self.ours.model.model.get_decoder().layers) + 1
        steps = [torch.stack(heard[i : i + depth])[:, 0] for i in range(0, len(heard), depth)]
        return torch.cat(steps[1:], dim=1)

    @contextmanager
    def running(self, layout: Layout, relevance: Relevance) -> Iterator[None]:
        engine = self.ours.model.engine
        finder = engine.find_sinks

        def find(hidden: Tensor, layouts: tuple[Layout, ...], layer: int) -> Tensor:
            held = torch.from_numpy(self.sinks[layer])
            return torch.nn.functional.pad(held, (0, hidden.shape[1] - len(held)))[None]

        engine.find_sinks = None if finder is None else find
        try:
            with engine.running(self.ours.model.model, [layout], relevance=relevance):
                yield
        finally:
            engine.find_sinks = finder

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        heard: list[Tensor] = []
        layers = self.ours.model.model.get_decoder().layers

        def before(module: Any, args: Any, kwargs: Any) -> None:
            heard.append((args[0] if args else kwargs["hidden_states"]).clone())

        def after(module: Any, args: Any, out: Any) -> None:
            heard.append((out if isinstance(out, Tensor) else out[0]).clone())

        handles = [layers[0].register_forward_pre_hook(before, with_kwargs=True)]
        handles += [layer.register_forward_hook(after) for layer in layers]
        try:
            yield heard
        finally:
            for handle in handles:
                handle.remove()


def another(token: int) -> int:
    """A token of text that is not this one."""
    return 300 + (token == 300)


@pytest.mark.parametrize("mask", MASKS[1:])
def test_no_token_after_the_last_image_changes_a_state_at_or_before_it(
    comparison: Comparison, mask: str
) -> None:
    held = Held(comparison, mask)
    plain = held.states(held.inputs)
    ids = held.inputs["input_ids"]
    assert held.layout.length - held.after >= 10
    first = held.after + ("mm_token_type_ids" in held.inputs)  # <|vision_end|> says where images are
    for place in (*range(first, held.layout.length - 1, 2), held.layout.length - 1):
        changed = ids.clone()
        changed[0, place] = another(int(ids[0, place]))
        states = held.states({**held.inputs, "input_ids": changed})
        assert torch.equal(states[:, :place], plain[:, :place]), place
        assert not torch.equal(states[:, place], plain[:, place])


@pytest.mark.parametrize("mask", [mask for mask in MASKS[1:] if mask != "knockout"])  # it tells them apart
def test_a_generated_token_changes_no_state_before_it(comparison: Comparison, mask: str) -> None:
    held = Held(comparison, mask)
    tokens = torch.tensor([301, 310, 320])
    whole = held.states(held.inputs, more=tokens.tolist())
    cached = held.decoded(tokens)
    prompt = held.layout.length
    error = (cached - whole[:, prompt:-1]).abs().amax()
    assert error < 1e-4 * whole[:, prompt:].abs().amax()  # decoding is the same function
    for t in range(len(tokens)):
        changed = tokens.clone()
        changed[t] = another(int(tokens[t]))
        states = held.states(held.inputs, more=changed.tolist())
        assert torch.equal(states[:, : prompt + t], whole[:, : prompt + t])
        assert not torch.equal(states[:, prompt + t], whole[:, prompt + t])
        again = held.decoded(changed)
        assert torch.equal(again[:, :t], cached[:, :t])


@pytest.mark.parametrize("mask", MASKS)
def test_only_masks_that_open_links_let_a_later_image_change_an_earlier_one(
    comparison: Comparison, mask: str
) -> None:
    held = Held(comparison, mask)
    images = held.doc.images
    other = Doc((*images[:-1], ImageOps.mirror(images[-1])), held.doc.boxes, held.doc.text)
    batch, relevance = held.prepared(other)
    assert torch.equal(relevance.grounded, held.relevance.grounded)
    plain, states = held.states(held.inputs), held.states(batch.inputs)
    last, first = held.layout.images[-1], held.layout.images[0]
    assert not torch.equal(states[0, last.start : last.end], plain[0, last.start : last.end])
    before = states[:, : last.start], plain[:, : last.start]
    assert torch.equal(*before) == (mask not in (*OPENING, "sofa"))
    text = states[:, : first.start], plain[:, : first.start]
    assert torch.equal(*text)  # text before the images sees nothing of them under any mask
