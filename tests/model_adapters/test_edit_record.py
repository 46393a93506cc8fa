"""What an intervention did, counted: by hand, and against what the matrices show."""

import json
from dataclasses import replace

import pytest
import torch

from model_adapters.attention import decode_step
from model_adapters.interventions.record import EditRecord, summarize_edits
from model_adapters.interventions.reference import causal_weights
from tests.oracles.remasking import (
    DOCS,
    METHODS,
    SCALE,
    assert_oracle,
    draw_doc,
    equal_scores,
    hand_made,
    layout_of,
    padded,
    plain_of,
    prefill,
    sinks_in,
    tensors,
    view_of,
    weights_of,
)


def test_a_row_with_less_than_a_millionth_beside_its_sinks_stays_and_is_counted() -> None:
    doc = sinks_in(draw_doc(layout_of([2, 4, 0, 4, 3])), slice(0, 1))
    qkv = tensors(1, doc.layout.length + 1)
    query, key, _ = qkv
    query[..., 0], key[..., 0] = 10.0, 0.0
    key[:, :, doc.sinks.nonzero()[:, 0], 0] = 7.0  # scores of sinks are higher by 21
    record = EditRecord(1)
    got = prefill("mask_only", [x[:, :, :-1] for x in qkv], [doc], record)
    plain = plain_of([x[:, :, :-1] for x in qkv], [doc])
    assert torch.equal(got[:, :, 2:], plain[:, :, 2:])  # both tokens of text before them are ordinary
    assert_oracle("mask_only", [x[:, :, :-1] for x in qkv], [doc])
    view = view_of([doc], record=record)
    step = (query[:, :, -1:], qkv[1], qkv[2])
    assert torch.equal(
        METHODS["mask_only"].decode(*step, view, scale=SCALE), decode_step(*step, view.layouts, scale=SCALE)
    )
    summary = summarize_edits(record.docs())
    assert summary["visual_rows"] == {"all": 4 * 8, "edited": 0, "skipped": 4 * 8}
    assert summary["text_rows"] == {"all": 4 * 5, "edited": 0, "skipped": 4 * 3}
    assert summary["generated_rows"] == {"all": 4, "edited": 0, "skipped": 4}
    assert summary["eta"]["mean"] is None


def test_a_head_that_gives_sinks_nothing_stays_and_the_others_are_edited() -> None:
    doc = hand_made()
    qkv = [x.double() for x in equal_scores()]
    qkv[0][:, 0, :, 0] = 1.0
    qkv[1][:, :, doc.sinks.nonzero()[:, 0], 0] = -1e5
    record = EditRecord(1)
    got, plain = prefill("ar", qkv, [doc], record), plain_of(qkv, [doc])
    assert torch.equal(got[:, 0, 3:], plain[:, 0, 3:])
    assert not torch.equal(got[:, 1, 3], plain[:, 1, 3])
    assert_oracle("ar", qkv, [doc])
    assert summarize_edits(record.docs())["visual_rows"]["edited"] == 2
    assert summarize_edits(record.docs())["links_opened"] == {"row_key_pairs": 4, "image_key_pairs": 2}


