"""Knockout: the language of edges, roles of images, generated tokens, and what the record says."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.base_mask import base_mask, ordinary_decode, ordinary_prefill
from model_adapters.heads import parse_heads
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.knockout.edges import parse_edges
from model_adapters.interventions.knockout.kernel import Knockout
from model_adapters.interventions.knockout.reference import blocked_pairs
from model_adapters.interventions.record import EditRecord, summarize_edits
from model_adapters.interventions.reference import causal_mask, masked_attention
from model_adapters.layout import Layout
from model_adapters.options import AdapterOptions
from model_adapters.relevance.query import Query
from tests.makers.outside import picture
from tests.model_adapters.test_attention import SCALE, layout_of, tensors

LAYOUT = layout_of([3, 4, 2, (2, 1, 2), 1, 3, 5], padding=2, right=1)
"""Three images, of which the second has two spans."""


# The language


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("answer>image", "answer>image"),
        ("image>other+image>prefix+image>between", "image>other+image>prefix+image>between"),
        (" question > image[target] + last>image[12]", "question>image[target]+last>image[12]"),
        ("image[distractor]>later+answer>answer", "image[distractor]>later+answer>answer"),
        ("answer>image+answer>image", "answer>image"),
        ("image[02]>image[1]", "image[2]>image[1]"),
    ],
)
def test_edges_read_as_they_are_written(text: str, canonical: str) -> None:
    edges = parse_edges(text)
    assert "+".join(map(str, edges)) == canonical
    assert parse_edges(canonical) == edges


MISTAKES = [
    ("", "edges must read QUERY>KEY, several joined by +; '' does not (in a shell, put quotes around"),
    ("image", "'image' does not (in a shell, put quotes around the value of --model_args: > writes a file)"),
    (
        "image>",
        "Unknown group ''. Valid: answer, between, image, image[2], image[distractor], image[target],",
    ),
    ("image>other+", "'' does not"),
    ("a>b>c", "'a>b>c' does not"),
    ("anwser>image", "Unknown group 'anwser'. Did you mean 'answer'?"),
    ("answer>images", "Unknown group 'images'. Did you mean 'image'?"),
    ("answer>image[targt]", "Unknown role of images 'targt'. Did you mean 'target'?"),
    ("answer>image[1-3]", "Or a number from 1: image[2]."),
    ("answer>image[0]", "edges=answer>image[0]: images are numbered from 1, got image[0]"),
    ("question[target]>image", "only image takes a role in brackets, got question[target]"),
    ("other>image", "other is a KEY only, of an image as QUERY: image>other"),
    ("question>other", "edges=question>other: other needs an image as QUERY, got question"),
    ("image>answer", "edges=image>answer can never exist: no token of the prompt sees generated tokens"),
    ("last>last", "edges=last>last blocks nothing: last is one token, and a token always sees itself"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_wrong_edge_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        AdapterOptions.parse({"mask": "knockout", "edges": text})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_edges_are_needed() -> None:
    with pytest.raises(UserError, match="mask=knockout needs edges=, what is blocked: `QUERY>KEY`"):
        AdapterOptions.parse({"mask": "knockout"})


@pytest.mark.parametrize(
    "edge",
    ["prefix>image", "prefix>question", "image>question", "between>last", "question>last", "image>later",
     "image[1]>other", "image[1]>image[2]", "image>last", "between>question"],
)  # fmt: skip
def test_an_edge_to_later_tokens_is_refused_of_a_causal_decoder(edge: str) -> None:
    mask = AdapterOptions.parse({"mask": "knockout", "edges": f"answer>image+{edge}"}).mask
    with pytest.raises(UserError, match="blocks nothing: the decoder is causal") as error:
        mask.check(causal=True)
    assert f"edges={edge} " in str(error.value)
    mask.check(causal=False)  # a prompt may attend both ways


@pytest.mark.parametrize(
    "edge",
    ["image>image", "image>other", "image[2]>other", "image[3]>image[1]", "image>between", "between>image",
     "between>prefix", "last>question", "question>question", "answer>answer", "image[1]>image[target]"],
)  # fmt: skip
def test_an_edge_that_may_exist_is_not(edge: str) -> None:
    AdapterOptions.parse({"mask": "knockout", "edges": edge}).mask.check(causal=True)
    assert blocked_pairs(LAYOUT, edge.replace("[target]", "")).tril().any() or edge.startswith("answer")


# The groups


def attention(edges: str, *, layout: Layout = LAYOUT, **more: Any) -> Tensor:
    """bool (N, N): which keys have an influence on which row, tried key by key."""
    mask, (q, k, v) = Knockout(parse_edges(edges)), tensors(1, layout.length)
    before = mask.prefill(q, k, v, LayerView((layout,), **more), scale=SCALE)
    seen = torch.zeros(layout.length, layout.length, dtype=torch.bool)
    for j in range(layout.padding, layout.end):
        moved = v.clone()
        moved[:, :, j] += 1.0
        after = mask.prefill(q, k, moved, LayerView((layout,), **more), scale=SCALE)
        seen[:, j] = (after != before).any(dim=(0, 1, 3))
    return seen


def test_what_each_group_is_written_out() -> None:
    """Tokens of LAYOUT: padding 0-1, prefix 2-4, image 5-8, between 9-10, image 11-12 and 14-15, ..."""
    assert [image.indices().tolist() for image in LAYOUT.images] == [
        [5, 6, 7, 8],
        [11, 12, 14, 15],
        [17, 18, 19],
    ]
    causal = causal_mask(LAYOUT)
    rows = {
        "image>prefix": ([5, 8, 11, 15, 19], [2, 3, 4]),
        "image>between": ([11, 14, 19], [9, 10, 13, 16]),
        "image[2]>other": ([11, 15], [5, 6, 7, 8]),
        "image>image": ([14, 19], [5, 11, 12, 17]),
        "between>image": ([10, 13, 16], [5, 8, 11, 14]),
        "question>image[3]": ([20, 24], [17, 18, 19]),
        "last>between": ([24], [9, 10, 13, 16]),
        "last>question": ([24], [20, 21, 22, 23]),
    }
    for edges, (queries, keys) in rows.items():
        seen = attention(edges)
        assert not (seen & ~causal).any()
        for i in queries:
            for j in keys:
                assert not seen[i, j] or i == j, (edges, i, j)
            assert seen[i, i]
        lost = causal & ~seen
        assert torch.equal(lost, blocked_pairs(LAYOUT, edges) & causal), edges
    assert attention("last>between")[23, 9]  # the other tokens of the question still see it


def test_a_row_without_any_other_key_is_its_own_value() -> None:
    q, k, v = tensors(1, LAYOUT.length)
    mask = Knockout(parse_edges("image>image+image>prefix+image>between"))
    out = mask.prefill(q, k, v, LayerView((LAYOUT,)), scale=SCALE)
    for image in LAYOUT.images:
        rows = image.indices()
        torch.testing.assert_close(out[0][:, rows], v[0].repeat_interleave(2, dim=0)[:, rows])


def test_one_image_is_blocked_too_and_a_doc_without_images_stays_as_it_is() -> None:
    """Block masking leaves a doc with one image alone; an edge means what it says."""
    for layout, changed in ((layout_of([3, 4, 2]), True), (layout_of([6]), False)):
        qkv = tensors(1, layout.length)
        mask = Knockout(parse_edges("image>prefix+question>prefix"))
        plain = ordinary_prefill(*qkv, (layout,), None, scale=SCALE)
        got = mask.prefill(*qkv, LayerView((layout,)), scale=SCALE)
        assert torch.equal(got, plain) is not changed


# Roles


def query_of(*targets: bool) -> Query:
    boxes = tuple(
        ({"class": "cat", "target": False}, {"class": "dog", "target": target}) for target in targets
    )
    return Query("doc 7", "How many dogs?", (), kind="counting", targets=("dog",), boxes=boxes)  # type: ignore[arg-type]


@pytest.mark.parametrize("targets", [(True, False, True), (False, False, False), (True, True, True)])
@pytest.mark.parametrize(
    "edges", ["question>image[target]", "image[distractor]>image[target]+last>image[distractor]"]
)
def test_roles_are_those_of_the_docs_boxes(edges: str, targets: tuple[bool, ...]) -> None:
    seen = attention(edges, queries=(query_of(*targets),))
    causal = causal_mask(LAYOUT)
    assert torch.equal(causal & ~seen, blocked_pairs(LAYOUT, edges, targets=targets) & causal)


def test_only_edges_with_roles_ask_for_boxes() -> None:
    assert Knockout(parse_edges("answer>image[target]")).needs == {"roles"}
    assert Knockout(parse_edges("answer>image[2]")).needs == frozenset()


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (
            (replace(query_of(True), boxes=None),),
            "doc 7 has no columns 'boxes' and 'targets' of a MIMIC task",
        ),
        ((None,), "the doc has no columns 'boxes'"),
        ((query_of(True, True),), "doc 7 has boxes for 2 of 3 images"),
    ],
)
def test_a_doc_without_boxes_is_refused_in_one_line(queries: Any, message: str) -> None:
    mask, view = Knockout(parse_edges("answer>image[target]")), LayerView((LAYOUT,), queries=queries)
    with pytest.raises(UserError, match=message) as error:
        mask.prefill(*tensors(1, LAYOUT.length), view, scale=SCALE)
    assert "\n" not in str(error.value)


def test_a_doc_without_boxes_ends_the_run_before_any_answer(tiny: Path) -> None:
    """Of another benchmark: in one line, with the doc's name."""
    from mimic_tasks.lmms_hooks import doc_to_messages
    from model_adapters.models import LlavaOvMask
    from tests.model_adapters.test_adapter import Request

    made = {"device": "cpu", "journal": "off", "mask": "knockout"}
    doc = {"images": [stored(1), stored(2)], "question": "How many?", "image_ids": [7, 8]}
    model = LlavaOvMask(pretrained=str(tiny), edges="question>image[target]", **made)
    model.task_dict = {"mimic_counting": {"test": [doc]}}
    requests: Any = [Request(0, doc_to_messages)]
    with pytest.raises(UserError, match="mimic_counting doc 0 has no columns 'boxes' and 'targets'") as error:
        model.generate_until(requests)
    assert "\n" not in str(error.value)
    by_number = LlavaOvMask(pretrained=str(tiny), edges="question>image[2]", **made)
    by_number.task_dict = model.task_dict
    assert len(by_number.generate_until(requests)) == 1


