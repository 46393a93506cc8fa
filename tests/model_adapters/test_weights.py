"""The attention weights that observers read: times the values they are what an intervention computes.

Another intervention is added to `WEIGHED` by one line.
"""

import pytest
import torch
from torch import Tensor

from model_adapters.heads import parse_heads
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.knockout.edges import parse_edges
from model_adapters.interventions.knockout.kernel import Knockout
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.record import EditRecord, merge_rows, summarize_edits
from model_adapters.interventions.sofa.kernel import Sofa
from tests.oracles.base_masks import BATCH, FUNCTIONS, N, base_of
from tests.oracles.remasking import METHODS, SCALE, tensors, view_of
from tests.oracles.text_rows import CASES, text_sinks_of

WEIGHED: dict[str, Intervention] = {
    "none": NoIntervention(),
    "block": BlockMask(),
    "block_with_prefix": BlockMask(prefix=True),
    "sofa": Sofa(sigma=0.3),
    "sofa_own_image": Sofa(sigma=0.3, own_image=True),
    "knockout": Knockout(parse_edges("image>prefix+image[2]>other+question>image+answer>question")),
    "knockout_itself": Knockout(parse_edges("image>image+between>between+last>question+answer>answer")),
    "knockout_heads": Knockout(parse_edges("question>image+answer>image"), heads=parse_heads("1+3")),
    **METHODS,
    **{name: case.built() for name, case in CASES.items()},
}


def view(base: str | None) -> LayerView:
    plain = view_of(BATCH)
    return LayerView(
        plain.layouts,
        0,
        plain.sinks,
        plain.relevance,
        None,
        None if base is None else base_of(base),
        (),
        torch.stack([text_sinks_of(doc) for doc in BATCH]),
    )


def values_of(value: Tensor, heads: int) -> Tensor:
    """(H, N, D) of (KV, N, D)."""
    return value.repeat_interleave(heads // len(value), dim=0)


@pytest.mark.parametrize("base", [None, *FUNCTIONS])
@pytest.mark.parametrize("name", WEIGHED)
def test_the_weights_of_a_prompt_give_its_attention(name: str, base: str | None) -> None:
    query, key, value = tensors(len(BATCH), N, heads=4, groups=2)
    shown = view(base)
    out = WEIGHED[name].prefill(query, key, value, shown, scale=SCALE)
    for b, layout in enumerate(shown.layouts):
        tokens = torch.arange(layout.padding, layout.end)
        parts = [
            WEIGHED[name].weights(query[b, :, rows], key[b], shown, b, rows, scale=SCALE)
            for rows in tokens.split(5)
        ]
        weights = torch.cat(parts, dim=1)
        assert weights.shape == (4, len(tokens), N)
        torch.testing.assert_close(weights @ values_of(value[b], 4), out[b, :, tokens], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", WEIGHED)
def test_the_weights_of_a_generated_token_give_its_attention(name: str) -> None:
    query, key, value = tensors(len(BATCH), N + 3, heads=4, groups=2)
    shown = view(None)
    out = WEIGHED[name].decode(query[:, :, -1:], key, value, shown, scale=SCALE)
    for b in range(len(BATCH)):
        weights = WEIGHED[name].generated_weights(query[b, :, -1:], key[b], shown, b, scale=SCALE)
        made = (weights[:, None] @ values_of(value[b], 4))[:, 0]
        torch.testing.assert_close(made, out[b, :, 0], rtol=0, atol=1e-12)


def test_counts_of_an_intervention_without_sinks_are_summed_over_layers_rows_and_docs() -> None:
    record = EditRecord(2)
    record.count("edited_rows", torch.tensor([3, 0]))
    record.count("edited_rows", torch.tensor([4, 0]))
    record.count("most_negative", torch.tensor([0.5, 0.0]))
    record.count_doc(1, "most_negative", 0.25)
    first, second = record.docs()
    assert summarize_edits([first, second]) == {
        "docs": 2,
        "docs_unchanged": 1,
        "counts": {"edited_rows": 7, "most_negative": 0.5},
    }
    assert summarize_edits([merge_rows([first, second])]) == {
        "docs": 1,
        "docs_unchanged": 0,
        "counts": {"edited_rows": 7, "most_negative": 0.5},
    }


def test_a_record_without_any_entry_is_empty() -> None:
    assert EditRecord(2).docs() == [{}, {}]
