"""Qwen2-VL: positions of three axes, spans, places and pooling, against transformers and definitions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model_adapters.interventions.block.reference import block_mask
from model_adapters.layout import Layout
from model_adapters.models import Qwen2VLMask
from model_adapters.pooling import pool_sequence
from model_adapters.relevance.places import pooled
from tests.makers.qwen2_vl import (
    DOCS,
    GRIDS,
    IMAGES,
    SETTINGS,
    answers,
    apart,
    generate,
    own_generate,
    picture,
    prepared,
    prompt,
    theirs,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model_adapters.tiny import make_tiny_qwen2_vl

    path = tmp_path_factory.mktemp("tiny") / "qwen2_vl"
    make_tiny_qwen2_vl(path, seed=3)
    return path


@pytest.fixture(scope="module")
def none(tiny: Path) -> Qwen2VLMask:
    return Qwen2VLMask(pretrained=str(tiny), mask="none")


@pytest.fixture(scope="module")
def block(tiny: Path) -> Qwen2VLMask:
    return Qwen2VLMask(pretrained=str(tiny), mask="block", layers="all")


@pytest.fixture(scope="module")
def exact(tiny: Path) -> Qwen2VLMask:
    model = Qwen2VLMask(pretrained=str(tiny), mask="none")
    model.model.double()
    return model


@contextmanager
def watched_positions(model: Qwen2VLMask) -> Iterator[list[torch.Tensor]]:
    """The positions (3, B, T) that rotate queries and keys, of each call of the decoder."""
    seen: list[torch.Tensor] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        seen.append((kwargs["position_ids"] if "position_ids" in kwargs else args[1]).clone())

    rotary = model.model.model.language_model.rotary_emb
    handle = rotary.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def defined_positions(layout: Layout, grids: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The paper's rule for a sequence without its padding, token by token, (3, N)."""
    places, now, at = [], 0, layout.padding
    for span, (rows, columns) in zip(layout.images, grids, strict=True):
        places += [(now + i,) * 3 for i in range(span.start - at)]
        now += span.start - at
        places += [(now, now + row, now + column) for row in range(rows) for column in range(columns)]
        now, at = now + max(rows, columns), span.end
    places += [(now + i,) * 3 for i in range(layout.length - at)]
    return torch.tensor(places).T


# Against transformers


def test_none_generates_the_tokens_of_transformers_own_generate(none: Qwen2VLMask, tiny: Path) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(tiny)
    sdpa, eager = theirs(tiny), theirs(tiny, "eager")
    found, ours, other = [], [], []
    for i, (images, text) in enumerate(DOCS):
        inputs = processor(images=images or None, text=[prompt(none, len(images), text)], return_tensors="pt")
        (want, logits), (_, others) = generate(sdpa, inputs), generate(eager, inputs)
        got, own = own_generate(none, prepared(none, [i]))
        assert torch.equal(got, want)
        ours.append(apart(own, logits))
        other.append(apart(others, logits))
        found.append(processor.batch_decode(want, skip_special_tokens=True)[0])
    assert max(ours) <= 5 * max(other) < 1e-3  # transformers' own two ways of attending; and patches
    assert answers(none) == found
    assert len(set(found)) == len(found)  # the checkpoint's answers do depend on the pictures


def test_none_has_the_logits_of_transformers_own_generate_in_float64(exact: Qwen2VLMask, tiny: Path) -> None:
    reference = theirs(tiny, dtype=torch.float64)
    batch = prepared(exact, range(len(DOCS)))
    (want, logits), (got, own) = generate(reference, batch.inputs), own_generate(exact, batch)
    assert torch.equal(got, want)
    assert logits.dtype == torch.float64
    assert apart(own, logits) < 1e-9