def stored(number: int) -> dict[str, Any]:
    """A picture as a doc holds it."""
    file = io.BytesIO()
    picture(number).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


# Generated tokens

STEPS = (
    LAYOUT,
    layout_of([3, 5, 2, 5, 2, 5, 1]),  # 23 tokens
    layout_of([8, 6], padding=9),
    layout_of([20], padding=3),
)


def shifted(layout: Layout, more: int) -> Layout:
    """With more padding on the left."""
    images = tuple(image.moved(more) for image in layout.images)
    return Layout(layout.length + more, layout.padding + more, images, layout.right_padding)


@pytest.mark.parametrize("heads", [None, "1-2", "L0H3", "L5H0"])
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize(
    "edges", ["answer>image", "answer>answer+answer>image[2]", "answer>question+answer>last"]
)
def test_a_generated_token_loses_the_keys_of_its_edges(
    edges: str, window: int | None, heads: str | None
) -> None:
    """Of a batch, in a cache that may have dropped keys; docs without such keys are ordinary bit for bit."""
    from transformers.masking_utils import sliding_window_causal_mask_function

    n, generated = LAYOUT.length + 1, 3
    layouts = tuple(shifted(layout, n - layout.length) for layout in STEPS)
    total = n + generated
    dropped = 0 if window is None else total - window
    full = tensors(len(layouts), total)
    query, (key, value) = full[0][:, :, -1:], (x[:, :, dropped:] for x in full[1:])
    tokens = torch.stack([layout.is_token(torch.device("cpu")) for layout in layouts])
    padding = torch.nn.functional.pad(tokens, (0, generated), value=True)
    base = None if window is None else base_mask(
        mask_function=sliding_window_causal_mask_function(window),
        kv_length=total - dropped,
        q_offset=total - 1,
        kv_offset=dropped,
        attention_mask=padding,
        local_size=window,
    )  # fmt: skip
    seen = padding if window is None else padding & (torch.arange(total) > total - 1 - window)
    chosen = None if heads is None else parse_heads(heads)
    mask, record = Knockout(parse_edges(edges), heads=chosen), EditRecord(len(layouts))
    view = LayerView(layouts, base=base, record=record)
    got = mask.decode(query, key, value, view, scale=SCALE)
    plain = ordinary_decode(query, key, value, layouts, base, scale=SCALE)
    edited = range(4) if chosen is None else chosen.of_layer(0)
    counts = record.docs()
    for b, layout in enumerate(layouts):
        blocked = blocked_pairs(layout, edges, generated=generated)[-1]
        left = seen[b] & ~blocked
        doc = (full[0][b], full[1][b], full[2][b])
        want = masked_attention(*doc, left.expand(total, -1), scale=SCALE)[:, -1]
        for head in range(4):
            if head in edited and (seen[b] & blocked).any():
                torch.testing.assert_close(got[b, head, 0], want[head], rtol=0, atol=1e-12)
                assert not torch.equal(got[b, head], plain[b, head])
            else:
                assert torch.equal(got[b, head], plain[b, head])
        weights = mask.generated_weights(query[b], key[b], view, b, scale=SCALE)
        made = (weights[:, None] @ value[b].repeat_interleave(2, dim=0))[:, 0]
        torch.testing.assert_close(made, got[b, :, 0], rtol=0, atol=1e-12)
        pairs = len(edited) * int((seen[b] & blocked).sum())
        assert counts[b].get("count:blocked_pairs", 0) == pairs
        assert counts[b].get("count:edited_rows", 0) == len(edited) * bool(pairs)


