"""`mask=block,variant=released`: the layers that the released code really masks; what the record says."""

from pathlib import Path
from typing import Any

import pytest
import torch

import mimic_eval
from mimic_eval.records import UserError, announced_run
from model_adapters.assembly import masked_layers
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.record import EditRecord
from model_adapters.interventions.reference import causal_mask
from model_adapters.layout import Layout, Span
from model_adapters.models import LlavaOvMask
from model_adapters.options import AdapterOptions
from tests.makers.outside import picture
from tests.model_adapters.test_attention import SCALE, tensors
from tests.oracles.base_masks import BATCH, FUNCTIONS, N, base_of, matrices

SETTINGS = {"max_new_tokens": 4, "do_sample": False, "until": []}


@pytest.mark.parametrize(
    ("layers", "masked"),
    [
        ("12-23", []),  # the release's own setting for 24 layers
        ("second_half", []),
        ("first_half", range(12)),
        ("all", range(24)),
        ("0-5", range(6)),
        ("0-5+8-23", range(6)),
        ("1-23", []),
        ("::2", [0]),
        ("0", [0]),
    ],
)
def test_only_layers_before_the_first_gap_are_masked(
    layers: str, masked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options = AdapterOptions.parse({"mask": "block", "variant": "released", "layers": layers})
    assert masked_layers(options, 24) == frozenset(masked)
    said = capsys.readouterr().err
    assert ("drops its mask at the first layer that is not named" in said) == (
        frozenset(masked) != options.layer_set(24)
    )
    assert said.count("\n") <= 1
    paper = AdapterOptions.parse({"mask": "block", "layers": layers})
    assert masked_layers(paper, 24) == options.layer_set(24)
    assert capsys.readouterr().err == ""


def test_the_released_variant_masks_the_prefix_too() -> None:
    with pytest.raises(
        UserError, match="variant=released masks the text before the first image too"
    ) as error:
        AdapterOptions.parse({"mask": "block", "variant": "released", "prefix": True})
    assert "\n" not in str(error.value)


def logits(tiny: Path, **arguments: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """Of the first generated token, and what the run announces."""
    model = LlavaOvMask(pretrained=str(tiny), device="cpu", journal="off", **arguments)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which?"}]
    prompt = model.family.prompt([{"role": "user", "content": content}])
    batch = model.family.prepare([[picture(1), picture(2)]], [prompt])
    with torch.inference_mode(), model.engine.running(model.model, batch.layouts):
        return model.model(**batch.inputs).logits[:, -1], announced_run()


def test_a_run_of_the_released_variant_is_none_unless_its_layers_begin_at_0(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none, _ = logits(tiny, mask="none")
    block, paper = logits(tiny, mask="block", layers="0-1")
    assert not torch.equal(block, none)
    released, run = logits(tiny, mask="block", variant="released")
    assert "of layers 3-5 none is changed, as with mask=none" in capsys.readouterr().err
    assert torch.equal(released, none)
    assert (run["variant"], run["layers"], run["prefix"]) == ("released", "none", False)
    released, run = logits(tiny, mask="block", variant="released", layers="0-1+3")
    assert "of layers 0-1+3 only 0-1 are changed" in capsys.readouterr().err
    assert torch.equal(released, block)
    assert (run["variant"], run["layers"]) == ("released", "0-1")
    assert (paper["variant"], paper["layers"]) == ("paper", "0-1")


def test_intervene_says_it_too(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = LlavaOvMask(pretrained=str(tiny), device="cpu", journal="off", mask="none")
    with mimic_eval.intervene(made.model, made.family.processor, mask="block", variant="released"):
        assert "none is changed" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("base", [None, *FUNCTIONS])
def test_the_record_counts_what_the_mask_takes(base: str | None, prefix: bool) -> None:
    layouts = tuple(doc.layout for doc in BATCH)
    record, mask = EditRecord(len(BATCH)), BlockMask(prefix=prefix)
    view = LayerView(layouts, record=record, base=None if base is None else base_of(base))
    mask.prefill(*tensors(len(BATCH), N), view, scale=SCALE)
    for b, (layout, counts) in enumerate(zip(layouts, record.docs(), strict=True)):
        seen = causal_mask(layout) if base is None else matrices(base)[b]
        lost = torch.zeros_like(seen)
        for image in layout.images if len(layout.images) > 1 else ():
            rows = image.indices()
            lost[rows] = seen[rows]
            lost[rows[:, None], rows] = False
            if prefix:
                lost[rows, layout.text_prefix.start : layout.text_prefix.end] = False
        assert counts["count:blocked_pairs"] == 4 * int(lost.sum())
        assert counts["count:edited_rows"] == 4 * int(lost.any(dim=1).sum())
        assert counts["docs_unchanged"] == int(not lost.any())
    (line,) = mask.describe({"edited_rows": 1200, "blocked_pairs": 34000})
    assert line == "mask=block blocked 34,000 keys in 1,200 rows (of a token, head and layer)"


def test_weights_of_a_row_that_looks_only_elsewhere_are_numbers() -> None:
    """Its image's weights are too small for float32 before the rest is masked: 0 / 0 was no number."""
    layout = Layout(6, 0, (Span(1, 3), Span(3, 5)))
    query, key = torch.zeros(1, 6, 4), torch.zeros(1, 6, 4)
    query[:, :, 0], key[:, 0, 0] = 1.0, 500.0
    rows = torch.tensor([3, 4])
    weights = BlockMask().weights(query[:, rows], key, LayerView((layout,)), 0, rows, scale=1.0)
    want = torch.tensor([[[0, 0, 0, 1, 0, 0], [0, 0, 0, 0.5, 0.5, 0]]])
    torch.testing.assert_close(weights, want)
