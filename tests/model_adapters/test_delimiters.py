"""`mask=delimiters`: against its definition, in whole models, under `intervene` and in training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mimic_eval
from mimic_eval import UserError
from mimic_eval.records import announced_effects, announced_run
from model_adapters.adapter import MaskedModel
from model_adapters.engine import Engine, _Handle, _Run, decoder_layers
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.delimiters.kernel import DelimiterScaling
from model_adapters.interventions.delimiters.reference import scaled_states
from model_adapters.interventions.record import EditRecord, summarize_edits
from model_adapters.layer_hooks import OutputHook
from model_adapters.layout import Layout, Span
from model_adapters.models import LlavaOvMask, model_class
from model_adapters.options import AdapterOptions
from tests.makers.parity_docs import FAMILIES as CASES
from tests.model_adapters.test_focus import DOCS, STEPS, prompt_of
from tests.model_adapters.test_intervene import Loaded, last_logits, load
from tests.model_adapters.test_resume import answers as answers_to
from tests.oracles.passes import greedy_by_hand, grown, scaled_by_hand, transformers_attention

SCALE = 6.5


def model_of(tiny: Path, **arguments: Any) -> LlavaOvMask:
    given = {"pretrained": str(tiny), "mask": "delimiters", "journal": "off", "scale": SCALE}
    return LlavaOvMask(**given | arguments)


def answers(model: MaskedModel, docs: Sequence[dict[str, Any]] = DOCS) -> list[str]:
    return answers_to(model, list(docs), max_new_tokens=STEPS)  # type: ignore[arg-type]


def positions_of(family: str, ids: Sequence[int], token: int, images: int) -> list[int]:
    """By the token ids: the last token of an image (a newline), or the ones around it."""
    spans = [parts[0] for parts in CASES[family].spans(ids, token, images)]
    if family == "llava_onevision":
        return [end - 1 for _, end in spans]
    return [p for start, end in spans for p in (start - 1, end)]


# The definition


def test_the_kernel_is_the_definition_position_by_position() -> None:
    layouts = (
        Layout(12, 2, (Span(3, 5), Span(6, 9))),
        Layout(12, 0, (Span(1, 4),), 3),
        Layout(12, 0, (Span(0, 2), Span(2, 4), Span(5, 8)), 1),
        Layout(12),
    )
    positions = [(2, 5, 9), (0, 4), (2, 4, 8), ()]
    delimiters = torch.zeros(4, 12, dtype=torch.bool)
    for row, of_row in zip(delimiters, positions, strict=True):
        row[list(of_row)] = True
    hidden = torch.randn(4, 12, 5, dtype=torch.float64)
    before, record = hidden.clone(), EditRecord(4)
    view = LayerView(layouts, 1, record=record, delimiters=delimiters)
    got = DelimiterScaling(scale=-2.5).after_layer(hidden, view)
    for b, layout in enumerate(layouts):
        want = scaled_states(hidden[b], positions[b], -2.5, images=len(layout.images))
        assert torch.equal(got[b], want)
    assert torch.equal(hidden, before)  # not in place: the layer's own output may be used elsewhere
    DelimiterScaling(scale=-2.5).after_layer(got, view)
    assert [sums["docs_unchanged"] for sums in record.docs()] == [0, 1, 0, 1]
    assert summarize_edits(record.docs()) == {"docs": 4, "docs_unchanged": 2, "counts": {"edited_rows": 12}}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_states_keep_their_dtype_and_gradients_are_scaled(dtype: torch.dtype) -> None:
    hidden = torch.ones(1, 4, 2, dtype=dtype, requires_grad=True)
    delimiters = torch.tensor([[True, False, False, True]])
    view = LayerView((Layout(4, 0, (Span(1, 2), Span(2, 3))),), delimiters=delimiters)
    got = DelimiterScaling(scale=3).after_layer(hidden, view)
    assert got.dtype == dtype
    got.sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert hidden.grad[0, :, 0].tolist() == [3, 1, 1, 3]


def test_the_output_of_a_layer_may_be_a_tensor_or_a_tuple() -> None:
    engine = Engine(DelimiterScaling(scale=2.0), frozenset({0}))
    layouts = (Layout(4, 0, (Span(1, 2), Span(2, 3))),)
    delimiters = torch.tensor([[True, False, False, True]])
    run = _Run(engine, layouts, None, None, delimiters=delimiters)
    hook, hidden = OutputHook(0, _Handle(run), engine), torch.ones(1, 4, 1)
    module = torch.nn.Identity()
    assert hook(module, (), hidden) is hidden  # its attention was not ours
    run.attended[0] = True
    want = torch.tensor([2.0, 1.0, 1.0, 2.0])[None, :, None]
    assert torch.equal(hook(module, (), hidden), want)
    first, cache = hook(module, (), (hidden, "cache"))
    assert torch.equal(first, want)
    assert cache == "cache"
    run.attended[0] = False  # a generated token
    one = torch.ones(1, 1, 1)
    assert hook(module, (), one) is one
    run.engine = Engine(DelimiterScaling(), frozenset({0}))
    assert hook(module, (), hidden) is hidden


# Whole models


@pytest.fixture(scope="module", params=list(CASES))
def scaled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from model_adapters import tiny
    from model_adapters.families import model_names

    folder = tmp_path_factory.mktemp("delimiters") / request.param
    getattr(tiny, f"make_tiny_{request.param}")(folder, seed=3)
    model = model_class(model_names(request.param)[0])
    return model(pretrained=str(folder), mask="delimiters", journal="off", scale=SCALE)


def test_answers_are_those_of_layers_scaled_by_hand_in_batches_and_alone(scaled: MaskedModel) -> None:
    """Layers 0 to 3 of 6, the prompt's states only."""
    family, model, name = scaled.family, scaled.model, scaled.family.model_type
    want: dict[float, list[str]] = {SCALE: [], 1.0: []}
    for doc in DOCS:
        prompt, images = prompt_of(scaled, doc), len(doc["images"])
        ids = family.prepare([doc["images"]], [prompt]).inputs["input_ids"][0].tolist()
        positions = positions_of(name, ids, model.config.image_token_id, images)
        for scale, texts in want.items():
            with (
                transformers_attention(model),
                scaled_by_hand(decoder_layers(model)[:4], positions, scale, images=images),
            ):
                tokens = greedy_by_hand(
                    model, family, [doc["images"]], prompt, lambda logits: logits[0], steps=STEPS
                )
            texts.append(family.processor.tokenizer.decode(tokens, skip_special_tokens=True))
    assert answers(scaled) == want[SCALE]
    assert want[SCALE] != want[1.0]  # or it could not fail
    assert want[SCALE][1] == want[1.0][1]  # one image
    scaled.batch_size = 3
    assert answers(scaled) == want[SCALE]
    scaled.batch_size = 1