@pytest.mark.parametrize("prefix", [False, True])
def test_block_equals_a_dense_mask_in_transformers(tiny: Path, prefix: bool) -> None:
    ours = Qwen2VLMask(pretrained=str(tiny), layers="all", prefix=prefix)
    ours.model.double()
    batch = prepared(ours, [4])
    seen = block_mask(batch.layouts[0], prefix=prefix)
    least = torch.finfo(torch.float64).min
    dense = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, least)[None, None]
    with (
        torch.inference_mode(),
        ours.engine.running(ours.model, batch.layouts),
        watched_positions(ours) as positions,
    ):
        got = ours.model(**batch.inputs).logits
    given = {**batch.inputs, "attention_mask": dense, "position_ids": positions[0]}
    with torch.inference_mode():
        want = {name: theirs(tiny, name, torch.float64)(**given).logits for name in ("sdpa", "eager")}
        plain = theirs(tiny, dtype=torch.float64)(**batch.inputs).logits
    assert apart(got, want["sdpa"]) < 1e-9
    # transformers' eager takes its softmax in float32: it can be no nearer to us than to its own sdpa
    assert apart(got, want["eager"]) <= apart(want["sdpa"], want["eager"]) + 1e-9 < 1e-4
    assert apart(got, plain) > 1e-2


def test_positions_are_those_of_the_paper_with_padding_and_in_decoding(none: Qwen2VLMask) -> None:
    batch = prepared(none, range(len(DOCS)))
    with watched_positions(none) as seen:
        new, _ = own_generate(none, batch)
    assert len(seen) == new.shape[1] > 1
    for b, layout in enumerate(batch.layouts):
        want = defined_positions(layout, [GRIDS[image.size] for image in IMAGES[b]])
        assert torch.equal(seen[0][:, b, layout.padding :], want)
        for step, positions in enumerate(seen[1:], start=1):
            assert positions[:, b].tolist() == [[int(want.max()) + step]] * 3
    assert len({layout.padding for layout in batch.layouts}) == len(DOCS)


# Batches


@pytest.mark.parametrize("name", ["none", "block"])
def test_batches_of_1_and_8_give_the_same_text(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    assert len(DOCS) == 8
    assert answers(model) == [answers(model, [i])[0] for i in range(len(DOCS))]


def test_first_logits_in_a_batch_are_those_of_the_doc_alone(none: Qwen2VLMask, tiny: Path) -> None:
    reference = theirs(tiny)
    everyone = prepared(none, range(len(DOCS)))
    with torch.inference_mode(), none.engine.running(none.model, everyone.layouts):
        together, want = (model(**everyone.inputs).logits[:, -1] for model in (none.model, reference))
    own, other = [], []
    for i in range(len(DOCS)):
        batch = prepared(none, [i])
        with torch.inference_mode(), none.engine.running(none.model, batch.layouts):
            own.append(apart(none.model(**batch.inputs).logits[0, -1], together[i]))
            other.append(apart(reference(**batch.inputs).logits[0, -1], want[i]))
    assert max(own) <= max(other)  # how far transformers' own batches are from its single docs


def test_images_reach_their_own_doc_and_no_other(none: Qwen2VLMask) -> None:
    first, second = ([picture(seed, (64, 64)) for seed in seeds] for seeds in ((1, 2), (3, 4)))
    written, bare = prompt(none, 2, "Which?"), prompt(none, 0, "Which?")
    texts = [written, bare, written]
    one, no, two = (reply.text for reply in none.reply([first, [], second], texts, SETTINGS))
    assert len({one, no, two}) == 3
    assert [r.text for r in none.reply([second, [], first], texts, SETTINGS)] == [two, no, one]
    assert none.reply([first], [written], SETTINGS)[0].text == one
    assert none.reply([first[::-1]], [written], SETTINGS)[0].text != one
    assert none.reply([[]], [bare], SETTINGS)[0].text == no


def test_block_changes_answers_about_several_images_and_none_about_one(
    none: Qwen2VLMask, block: Qwen2VLMask
) -> None:
    plain, masked = answers(none), answers(block)
    assert plain[:2] == masked[:2]
    assert sum(a != b for a, b in zip(plain[2:], masked[2:], strict=True)) >= 3


# Layouts


def test_a_span_is_the_tokens_of_an_image_between_its_start_and_end_token(none: Qwen2VLMask) -> None:
    batch = prepared(none, range(len(DOCS)))
    name = none.family.processor.tokenizer.convert_ids_to_tokens
    for ids, layout, images in zip(batch.inputs["input_ids"], batch.layouts, IMAGES, strict=True):
        grids = [GRIDS[image.size] for image in images]
        assert [span.length for span in layout.images] == [rows * columns for rows, columns in grids]
        for span in layout.images:
            assert set(name(ids[span.start : span.end])) == {"<|image_pad|>"}
            assert name(int(ids[span.start - 1])) == "<|vision_start|>"
            assert name(int(ids[span.end])) == "<|vision_end|>"
        assert set(name(ids[: layout.padding])) <= {"<|endoftext|>"}
        assert name(int(ids[layout.padding])) == "<|im_start|>"


def test_image_tokens_that_do_not_add_up_are_refused(none: Qwen2VLMask) -> None:
    batch = prepared(none, [2])
    first, second = batch.layouts[0].images
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"the batch should show {count} images, the processor made 2"):
            none.family.layouts(batch.inputs, [count])
    text, pad = int(batch.inputs["input_ids"][0, -1]), none.family.processor.image_token_id
    wanted = rf"images of \[{first.length}, {second.length}\] tokens should be in the prompt, .* runs of "
    for place, token, runs in (
        (second.start, text, rf"\[{first.length}, {second.length - 1}\]"),
        (first.start + 2, text, rf"\[2, {first.length - 3}, {second.length}\]"),
        (slice(first.end, second.start), pad, r"\[34\]"),  # side by side
        ([first.end, second.start], torch.tensor([pad, text]), r"\[17, 15\]"),  # the right number in all
    ):
        ids = batch.inputs["input_ids"].clone()
        ids[0, place] = token
        with pytest.raises(ValueError, match=wanted + runs):
            none.family.layouts({**batch.inputs, "input_ids": ids}, [2])
    both = prepared(none, [1, 3])
    with pytest.raises(ValueError, match=r"images of \[14, 16, 12\] tokens should be in the prompt"):
        none.family.layouts(both.inputs, [3, 1])  # the right number, in the wrong rows