# The record


def test_the_record_says_which_edges_no_doc_has() -> None:
    layouts = (LAYOUT, replace(LAYOUT, images=LAYOUT.images[:1]))
    mask = Knockout(parse_edges("image>prefix+question>image[2]+answer>image[3]+last>image[9]+prefix>prefix"))
    record = EditRecord(2)
    for layer in range(2):
        view = LayerView(layouts, layer, record=record)
        mask.prefill(*tensors(2, LAYOUT.length), view, scale=SCALE)
    counts = summarize_edits(record.docs())["counts"]
    named = {name: count for name, count in counts.items() if name.startswith("docs_with")}
    assert named == {
        "docs_with image>prefix": 2,
        "docs_with question>image[2]": 1,
        "docs_with answer>image[3]": 1,
        "docs_with last>image[9]": 0,
        "docs_with prefix>prefix": 2,
    }
    first, second = mask.describe(counts)
    share = counts["removed_mass"] / counts["edited_rows"]
    assert first == (
        f"mask=knockout blocked {counts['blocked_pairs']:,} keys in {counts['edited_rows']:,} rows (of a "
        f"token, head and layer), with {share:.1%} of a row's attention on average"
    )
    assert second == "mask=knockout: no doc has tokens on both sides of last>image[9]"


def test_docs_that_lose_nothing_are_counted_as_unchanged() -> None:
    """Without any entry a doc counted as changed."""
    record = EditRecord(1)
    layout = layout_of([6])
    Knockout(parse_edges("image>prefix")).prefill(
        *tensors(1, 6), LayerView((layout,), record=record), scale=SCALE
    )
    assert summarize_edits(record.docs())["docs_unchanged"] == 1