def test_statistics_of_ar_by_hand() -> None:
    record = EditRecord(1)
    prefill("ar", equal_scores(), [hand_made()], record)
    summary = summarize_edits(record.docs())
    # Edited: rows 2 and 3 (eta 1/3 and 1/4), which keep 2 and 3 keys and gain tokens 4 and 5.
    assert summary["visual_rows"] == {"all": 12, "edited": 4, "skipped": 0}
    assert summary["text_rows"] == {"all": 4, "edited": 0, "skipped": 0}
    assert summary["generated_rows"] == {"all": 0, "edited": 0, "skipped": 0}
    assert summary["links_opened"] == {"row_key_pairs": 4, "image_key_pairs": 2}
    assert summary["eta"]["count"] == 4
    assert summary["eta"]["mean"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    counted = {i: n for i, n in enumerate(summary["eta"]["histogram"]) if n}
    assert counted == {453: 2, 455: 2}  # log10 of 1/4 and 1/3 is -0.60 and -0.48
    assert summary["nonzeros_per_edited_row"] == {"mean": 4.5, "max": 5}
    assert (summary["docs"], summary["docs_without_sinks"], summary["docs_without_grounded"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("name", "visual", "text", "pairs", "mean", "most"),
    [
        ("mask_only", 10, 2, 0, (2 + 3 + 4 + 5 + 5 + 6) / 6, 6),
        ("unmask_only", 4, 0, 4, (5 + 6) / 2, 6),
        ("ar_masking_empty_rows", 10, 2, 4, (4 + 5 + 4 + 5 + 5 + 6) / 6, 6),
    ],
)
def test_statistics_of_the_others_by_hand(
    name: str, visual: int, text: int, pairs: int, mean: float, most: int
) -> None:
    record = EditRecord(1)
    prefill(name, equal_scores(), [hand_made()], record)
    summary = summarize_edits(record.docs())
    assert summary["visual_rows"] == {"all": 12, "edited": visual, "skipped": 0}
    assert summary["text_rows"] == {"all": 4, "edited": text, "skipped": 0}
    assert summary["links_opened"]["row_key_pairs"] == pairs
    assert summary["nonzeros_per_edited_row"] == {"mean": pytest.approx(mean), "max": most}
    assert summary["docs_without_grounded"] == (None if name == "mask_only" else 0)


@pytest.mark.parametrize("name", METHODS)
def test_the_record_counts_what_the_matrix_shows(name: str) -> None:
    docs = padded(list(DOCS.values()))
    qkv = tensors(len(docs), docs[0].layout.length)
    record = EditRecord(len(docs))
    prefill(name, qkv, docs, record)
    visual = text = pairs = image_pairs = nonzeros = 0
    etas = []
    for b, doc in enumerate(docs):
        alpha = causal_weights(qkv[0][b], qkv[1][b], doc.layout, scale=SCALE)
        weights = weights_of(name, alpha, doc)
        eta = alpha[:, :, doc.sinks].sum(-1)
        edited = (weights != alpha).any(dim=-1) & (eta > 0)
        visual += int((edited & doc.visual).sum())
        text += int((edited & ~doc.visual).sum())
        new = ((weights > 0) & (alpha == 0)).any(dim=0)
        pairs += int(new.sum())
        image_pairs += sum(int(new[image.indices()].any(dim=0).sum()) for image in doc.layout.images)
        nonzeros += int((weights[edited] > 0).sum())
        etas.append(eta[edited])
    summary = summarize_edits(record.docs())
    flat = torch.cat(etas)
    assert (summary["visual_rows"]["edited"], summary["text_rows"]["edited"]) == (visual, text)
    assert summary["links_opened"] == {"row_key_pairs": pairs, "image_key_pairs": image_pairs}
    assert summary["eta"]["count"] == len(flat) > 150
    assert summary["eta"]["mean"] == pytest.approx(float(flat.mean()), abs=1e-12)
    scaled = flat.clamp(min=1e-46).log10()
    assert summary["eta"]["histogram"] == torch.histc(scaled, 460, -46, 0).long().tolist()
    for q, got in summary["eta"]["quantiles"].items():
        assert got == pytest.approx(float(flat.quantile(float(q))), rel=0.3)  # a bin is a factor of 1.26
    assert summary["nonzeros_per_edited_row"]["mean"] == pytest.approx(nonzeros / len(flat), rel=1e-9)
    assert json.loads(json.dumps(summary)) == summary


def test_docs_are_counted_once_and_layers_each() -> None:
    without, bare = DOCS["no_sinks"], DOCS["nothing_grounded"]
    batch = padded([without, bare, DOCS["text_only"]])
    qkv = tensors(3, batch[0].layout.length)
    docs = []
    for _ in range(2):  # two batches
        record = EditRecord(3)
        for layer in (4, 5):
            seen = batch if layer == 4 else [batch[0], replace(batch[1], sinks=batch[0].sinks), batch[2]]
            METHODS["ar"].prefill(*qkv, view_of(seen, layer=layer, record=record), scale=SCALE)
        docs += json.loads(json.dumps(record.docs()))
    summary = summarize_edits(docs)
    assert (summary["docs"], summary["docs_without_sinks"]) == (6, 4)
    assert summary["docs_without_grounded"] == 4  # nothing_grounded and text_only
    assert (summary["layer_docs"], summary["layer_docs_without_sinks"]) == (12, 10)
    assert summarize_edits(docs[::-1]) == summary


def test_an_empty_record_is_said_to_be_empty() -> None:
    summary = summarize_edits([])
    assert summary["eta"] == {
        "count": 0,
        "mean": None,
        "quantiles": dict.fromkeys(["0.05", "0.25", "0.5", "0.75", "0.95"]),
        "histogram": [0] * 460,
    }
    assert summary["nonzeros_per_edited_row"] == {"mean": None, "max": None}


@pytest.mark.parametrize("eta", [0.3, 1e-9, 3e-14, 1e-30, 2e-45])
def test_quantiles_of_small_eta_are_right(eta: float) -> None:
    """Whatever was below 1e-10 was said to be within the first bin, 1e-10 to 1.3e-10."""
    record, doc = EditRecord(1), hand_made()
    record.add_layer(doc.sinks[None], doc.grounded[None])
    shape, rows = (2, 8), doc.visual
    record.add_prompt(
        0,
        doc.layout,
        doc.visual,
        eta=torch.full(shape, eta),
        edited=rows.expand(shape),
        skipped=torch.zeros(shape, dtype=torch.bool),
        nonzeros=torch.ones(8, dtype=torch.long),
        opened=torch.zeros(8, dtype=torch.long),
    )
    summary = summarize_edits(record.docs())["eta"]
    stored = float(torch.tensor(eta))  # as float32 has it
    for quantile in summary["quantiles"].values():
        assert stored / 1.27 <= quantile <= stored * 1.27  # a bin is a tenth of a power of ten
    assert summary["count"] == 12