# Features and places


def test_image_features_are_those_of_each_image_alone(none: Qwen2VLMask) -> None:
    batch = prepared(none, [3, 0, 2])
    with torch.inference_mode():
        features = none.family.image_features(none.model, batch)
    flat = [image for i in (3, 0, 2) for image in IMAGES[i]]
    assert len(features) == len(flat)
    for image, got in zip(flat, features, strict=True):
        alone = none.family.prepare([[image]], [prompt(none, 1, "Why?")])
        with torch.inference_mode():
            (want,) = none.family.image_features(none.model, alone)
        rows, columns = GRIDS[image.size]
        assert got.tokens.shape == want.tokens.shape == (rows * columns, 64)
        assert torch.allclose(got.tokens, want.tokens, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(96, 32), (32, 96), (80, 48), (240, 80)])  # the last is halved: 7 x 2
def test_places_are_where_the_vision_tower_sees_a_bright_spot(tiny: Path, size: tuple[int, int]) -> None:
    """Without its blocks, which mix tokens, a token's feature is a function of its own pixels alone."""
    model = Qwen2VLMask(pretrained=str(tiny), mask="none")
    model.model.model.visual.blocks = torch.nn.ModuleList()
    width, height = size
    dark = np.zeros((height, width, 3), dtype=np.uint8)
    written = [prompt(model, 2, "Where?")]
    found = set()
    for x in range(0, width, 16):
        for y in range(0, height, 16):
            bright = dark.copy()
            bright[y + 6 : y + 10, x + 6 : x + 10] = 255
            images = [[Image.fromarray(dark), Image.fromarray(bright)]]
            batch = model.family.prepare(images, written)
            with torch.inference_mode():
                black, spotted = (own.tokens for own in model.family.image_features(model.model, batch))
            ((_, places),) = model.family.places(batch.inputs, images)
            assert places.length == len(spotted)
            token = (spotted - black).abs().sum(dim=1).argmax()
            box = torch.tensor([[x + 7, y + 7, x + 9, y + 9]]) / torch.tensor([width, height] * 2)
            assert places.overlapping(box)[token]
            found.add(int(token))
    assert found == set(range(places.length))


def test_places_follow_the_order_of_the_decoders_positions(none: Qwen2VLMask) -> None:
    rows = [4, 0, 6]
    batch = prepared(none, rows)
    images = [IMAGES[i] for i in rows]
    for b, row in enumerate(none.family.places(batch.inputs, images)):
        grids = [GRIDS[image.size] for image in images[b]]
        positions = defined_positions(batch.layouts[b], grids)
        for span, (height, width), places in zip(batch.layouts[b].images, grids, row, strict=True):
            own = positions[:, span.start - batch.layouts[b].padding :][:, : span.length]
            y, x = (own[1:] - own[0] + 0.5).double() / torch.tensor([[height], [width]])
            assert places.is_place.all()
            assert torch.allclose(places.centres, torch.stack([x, y], dim=1))


