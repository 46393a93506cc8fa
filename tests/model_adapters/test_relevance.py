"""Relevance without outside models: where tokens lie, whose boxes count, and what the batch gets."""

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError, image_order
from model_adapters.layout import Layout, Span
from model_adapters.models import LlavaOvMask
from model_adapters.picture import as_pictures, image_hash
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.attention import attention_scores, text_attention, text_attention_sums
from model_adapters.relevance.degrade import degrade
from model_adapters.relevance.phrases import noun_phrases, phrases_of
from model_adapters.relevance.places import (
    grid,
    joined,
    nowhere,
    padded_square,
    pooled,
)
from model_adapters.relevance.query import Query, oracle_boxes
from model_adapters.relevance.sources import RelevanceSource
from tests.makers.boxes import boxes, plain

EMBEDDED = Path(__file__).resolve().parents[2] / "mimic_tasks/embedded"


# --- The argument


def test_every_form_of_relevance_is_read_and_written_back() -> None:
    for text, form, score, models in (
        ("grounded_clip", "grounded_clip", "clip", ("grounding", "clip")),
        ("sam_clip", "sam_clip", "clip", ("sam", "clip")),
        ("clip", "clip", "clip", ("clip",)),
        ("attention", "attention", "attention", ()),
        ("oracle", "oracle", "constant", ()),
        ("uniform", "uniform", "constant", ()),
        ("uniform:oracle", "uniform:oracle", "constant", ()),
        ("uniform:grounded_clip", "uniform:grounded_clip", "constant", ("grounding",)),
        ("uniform:sam_clip", "uniform:sam_clip", "constant", ("sam", "clip")),
        ("degraded:0.5", "degraded:0.5:oracle", "constant", ()),
        ("degraded:1:grounded_clip", "degraded:1:grounded_clip", "clip", ("grounding", "clip")),
    ):
        choice = parse_relevance(text)
        assert (str(choice), choice.score, choice.models) == (form, score, models)
        assert parse_relevance(str(choice)) == choice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clp", r"^Unknown relevance 'clp'\. Did you mean 'clip'\? Valid: attention, clip, degraded, "),
        ("degraded", r"degraded:P takes a probability within 0-1, got 'degraded'$"),
        ("degraded:1.5", r"within 0-1, got 'degraded:1\.5'$"),
        ("degraded:nan", r"within 0-1, got 'degraded:nan'$"),
        ("degraded:0.5:orcale", r"Unknown source of boxes 'orcale'\. Did you mean 'oracle'\?"),
        ("degraded:0.5:clip", r"Unknown source of boxes 'clip'.* Valid: grounded_clip, oracle\.$"),
        ("uniform:oracle:x", r"relevance=uniform:oracle:x has a part too many: ':x'$"),
        ("oracle:0.5", r"has a part too many: ':0\.5'$"),
    ],
)
def test_a_relevance_that_does_not_exist_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_relevance(text)


def test_reading_the_argument_needs_nothing_heavy() -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['numpy'] = None; import model_adapters.relevance"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- Docs and the oracle


def docs(kind: str) -> list[dict[str, Any]]:
    return list(pq.read_table(EMBEDDED / kind / "test.parquet").to_pylist())


def pictures_of(doc: dict[str, Any]) -> list[Image.Image]:
    from mimic_tasks.lmms_hooks import doc_to_visual

    return doc_to_visual(doc)


@pytest.mark.parametrize("kind", ["counting", "listing", "common", "oddone"])
def test_the_oracle_grounds_what_is_asked_and_never_the_answer_alone(kind: str) -> None:
    for doc in docs(kind)[:8]:
        images = pictures_of(doc)
        asked = Query.of_doc(doc, images, name="a doc")
        assert asked.kind == kind
        for image, annotated, found in zip(images, doc["boxes"], oracle_boxes(asked), strict=True):
            if kind in ("counting", "listing"):
                annotated = [box for box in annotated if box["class"] in doc["targets"]]
            want = [
                (
                    box["x"] / image.width,
                    box["y"] / image.height,
                    (box["x"] + box["width"]) / image.width,
                    (box["y"] + box["height"]) / image.height,
                )
                for box in annotated
            ]
            torch.testing.assert_close(found, boxes(*want))
        if kind in ("common", "oddone"):
            assert any(not box["target"] for image in doc["boxes"] for box in image)


