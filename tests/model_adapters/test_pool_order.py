"""`pool=` and `order=`: each against its definition, and against what the decoder really receives."""

import itertools
import json
import math
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError, announced_run, image_order, parse_order
from model_adapters.layout import ImageTokens, Layout, Span
from model_adapters.models import LlavaOvMask
from model_adapters.options import AdapterOptions, parse_arg_string
from model_adapters.pooling import pool_image, pool_places, pool_sequence, shorten
from model_adapters.relevance.places import grid, joined, nowhere

GREEDY = {"max_new_tokens": 12, "do_sample": False, "temperature": 0}
PATCHES = (48 // 8) ** 2


def slow_pool(tokens: torch.Tensor, factor: int) -> torch.Tensor:
    """The definition: windows one after the other, each the mean of the tokens that are really in it."""
    windows = [tokens[start : start + factor] for start in range(0, len(tokens), factor)]
    return torch.stack([sum(window) / len(window) for window in windows])  # type: ignore[arg-type]


def slow_pool_image(tokens: torch.Tensor, factor: int) -> torch.Tensor:
    """An image's span of LLaVA-OneVision: all is pooled but its last newline."""
    return torch.cat([slow_pool(tokens[:-1], factor), tokens[-1:]])


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (50 + 7 * seed, 80, 3), dtype=np.uint8))


COUNTS = (2, 4, 1, 3)
IMAGES = [[picture(10 * n + m) for m in range(n)] for n in COUNTS]
QUESTIONS = [f"What is in {n} images?{' And why?' * n}" for n in COUNTS]


def messages(images: list[Image.Image], text: str) -> list[dict[str, Any]]:
    content = [{"type": "image", "url": image} for image in images]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


def prompts(model: LlavaOvMask, rows: list[int]) -> list[str]:
    return [model.family.prompt(messages(IMAGES[i], QUESTIONS[i])) for i in rows]


def answers(model: LlavaOvMask, rows: list[int]) -> list[str]:
    replies = model.reply([IMAGES[i] for i in rows], prompts(model, rows), GREEDY)
    return [reply.text for reply in replies]


@contextmanager
def watched(model: LlavaOvMask) -> Iterator[list[dict[str, Any]]]:
    """What the first decoder layer and the attention get in each call, the prompt's first."""
    calls: list[dict[str, Any]] = []
    (decoder,) = [module for name, module in model.model.named_modules() if name.endswith("language_model")]

    def note(module: Any, args: Any, kwargs: Any) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        calls.append({"states": states.clone(), "positions": kwargs["position_ids"].clone()})

    handle = decoder.layers[0].register_forward_pre_hook(note, with_kwargs=True)
    running = model.engine.running

    def noted(owner: Any, layouts: Any, **options: Any) -> Any:
        calls.append({"layouts": tuple(layouts)})
        return running(owner, layouts, **options)

    model.engine.running = noted  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        handle.remove()
        del model.engine.running  # type: ignore[method-assign]


def prompt_of(model: LlavaOvMask, rows: list[int]) -> tuple[tuple[Layout, ...], torch.Tensor, torch.Tensor]:
    """The layouts of a batch, and the embeddings (B, N, D) and positions (B, N) that the decoder gets."""
    with watched(model) as calls:
        model.reply([IMAGES[i] for i in rows], prompts(model, rows), {**GREEDY, "max_new_tokens": 1})
    layouts, first = calls[0]["layouts"], calls[1]
    positions = first["positions"].expand(len(rows), -1)
    return layouts, first["states"], positions


@pytest.fixture(scope="module")
def plain(tiny: Path) -> LlavaOvMask:
    return LlavaOvMask(pretrained=str(tiny), mask="none")


def pooling(tiny: Path, factor: int, **arguments: Any) -> LlavaOvMask:
    return LlavaOvMask(pretrained=str(tiny), pool=factor, **arguments)