# Pooling


@pytest.mark.parametrize("rows", [[2], [1, 4, 0, 3]])
def test_pooling_by_1_is_no_pooling(exact: Qwen2VLMask, rows: list[int]) -> None:
    batch = prepared(exact, rows)
    with torch.inference_mode():
        same = exact.family.embedded(exact.model, batch, pool=1)
    assert same.layouts == batch.layouts
    (want, logits), (got, own) = own_generate(exact, batch), own_generate(exact, same)
    assert torch.equal(got, want)
    assert torch.equal(own, logits)


@pytest.mark.parametrize("factor", [2, 3, 64])
def test_pooled_tokens_are_means_at_the_middle_of_their_windows(none: Qwen2VLMask, factor: int) -> None:
    rows = [3, 0, 4, 1]
    batch = prepared(none, rows)
    with torch.inference_mode():
        features = iter(none.family.image_features(none.model, batch))
        short = none.family.embedded(none.model, batch, pool=factor)
    places = none.family.places(batch.inputs, [IMAGES[i] for i in rows])
    for layout, row in zip(short.layouts, places, strict=True):
        assert [span.length for span in layout.images] == [pooled(own, factor).length for own in row]
    with watched_positions(none) as seen:
        new, _ = own_generate(none, short)
    for b, i in enumerate(rows):
        old, layout = batch.layouts[b], short.layouts[b]
        full = defined_positions(old, [GRIDS[image.size] for image in IMAGES[i]]).T.tolist()
        want, at = [], 0
        for span, after in zip(old.images, layout.images, strict=True):
            first, end = span.start - old.padding, span.end - old.padding
            windows = [range(start, min(start + factor, end)) for start in range(first, end, factor)]
            want += full[at:first] + [full[window[(len(window) - 1) // 2]] for window in windows]
            at = end
            embedded = short.inputs["inputs_embeds"][b, after.start : after.end]
            assert torch.allclose(embedded, pool_sequence(next(features).tokens, factor), rtol=0, atol=1e-6)
        want += full[at:]
        assert seen[0][:, b, layout.padding :].T.tolist() == want
        for step, positions in enumerate(seen[1:], start=1):
            assert positions[:, b].tolist() == [[full[-1][0] + step]] * 3
    assert new.shape[1] == len(seen) > 1


def test_pooled_generation_is_repeated_prefill(tiny: Path) -> None:
    """The cache: each new token is chosen by what the prompt and all tokens before it give in one pass."""
    model = Qwen2VLMask(pretrained=str(tiny), mask="block", layers="all", pool=3)
    model.model.double()
    with torch.inference_mode():
        batch = model.family.embedded(model.model, prepared(model, [4]), pool=3)
    tokens, logits = own_generate(model, batch)
    (layout,), inputs = batch.layouts, batch.inputs["inputs_embeds"]
    positions = batch.inputs["position_ids"]
    for step, token in enumerate(tokens[0]):
        now = Layout(layout.length + step, layout.padding, layout.images)
        with torch.inference_mode(), model.engine.running(model.model, [now]):
            again = model.model(inputs_embeds=inputs, position_ids=positions).logits[0, -1]
            inputs = torch.cat([inputs, model.model.get_input_embeddings()(token[None, None])], dim=1)
        assert apart(again, logits[0, step]) < 1e-9
        positions = torch.cat([positions, positions[..., -1:] + 1], dim=-1)
    assert len(tokens[0]) > 1
    assert model.reply([IMAGES[4]], [prompt(model, 4, DOCS[4][1])], SETTINGS)[0].text == (
        model.family.processor.tokenizer.decode(tokens[0], skip_special_tokens=True)
    )


@pytest.mark.parametrize("mask", ["none", "block"])
def test_a_pooled_batch_answers_as_its_docs_alone(tiny: Path, none: Qwen2VLMask, mask: str) -> None:
    model = Qwen2VLMask(pretrained=str(tiny), mask=mask, pool=3)
    together = answers(model)
    assert together == [answers(model, [i])[0] for i in range(len(DOCS))]
    assert together[0] == answers(none)[0]  # no image
    assert together[1:] != answers(none)[1:]