def test_the_oracles_grounding_covers_the_boxes_pixels() -> None:
    doc = docs("counting")[0]
    images = pictures_of(doc)
    asked = Query.of_doc(doc, images, name="a doc")
    places = [padded_square(6, 6, size=(image.height, image.width)) for image in images]
    layout = Layout(300, 7, tuple(Span(10 + 40 * m, 46 + 40 * m) for m in range(len(images))))
    source = RelevanceSource(parse_relevance("oracle"))
    counts: Counter[str] = Counter()
    got = source.relevance([asked], [places], [layout], counts=[counts])
    assert not got.score.any()
    for span, image, annotated in zip(layout.images, images, doc["boxes"], strict=True):
        grey = np.zeros((image.height, image.width))
        for box in annotated:
            if box["class"] in doc["targets"]:
                x, y = int(box["x"]), int(box["y"])
                grey[y : y + int(box["height"]), x : x + int(box["width"])] = 1
        cells = grey.reshape(6, image.height // 6, 6, image.width // 6)
        assert got.grounded[0, span.start : span.end].tolist() == (cells.max((1, 3)) > 0).flatten().tolist()
    empty = sum(not any(box["class"] in doc["targets"] for box in image) for image in doc["boxes"])
    assert counts["images_without_grounding"] == empty > 0
    assert counts["docs_without_grounding"] == 0


def test_boxes_follow_the_order_in_which_images_are_shown() -> None:
    doc = docs("counting")[0]
    images = pictures_of(doc)
    order = image_order("seeded:3", content_hash=doc["content_hash"], n=len(images))
    assert list(order) != sorted(order)
    fixed = oracle_boxes(Query.of_doc(doc, images, name="a doc"))
    shown = oracle_boxes(Query.of_doc(doc, [images[i] for i in order], name="a doc", order=order))
    assert all(torch.equal(own, fixed[i]) for own, i in zip(shown, order, strict=True))


def test_boxes_that_reach_beyond_the_image_are_cut() -> None:
    box = {"class": "dog", "x": -5.0, "y": 10.0, "width": 100.0, "height": 10.0, "target": True}
    doc = {"task": "common", "question": "?", "targets": ["dog"], "boxes": [[box]]}
    (found,) = oracle_boxes(Query.of_doc(doc, [plain((40, 20))], name="a doc"))
    assert found.tolist() == [[0.0, 0.5, 1.0, 1.0]]


def test_a_doc_without_what_the_source_needs_is_named() -> None:
    official = {"task": "counting", "question": "How many dogs?", "gt": "2"}
    with pytest.raises(
        UserError,
        match=r"oracle: mimic_official_counting doc 3 has no columns 'boxes' and 'targets' of a MIMIC",
    ):
        oracle_boxes(Query.of_doc(official, [plain()], name="mimic_official_counting doc 3"))
    elsewhere = {"boxes": [[1, 2]], "question": "Where?"}  # another benchmark's column of this name
    with pytest.raises(
        UserError, match="muirbench doc 0 has no columns 'boxes' and 'targets' of a MIMIC task"
    ):
        oracle_boxes(Query.of_doc(elsewhere, [plain(), plain()], name="muirbench doc 0"))
    with pytest.raises(UserError, match="x doc 1 has no column 'question'"):
        Query.of_doc({"input": "?"}, [plain()], name="x doc 1")
    assert Query.of_doc({"input": "?"}, [plain()], name="x", question="?").question == "?"
    with pytest.raises(UserError, match="x doc 1 has boxes for 2 images, but shows 1"):
        Query.of_doc(
            {"task": "common", "targets": [], "question": "?", "boxes": [[], []]}, [plain()], name="x doc 1"
        )


# --- Phrases


def test_phrases_are_the_asked_classes_or_category_and_never_the_answer() -> None:
    for kind in ("counting", "listing", "common", "oddone"):
        for doc in docs(kind):
            phrases = phrases_of(Query.of_doc({**doc, "boxes": None}, [], name="a doc"))
            if kind == "counting":
                assert list(phrases) == doc["targets"]
            else:
                assert phrases == ((doc["category"],) if kind == "listing" else ("object",))


@pytest.mark.parametrize(
    ("question", "phrases"),
    [
        ("How many traffic lights are there in total across all the images?", ("traffic lights",)),
        ("Is the dog in Image 1 to the left of the white car?", ("dog", "white car")),
        ("<image><image> Which image shows a cat on a sofa? (A) 1 (B) 2", ("cat", "sofa")),
        ("What colour is the man's T-shirt in the first picture?", ("man's t-shirt",)),
        ("Cat, cat; a CAT!", ("cat",)),
        ("Which of these images is it?", ("object",)),
        (" ".join(f"a thing{'xyzuvwrqto'[i]}, " for i in range(10)), tuple(f"thing{c}" for c in "xyzuvwrq")),
    ],
)
def test_noun_phrases_are_runs_of_words_that_name_things(question: str, phrases: tuple[str, ...]) -> None:
    assert noun_phrases(question) == phrases


# --- Degraded


def test_half_of_the_affected_boxes_are_dropped_and_half_moved() -> None:
    n, p = 4000, 0.3
    own = [boxes((0.1, 0.2, 0.3, 0.6)).repeat(n, 1)]
    got = degrade(own, ["a"], probability=p, content_hash="h")
    deviation = math.sqrt(n * p / 2)
    assert abs(got.dropped - n * p / 2) < 4 * deviation
    assert abs(got.moved - n * p / 2) < 4 * deviation
    assert len(got.boxes[0]) == n - got.dropped
    changed = got.boxes[0][(got.boxes[0] != own[0][0]).any(dim=1)]
    assert len(changed) == got.moved
    size = changed[:, 2:] - changed[:, :2]
    torch.testing.assert_close(size, torch.tensor([[0.2, 0.4]], dtype=torch.float64).expand_as(size))
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-12
    left = changed[:, 0] / 0.8  # uniform over what leaves the box inside
    assert abs(float(left.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / len(left))
    assert left.max() > 0.99 > 0.01 > left.min()


def test_degraded_boxes_depend_on_the_doc_and_not_on_the_order_or_the_batch() -> None:
    own = [boxes(*[(0.1, 0.2, 0.3, 0.6)] * 20), boxes(*[(0.5, 0.5, 0.9, 0.9)] * 20)]
    first = degrade(own, ["a", "b"], probability=0.5, content_hash="h").boxes
    again = degrade(own[::-1], ["b", "a"], probability=0.5, content_hash="h").boxes
    assert torch.equal(first[0], again[1])
    assert torch.equal(first[1], again[0])
    other = degrade(own, ["a", "b"], probability=0.5, content_hash="i").boxes
    assert first[0].tolist() != other[0].tolist()


def test_a_box_keeps_its_fate_at_every_larger_probability() -> None:
    own = [torch.rand(50, 4, dtype=torch.float64).sort(dim=1).values]
    survivors: set[tuple[float, ...]] = {tuple(box) for box in own[0].tolist()}
    moved: set[tuple[float, ...]] = set()
    for p in (0.0, 0.2, 0.5, 0.9, 1.0):
        got = {tuple(box) for box in degrade(own, ["a"], probability=p, content_hash="h").boxes[0].tolist()}
        kept = got & {tuple(box) for box in own[0].tolist()}
        assert kept <= survivors
        assert moved <= got
        survivors, moved = kept, got - kept
        assert p > 0 or len(kept) == 50
    assert not survivors


def test_degraded_counts_what_it_did() -> None:
    source = RelevanceSource(parse_relevance("degraded:1"))
    doc = docs("common")[0]
    images = pictures_of(doc)
    asked = Query.of_doc(doc, images, name="a doc")
    layout = Layout(40, 0, (Span(0, 9), Span(10, 19)))
    counts: Counter[str] = Counter()
    source.relevance([asked], [[grid(3, 3)] * 2], [layout], counts=[counts])
    assert counts["boxes"] == sum(len(own) for own in doc["boxes"])
    assert counts["boxes_dropped"] + counts["boxes_moved"] == counts["boxes"]
    assert source.settings() == {"relevance": "degraded:1:oracle"}
    drawn = [source.boxes(Query.of_doc({**doc, "content_hash": h}, images, name="a doc")) for h in "xxy"]
    first, again, other = ([own.tolist() for own in found or []] for found in drawn)
    assert first == again != other


# --- Batches


def test_padding_text_and_newlines_are_never_grounded_in_batches_of_different_layouts() -> None:
    place = joined([grid(2, 2), nowhere(1)])
    rows = [[place], [place, place, place], []]
    layouts = [
        Layout(20, 12, (Span(13, 18),)),
        Layout(20, 0, (Span(2, 7), Span(7, 12), Span(14, 19))),
        Layout(20, 3),
    ]
    asked = [
        Query(name=str(b), question="?", pictures=as_pictures([plain() for _ in own]))
        for b, own in enumerate(rows)
    ]
    source = RelevanceSource(parse_relevance("uniform"))
    counts: list[Counter[str]] = [Counter() for _ in rows]
    got = source.relevance(asked, rows, layouts, counts=counts)
    assert got.grounded[0].nonzero().flatten().tolist() == [13, 14, 15, 16]
    assert got.grounded[1].nonzero().flatten().tolist() == [2, 3, 4, 5, 7, 8, 9, 10, 14, 15, 16, 17]
    assert not got.grounded[2].any()
    assert got.score.dtype == torch.float32
    assert [own["docs_without_grounding"] for own in counts] == [0, 0, 1]  # the doc without images
    assert [own["images"] for own in counts] == [1, 3, 0]


def test_places_that_do_not_fill_the_spans_are_refused() -> None:
    asked = Query(name="t doc 1", question="?", pictures=as_pictures([plain()]))
    source = RelevanceSource(parse_relevance("uniform"))
    with pytest.raises(ValueError, match=r"t doc 1: places of \[4\] tokens for spans of \[5\] and 1 images"):
        source.relevance([asked], [[grid(2, 2)]], [Layout(9, 0, (Span(1, 6),))])


def test_relevance_loads_no_outside_model_that_it_does_not_need() -> None:
    source = RelevanceSource(parse_relevance("oracle"), grounding="/no/such", clip="/no/such")
    doc = docs("common")[0]
    source.relevance(
        [Query.of_doc(doc, pictures_of(doc), name="a doc")],
        [[grid(3, 3)] * 2],
        [Layout(40, 0, (Span(0, 9), Span(10, 19)))],
    )
    assert source.settings() == {"relevance": "oracle"}


# --- Attention


def test_attention_sums_are_those_of_whole_maps() -> None:
    torch.manual_seed(0)
    layouts = [
        Layout(150, 3, (Span(10, 30), Span(30, 41))),  # more text rows than one chunk
        Layout(150, 0, (Span(2, 20), Span(25, 140))),
        Layout(150, 9),
        Layout(150, 120, (Span(121, 150),)),  # no text after the image
    ]
    query = torch.randn(4, 6, 150, 8, dtype=torch.float64)
    key = torch.randn(4, 2, 150, 8, dtype=torch.float64)
    got = text_attention_sums(query, key, layouts, scale=0.3)
    for b, layout in enumerate(layouts):
        scores = query[b] @ key[b].repeat_interleave(3, 0).transpose(1, 2) * 0.3
        n = torch.arange(150)
        allowed = (n[None] <= n[:, None]) & (n[None] >= layout.padding)
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        want = torch.zeros(150, dtype=torch.float64)
        if layout.images:
            total = weights[:, layout.images[-1].end :].sum(1).mean(0)
            for span in layout.images:
                want[span.start : span.end] = total[span.start : span.end]
        torch.testing.assert_close(got[b], want, rtol=0, atol=1e-14)


def test_attention_relevance_is_that_of_transformers_eager_attentions(tiny: Path) -> None:
    from transformers import LlavaOnevisionForConditionalGeneration

    ours = LlavaOvMask(pretrained=str(tiny), mask="none")
    eager = LlavaOnevisionForConditionalGeneration.from_pretrained(
        tiny, dtype=torch.float32, attn_implementation="eager"
    )
    sizes = [[(50, 80), (60, 40)], [(48, 48)], [(30, 90), (90, 30), (48, 50)]]
    images = [[plain(size, 20 * i) for i, size in enumerate(row)] for row in sizes]
    prompts = [
        ours.family.prompt(
            [
                {
                    "role": "user",
                    "content": [*({"type": "image"} for _ in row), {"type": "text", "text": "How many?"}],
                }
            ]
        )
        for row in images
    ]
    batch = ours.family.prepare(images, prompts)
    depth = ours.model.config.get_text_config().num_hidden_layers
    sums = text_attention(
        ours.model, batch.inputs, batch.layouts, depth=depth, pad_token_id=ours.family.pad_token_id
    )
    with torch.inference_mode():
        whole = eager(**batch.inputs, output_attentions=True).attentions[depth // 2]
    places = []
    for b, layout in enumerate(batch.layouts):
        assert sums[b, : layout.padding].eq(0).all()
        total = whole[b, :, layout.images[-1].end :].sum(1).mean(0)
        for span in layout.images:
            torch.testing.assert_close(
                sums[b, span.start : span.end], total[span.start : span.end], rtol=1e-3, atol=1e-5
            )
        places.append([joined([grid(1, span.length - 1), nowhere(1)]) for span in layout.images])
    asked = [
        Query(name=str(b), question="How many?", pictures=as_pictures(row)) for b, row in enumerate(images)
    ]
    source = RelevanceSource(parse_relevance("attention"))
    assert source.needs_attention
    with pytest.raises(ValueError, match="needs `attention`, the sums of a first pass"):
        source.relevance(asked, places, batch.layouts)
    got = source.relevance(asked, places, batch.layouts, attention=sums)
    for b in range(len(images)):
        own = got.grounded[b]
        pi = got.score[b, own].softmax(0)
        torch.testing.assert_close(pi, sums[b, own] / sums[b, own].sum())
        assert not got.score[b, ~own].any()


def test_attention_is_found_in_a_pooled_batch(tiny: Path) -> None:
    model = LlavaOvMask(pretrained=str(tiny), mask="none")
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "How many?"}]
    prompt = model.family.prompt([{"role": "user", "content": content}])
    whole = model.family.prepare([[plain(grey=9), plain(grey=99)]], [prompt])
    with torch.inference_mode():
        batch = model.family.embedded(model.model, whole, pool=4)
    pad = model.family.pad_token_id
    sums = text_attention(model.model, batch.inputs, batch.layouts, depth=6, pad_token_id=pad)
    assert sums.shape == (1, batch.layouts[0].length)
    assert sums.shape[1] < whole.layouts[0].length
    places = [pooled(joined([padded_square(6, 6, size=(30, 40)), nowhere(1)]), 4, closing=1)] * 2
    asked = Query(name="a doc", question="How many?", pictures=as_pictures([plain(), plain()]))
    got = RelevanceSource(parse_relevance("attention")).relevance(
        [asked], [places], batch.layouts, attention=sums
    )
    assert int(got.grounded.sum()) == 2 * sum(places[0].is_place.tolist()) > 0
    assert got.score[got.grounded].isfinite().all()


def test_no_attention_at_all_is_a_finite_score() -> None:
    scores = attention_scores(torch.tensor([[0.0, 1e-60, 1.0]], dtype=torch.float64))
    assert scores.isfinite().all()
    assert scores[0, 2] == 0
    assert float(scores[0].softmax(0)[2]) == 1


def test_an_image_hash_is_that_of_its_pixels() -> None:
    assert image_hash(plain()) == image_hash(plain().copy()) != image_hash(plain(grey=1))