# Pooling


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7, 8, 64])
@pytest.mark.parametrize("length", [1, 2, 5, 8, 63, 64, 65, 729])
def test_pooling_is_the_mean_of_each_window(length: int, factor: int) -> None:
    tokens = torch.randn(length, 5, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    got = pool_sequence(tokens, factor)
    assert got.shape == (math.ceil(length / factor), 5)
    assert torch.allclose(got, slow_pool(tokens, factor), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    tokens = torch.randn(729, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    got = pool_sequence(tokens, 8)
    assert got.dtype == dtype
    assert torch.equal(got, pool_sequence(tokens.float(), 8).to(dtype))


def test_a_shortened_batch_keeps_its_text_and_is_padded_anew() -> None:
    ids = torch.tensor([[0, 0, 5, 9, 9, 9, 9, 6, 9, 9, 9, 9, 7], [1, 2, 9, 9, 9, 9, 9, 9, 3, 4, 5, 6, 7]])
    layouts = (Layout(13, 2, (Span(3, 7), Span(8, 12))), Layout(13, 0, (Span(2, 8),)))
    short = shorten(ids, layouts, [[2, 3], [1]], pad=0)
    assert short.ids.tolist() == [[5, 9, 9, 6, 9, 9, 9, 7], [1, 2, 9, 3, 4, 5, 6, 7]]
    assert short.layouts == (Layout(8, 0, (Span(1, 3), Span(4, 7))), Layout(8, 0, (Span(2, 3),)))
    short = shorten(ids, layouts, [[4, 4], [1]], pad=0)
    assert short.ids[1].tolist() == [0, 0, 0, 1, 2, 9, 3, 4, 5, 6, 7]
    assert short.attention[1].tolist() == [0] * 3 + [1] * 8
    assert short.layouts == (Layout(11, 0, (Span(1, 5), Span(6, 10))), Layout(11, 3, (Span(5, 6),)))


def test_an_image_of_several_spans_is_pooled_span_by_span() -> None:
    """Windows of two never reach over the row token 8; the closing token at the end stays."""
    image = ImageTokens((Span(1, 4), Span(5, 8)))
    ids = torch.tensor([[5, 9, 9, 9, 8, 9, 9, 9, 6, 9, 9, 7, 0]])
    layouts = (Layout(13, 0, (image, Span(9, 11)), 1),)
    tokens = torch.tensor([[1.0], [3.0], [7.0], [10.0], [30.0], [100.0]])
    pieces = pool_image(tokens, image, 2, closing=1)
    assert [piece.flatten().tolist() for piece in pieces] == [[2.0, 7.0], [20.0, 100.0]]
    assert [len(piece) for piece in pool_image(tokens, image, 1)] == [3, 3]
    short = shorten(ids, layouts, [[2, 2, 1]], pad=0)
    assert short.ids.tolist() == [[5, 9, 9, 8, 9, 9, 6, 9, 7]]
    assert short.layouts == (Layout(9, 0, (ImageTokens((Span(1, 3), Span(4, 6))), Span(7, 8))),)
    places = pool_places(joined([grid(1, 5), nowhere(1)]), image, 2, closing=1)
    assert places.token.tolist() == [0, 0, 1, 2, 2]
    assert places.length == 4


@pytest.mark.parametrize("mask", ["none", "block"])
@pytest.mark.parametrize("factor", [2, 5, 8, 64])  # 36 tokens: divisible, not divisible, twice, one window
def test_the_decoder_receives_the_pooled_tokens_and_the_text(
    tiny: Path, plain: LlavaOvMask, factor: int, mask: str
) -> None:
    rows = [0, 1, 2, 3]
    before, full, _ = prompt_of(plain, rows)
    after, short, positions = prompt_of(pooling(tiny, factor, mask=mask), rows)
    for b in rows:
        images = [slow_pool_image(full[b, span.start : span.end], factor) for span in before[b].images]
        assert [span.length for span in after[b].images] == [len(image) for image in images]
        if COUNTS[b] > 1:
            assert {len(image) for image in images} == {math.ceil(PATCHES / factor) + 1}
        parts, place = [], before[b].padding
        for span, image in zip(before[b].images, images, strict=True):
            parts += [full[b, place : span.start], image]
            place = span.end
        want = torch.cat([*parts, full[b, place:]])
        own = slice(after[b].padding, None)
        assert torch.allclose(short[b, own], want, rtol=0, atol=1e-6)
        assert torch.equal(positions[b, own], torch.arange(len(want)))
        for span, image in zip(after[b].images, images, strict=True):
            assert torch.allclose(short[b, span.start : span.end], image, rtol=0, atol=1e-6)
            assert torch.equal(short[b, span.end - 1], image[-1])  # the newline is not pooled
    assert max(layout.padding for layout in after) > 0 == min(layout.padding for layout in after)


def test_one_image_is_pooled_over_its_tiles_and_inner_newlines(tiny: Path, plain: LlavaOvMask) -> None:
    before, full, _ = prompt_of(plain, [2])
    after, short, _ = prompt_of(pooling(tiny, 4, mask="none"), [2])
    (span,), (pooled,) = before[0].images, after[0].images
    assert span.length > PATCHES + 1  # tiles
    assert pooled.length == math.ceil((span.length - 1) / 4) + 1
    want = slow_pool_image(full[0, span.start : span.end], 4)
    assert torch.allclose(short[0, pooled.start : pooled.end], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mask", ["none", "block"])
@pytest.mark.parametrize("factor", [3, 8])
def test_a_pooled_batch_answers_as_its_docs_alone(
    tiny: Path, plain: LlavaOvMask, factor: int, mask: str
) -> None:
    model = pooling(tiny, factor, mask=mask)
    together = answers(model, [0, 1, 2, 3])
    assert together == [answers(model, [i])[0] for i in range(4)]
    assert together != answers(plain, [0, 1, 2, 3])


def test_pooled_generation_is_repeated_prefill(tiny: Path) -> None:
    """The cache: each new token is the best one after the prompt and all tokens before it."""
    model = pooling(tiny, 4, mask="block", layers="all")
    batch = model.family.embedded(model.model, model.family.prepare(IMAGES[1:2], prompts(model, [1])), pool=4)
    (layout,) = batch.layouts
    inputs = batch.inputs["inputs_embeds"]
    got = answers(model, [1])[0]
    new: list[int] = []
    with torch.inference_mode():
        for step in range(GREEDY["max_new_tokens"]):
            now = Layout(layout.length + step, layout.padding, layout.images)
            with model.engine.running(model.model, [now]):
                logits = model.model(inputs_embeds=inputs).logits
            new.append(int(logits[0, -1].argmax()))
            if new[-1] == model.model.generation_config.eos_token_id:
                break
            token = model.model.get_input_embeddings()(torch.tensor([[new[-1]]]))
            inputs = torch.cat([inputs, token], dim=1)
    assert got == model.family.processor.tokenizer.decode(new, skip_special_tokens=True)


def test_pooling_uses_a_lora_adapter_in_both_towers(tiny: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlavaOnevisionForConditionalGeneration

    base = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "lora")
    adapted = {"mask": "none", "peft": str(tmp_path / "lora")}
    before, full, _ = prompt_of(LlavaOvMask(pretrained=str(tiny), **adapted), [0])
    model = pooling(tiny, 4, **adapted)
    after, short, _ = prompt_of(model, [0])
    for old, new in zip(before[0].images, after[0].images, strict=True):
        want = slow_pool_image(full[0, old.start : old.end], 4)
        assert torch.allclose(short[0, new.start : new.end], want, rtol=0, atol=1e-6)
    assert answers(model, [0, 1]) == [answers(model, [0])[0], answers(model, [1])[0]]
    assert answers(model, [0]) != answers(pooling(tiny, 4, mask="none"), [0])


def test_a_repetition_penalty_still_knows_the_prompt(tiny: Path) -> None:
    """With embeddings alone transformers would penalise generated tokens only, and warn."""
    model = pooling(tiny, 4, mask="none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.reply(IMAGES[:1], prompts(model, [0]), {**GREEDY, "repetition_penalty": 1.3})


def test_without_pooling_nothing_is_pooled(plain: LlavaOvMask, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("pooled")

    monkeypatch.setattr("model_adapters.pooling.pool_sequence", never)
    answers(plain, [0])


def test_a_pooled_batch_without_images_is_the_batch(tiny: Path) -> None:
    model = pooling(tiny, 4)
    text = model.family.prompt(messages([], "Why?"))
    assert (
        model.reply([[]], [text], GREEDY)[0].text
        == LlavaOvMask(pretrained=str(tiny)).reply([[]], [text], GREEDY)[0].text
    )


def test_features_that_do_not_fill_the_spans_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pooling(tiny, 4, feature_cache=0)
    features = model.family.image_features
    monkeypatch.setattr(model.family, "image_features", lambda *args: features(*args)[1:])
    with pytest.raises(ValueError, match=r"images of \[37\] tokens do not fill spans of \[37, 37\]"):
        model.reply(IMAGES[:1], prompts(model, [0]), GREEDY)


# Order


def test_fixed_and_reversed() -> None:
    assert image_order("fixed", content_hash="", n=4) == (0, 1, 2, 3)
    assert image_order("reversed", content_hash="", n=4) == (3, 2, 1, 0)
    for n in range(6):
        once = image_order("reversed", content_hash="", n=n)
        assert tuple(once[i] for i in once) == tuple(range(n))  # its own inverse


def test_seeded_draws_every_permutation_alike() -> None:
    seeds, docs = 100, 600
    drawn = Counter(
        image_order(f"seeded:{seed}", content_hash=f"doc {i}", n=3)
        for seed in range(seeds)
        for i in range(docs)
    )
    assert set(drawn) == set(itertools.permutations(range(3)))
    expected = seeds * docs / 6
    chi_squared = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert chi_squared < 20.515  # the 0.999 quantile for 5 degrees of freedom, from a printed table


def test_seeded_moves_with_the_doc_and_with_the_seed_alone() -> None:
    orders = [image_order(order, content_hash=doc, n=8) for order in ("seeded", "seeded:1") for doc in "ab"]
    assert len(set(orders)) == 4
    assert image_order("seeded", content_hash="a", n=8) == image_order("seeded:0", content_hash="a", n=8)
    assert all(image_order("seeded:3", content_hash="a", n=n) == tuple(range(n)) for n in (0, 1))


def test_seeded_is_the_same_in_every_process() -> None:
    here = [image_order("seeded:7", content_hash=f"{i:064x}", n=6) for i in range(20)]
    code = (
        "from mimic_eval.records import image_order\n"
        "print([image_order('seeded:7', content_hash=f'{i:064x}', n=6) for i in range(20)])"
    )
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": salt}
        )
        assert done.stdout.strip() == str(here), done.stderr
    assert image_order("seeded:7", content_hash="a", n=6) == FROZEN  # what runs have recorded stays readable


FROZEN = (4, 5, 3, 1, 2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reverse", "Unknown order 'reverse'. Did you mean 'reversed'? Valid: fixed, reversed, seeded, "),
        ("seded:3", "Unknown order 'seded:3'. Did you mean 'seeded'?"),
        ("fixed:3", "Unknown order 'fixed:3'. Did you mean 'fixed'?"),
        ("seeded:", "SEED in order=seeded:SEED must be an integer of 1 to 18 digits, got ''"),
        ("seeded:-1", "got '-1'"),
        ("seeded:x", "got 'x'"),
        ("", "Unknown order ''."),
    ],
)
def test_a_wrong_order_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_order(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_order_is_read_from_model_args_and_recorded_with_its_seed(tiny: Path) -> None:
    options = AdapterOptions.parse(parse_arg_string("order=seeded,pool=4,mask=none", {}))
    assert (options.general.order, options.general.pool) == ("seeded:0", 4)
    assert AdapterOptions.parse({"order": "seeded:007", "pool": 64}).general.order == "seeded:7"
    LlavaOvMask(pretrained=str(tiny))
    assert (announced_run()["pool"], announced_run()["order"]) == (1, "fixed")
    LlavaOvMask(pretrained=str(tiny), pool="8", order="seeded:3")
    assert (announced_run()["pool"], announced_run()["order"]) == (8, "seeded:3")


class Request:
    """What upstream hands to a chat model."""

    def __init__(self, doc_id: int) -> None:
        self.args = ("", lambda doc: doc["messages"], dict(GREEDY), doc_id, "some_task", "test")


def run(model: LlavaOvMask, docs: list[dict[str, Any]]) -> list[str]:
    model.task_dict = {"some_task": {"test": docs}}
    return [answer.text for answer in model.generate_until([Request(i) for i in range(len(docs))])]  # type: ignore[list-item]


def doc(images: list[Image.Image], text: str, **columns: Any) -> dict[str, Any]:
    return {"messages": messages(images, text), **columns}


@pytest.mark.parametrize("order", ["reversed", "seeded:2"])
@pytest.mark.parametrize("pool", [1, 4])
def test_the_model_sees_the_images_in_that_order(tiny: Path, order: str, pool: int) -> None:
    hashes = ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
    shown = [
        [images[i] for i in image_order(order, content_hash=own, n=len(images))]
        for images, own in zip(IMAGES, hashes, strict=True)
    ]
    assert shown[1] != IMAGES[1]
    arguments = {"pretrained": str(tiny), "mask": "none", "pool": pool, "batch_size": 4}
    fixed = LlavaOvMask(journal="off", **arguments)
    ordered = LlavaOvMask(order=order, journal="off", **arguments)
    got, want, unmoved = (
        with_states(
            model, [doc(*row, content_hash=own) for *row, own in zip(rows, QUESTIONS, hashes, strict=True)]
        )
        for model, rows in ((ordered, IMAGES), (fixed, shown), (fixed, IMAGES))
    )
    assert got[0] == want[0] != unmoved[0]
    assert torch.equal(got[1], want[1])
    assert not torch.equal(got[1], unmoved[1])


def with_states(model: LlavaOvMask, docs: list[dict[str, Any]]) -> tuple[list[str], torch.Tensor]:
    with watched(model) as calls:
        texts = run(model, docs)
    return texts, calls[1]["states"]


def test_docs_of_other_tasks_are_told_apart_by_their_place(tiny: Path) -> None:
    model = LlavaOvMask(pretrained=str(tiny), order="seeded", batch_size=1, journal="off")
    docs = [doc(IMAGES[1], "Why?") for _ in range(4)]
    with watched(model) as calls:
        run(model, docs)
    seen = [call["states"] for call in calls if "states" in call and call["states"].shape[1] > 1]
    assert len(seen) == 4
    assert not all(torch.equal(seen[0], other) for other in seen[1:])
    with watched(model) as calls:
        run(model, docs)
    again = [call["states"] for call in calls if "states" in call and call["states"].shape[1] > 1]
    assert all(torch.equal(*pair) for pair in zip(seen, again, strict=True))


def test_images_with_text_between_them_are_shown_in_fixed_order_only(tiny: Path) -> None:
    first, second = ({"type": "image", "url": image} for image in IMAGES[0])
    text = {"type": "text", "text": "and"}
    between = {"messages": [{"role": "user", "content": [first, text, second]}]}
    turns = {"messages": [{"role": "user", "content": [image]} for image in (first, second)]}
    around = {"messages": [{"role": "user", "content": [text, first, second, text]}]}
    fixed = LlavaOvMask(pretrained=str(tiny), mask="none", journal="off")
    reverse = LlavaOvMask(pretrained=str(tiny), mask="none", order="reversed", journal="off")
    for broken in (between, turns):
        run(fixed, [broken])
        with pytest.raises(UserError) as error:
            run(reverse, [around, broken])
        assert str(error.value) == (
            "order=reversed: some_task doc 1 has text between its images; only order=fixed shows it"
        )
    run(reverse, [around, doc(IMAGES[2], "Why?"), doc([], "Why?")])


# Both, from the command


@pytest.mark.slow
def test_the_command_takes_both_and_refuses_wrong_ones(command: Any, tiny: Path, tmp_path: Path) -> None:
    base = (
        "lmms_eval",
        "--tasks",
        "mimic_common",
        "--model",
        "llava_ov_mask",
        "--limit",
        "2",
        "--model_args",
    )
    done = command(*base, f"pretrained={tiny},pool=4,order=seeded:3", "--output_path", tmp_path)
    assert done.returncode == 0, done.stderr
    (results,) = tmp_path.rglob("*_results.json")
    record = json.loads(results.read_text())["mimic"]["run"]
    assert (record["pool"], record["order"]) == (4, "seeded:3")
    done = command(*base, f"pretrained={tiny},pool=0")
    assert done.returncode == 2
    assert "error: pool must be an integer within 1-64, got 0" in done.stderr.splitlines()