def first_logits(model: MaskedModel, doc: dict[str, Any]) -> Tensor:
    """(V): those of the first generated token."""
    heard: list[Tensor] = []
    base = model.model.get_base_model() if model.options.general.peft else model.model
    handle = base.register_forward_hook(lambda module, args, out: heard.append(out.logits[0, -1]))
    settings = {"max_new_tokens": 1, "do_sample": False}
    model.reply([doc["images"]], [prompt_of(model, doc)], settings)  # type: ignore[arg-type]
    handle.remove()
    return heard[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scale_1_and_one_image_are_none_bit_for_bit(tiny: Path, dtype: str) -> None:
    plain = model_of(tiny, mask="none", dtype=dtype, scale=None)
    once, scaled = model_of(tiny, scale=1, dtype=dtype), model_of(tiny, dtype=dtype)
    for doc in DOCS:
        want = first_logits(plain, doc)
        assert torch.equal(first_logits(once, doc), want)
        assert torch.equal(first_logits(scaled, doc), want) == (len(doc["images"]) < 2)
    answers(once)
    assert announced_effects()["edits"] == {"docs": 3, "docs_unchanged": 3, "counts": {"edited_rows": 0}}


def test_docs_of_one_image_in_a_batch_are_not_scaled(tiny: Path) -> None:
    """The release counts the delimiters of a batch (docs/ledger.md)."""
    docs = [DOCS[1], {**DOCS[1], "images": DOCS[0]["images"][:1]}]
    answers(model_of(tiny, batch_size=2), docs)
    assert announced_effects()["edits"] == {"docs": 2, "docs_unchanged": 2, "counts": {"edited_rows": 0}}


def test_bfloat16_is_as_near_as_bfloat16_by_hand(tiny: Path) -> None:
    exact, half, doc = model_of(tiny), model_of(tiny, dtype="bfloat16"), DOCS[2]
    want, got = first_logits(exact, doc), first_logits(half, doc)
    batch = half.family.prepare([doc["images"]], [prompt_of(half, doc)])
    positions = positions_of(
        "llava_onevision", batch.inputs["input_ids"][0].tolist(), half.model.config.image_token_id, 3
    )
    with (
        transformers_attention(half.model),
        scaled_by_hand(decoder_layers(half.model)[:4], positions, SCALE, images=3),
        torch.inference_mode(),
    ):
        theirs = half.model(**batch.inputs.to(dtype=torch.bfloat16)).logits[0, -1]
    assert (got - want).abs().max() <= 3 * (theirs - want).abs().max()


@pytest.mark.parametrize("pool", [2, 5])
def test_with_pooled_tokens_the_newline_is_still_the_delimiter(tiny: Path, pool: int) -> None:
    """The newline's state after the first layer is the one that is scaled."""
    model, doc = model_of(tiny, pool=pool, layers="0"), DOCS[2]
    heard: list[Tensor] = []
    layers = decoder_layers(model.model)
    handles = [
        layers[0].register_forward_pre_hook(
            lambda module, args, kwargs: heard.append((args[0] if args else kwargs["hidden_states"])[0]),
            with_kwargs=True,
        ),
        layers[1].register_forward_pre_hook(
            lambda module, args, kwargs: heard.append((args[0] if args else kwargs["hidden_states"])[0]),
            with_kwargs=True,
        ),
    ]
    settings = {"max_new_tokens": 1, "do_sample": False}
    model.reply([doc["images"]], [prompt_of(model, doc)], settings)
    scaled_input = heard[1]
    newline = model.model.model.image_newline
    at = [p for p, state in enumerate(heard[0]) if torch.allclose(state, newline)]
    assert len(at) == 3
    model.engine.intervention = DelimiterScaling(scale=1.0)
    model.reply([doc["images"]], [prompt_of(model, doc)], settings)
    for handle in handles:
        handle.remove()
    moved = (scaled_input != heard[3]).any(dim=1).nonzero().flatten().tolist()
    assert moved == at
    torch.testing.assert_close(scaled_input[at], SCALE * heard[3][at])


def test_lora_adapters_are_scaled_alike(tiny: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlavaOnevisionForConditionalGeneration

    base = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    model, doc = model_of(tiny, peft=str(tmp_path / "adapter")), DOCS[0]
    got = first_logits(model, doc)
    batch = model.family.prepare([doc["images"]], [prompt_of(model, doc)])
    ids = batch.inputs["input_ids"][0].tolist()
    positions = positions_of("llava_onevision", ids, model.model.config.image_token_id, 2)
    inner = model.model.get_base_model()
    with (
        transformers_attention(inner),
        scaled_by_hand(decoder_layers(inner)[:4], positions, SCALE, images=2),
        torch.inference_mode(),
    ):
        want = inner(**batch.inputs).logits[0, -1]
    torch.testing.assert_close(got, want, rtol=0, atol=2e-4 * float(want.abs().max()))
    assert (got - first_logits(model_of(tiny), doc)).abs().max() > 0.1


def test_a_decoder_of_few_layers_is_scaled_in_those_that_it_has(tmp_path: Path) -> None:
    from model_adapters.tiny import make_tiny_llava_onevision

    make_tiny_llava_onevision(tmp_path / "two", layers=2)
    assert model_of(tmp_path / "two").engine.layers == {0, 1}
    assert AdapterOptions.parse({"mask": "delimiters"}).layer_set(24) == {0, 1, 2, 3}


# The record


def test_the_record_has_the_scaled_states_and_the_docs_that_stay(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(model_of(tiny, batch_size=2))
    scaled = 4 * (2 + 3)  # layers x newlines of docs with several images
    assert announced_effects()["edits"] == {
        "docs": 3,
        "docs_unchanged": 1,
        "counts": {"edited_rows": scaled},
    }
    settings = announced_run()
    assert (settings["mask"], settings["layers"], settings["scale"]) == ("delimiters", "0-3", SCALE)
    said = capsys.readouterr().err.splitlines()
    assert "mask=delimiters changed nothing in 1 of 3 docs" in said
    line = (
        f"mask=delimiters multiplied {scaled} hidden states of delimiters (of a token and layer) by {SCALE:g}"
    )
    assert line in said


# Under intervene


@pytest.fixture(scope="module", params=["llava_onevision", "qwen2_vl"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(request.param, tmp_path_factory.mktemp("intervene") / "checkpoint")


def by_hand(loaded: Loaded, scale: float = SCALE) -> Tensor:
    """(B, V): the last logits of each row alone."""
    name, logits = loaded.model.config.model_type, []
    for pictures, prompt in zip(loaded.images, loaded.prompts, strict=True):
        images: Any = [pictures] if loaded.nested else pictures
        inputs = loaded.processor(images=images, text=[prompt], return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        positions = positions_of(name, ids, loaded.model.config.image_token_id, len(pictures))
        layers = decoder_layers(loaded.model)[:4]
        with scaled_by_hand(layers, positions, scale, images=len(pictures)):
            logits.append(last_logits(loaded.model, inputs)[0])
    return torch.stack(logits)


@pytest.mark.parametrize("side", ["right", "left"])
def test_intervene_scales_on_either_side_of_the_padding_and_leaves_the_model_as_it_was(
    loaded: Loaded, side: str
) -> None:
    inputs = loaded.inputs(side)
    plain = last_logits(loaded.model, inputs)
    with mimic_eval.intervene(
        loaded.model, loaded.processor, mask="delimiters", scale=SCALE, record=True
    ) as run:
        got = last_logits(loaded.model, inputs)
        images = [len(layout.images) for layout in run.layouts]
    assert images == [3, 2, 1]
    torch.testing.assert_close(got, by_hand(loaded), rtol=0, atol=1e-4)
    assert (got - plain).abs().amax(dim=1)[:2].min() > 1e-3
    each = 1 if loaded.model.config.model_type == "llava_onevision" else 2
    assert run.record["edits"]["counts"] == {"edited_rows": 4 * each * (3 + 2)}
    assert torch.equal(last_logits(loaded.model, inputs), plain)
    assert not any(layer._forward_hooks for layer in decoder_layers(loaded.model))


def test_generated_tokens_are_not_scaled(loaded: Loaded) -> None:
    """Each is the largest of a prompt that ends before it, whose delimiters alone are scaled."""
    inputs, name = loaded.inputs("left"), loaded.model.config.model_type
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="delimiters", scale=SCALE):
        out = loaded.model.generate(**inputs, max_new_tokens=4, do_sample=False)
    images: Any = loaded.images[:1] if loaded.nested else loaded.images[0]
    alone = loaded.processor(images=images, text=loaded.prompts[:1], return_tensors="pt")
    token, new = loaded.model.config.image_token_id, out[0, inputs["input_ids"].shape[1] :].tolist()
    positions = positions_of(name, alone["input_ids"][0].tolist(), token, 3)
    with scaled_by_hand(decoder_layers(loaded.model)[:4], positions, SCALE, images=3):
        want = [last_logits(loaded.model, grown(alone, new[:t])).argmax() for t in range(4)]
    assert new == want


def test_activation_checkpointing_has_the_same_gradients(loaded: Loaded) -> None:
    inputs, gradients = loaded.inputs("right"), []
    loaded.model.train()
    try:
        for scale, checkpointing in ((SCALE, False), (SCALE, True), (1, False)):
            loaded.model.zero_grad()
            if checkpointing:
                loaded.model.gradient_checkpointing_enable()
            with mimic_eval.intervene(loaded.model, loaded.processor, mask="delimiters", scale=scale):
                loaded.model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
            loaded.model.gradient_checkpointing_disable()
            gradients.append(loaded.model.model.language_model.layers[0].mlp.up_proj.weight.grad.clone())
    finally:
        loaded.model.gradient_checkpointing_disable()
        loaded.model.eval()
        loaded.model.zero_grad()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)
    assert (gradients[0] - gradients[2]).abs().max() > 1e-4


def test_a_prompt_of_one_token_and_its_generated_tokens_stay(loaded: Loaded) -> None:
    ids = torch.tensor([[300]])
    how = {"max_new_tokens": 3, "do_sample": False}
    plain = loaded.model.generate(input_ids=ids, **how)
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="delimiters", scale=SCALE):
        assert torch.equal(loaded.model.generate(input_ids=ids, **how), plain)


def test_a_family_without_delimiters_is_refused_in_one_line(tmp_path: Path) -> None:
    loaded = load("llava", tmp_path / "llava")
    line = r"of a 'llava' checkpoint \(LLaVA\) none are known: choose another mask or model"
    with (
        pytest.raises(UserError, match=line) as error,
        mimic_eval.intervene(loaded.model, loaded.processor, mask="delimiters"),
    ):
        pass
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=line):
        model_class("llava_mask")(pretrained=str(tmp_path / "llava"), mask="delimiters", journal="off")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 0}, "scale must be a number above 0, got '0'$"),
        ({"scale": "big"}, "scale must be a number above 0, got 'big'$"),
        ({"scale": "inf"}, "scale must be a number above 0, got 'inf'$"),
        ({"mask": "block", "scale": 8}, "scale=8 is not used by mask=block"),
    ],
)
def test_a_wrong_argument_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AdapterOptions.parse({"mask": "delimiters", **given})
