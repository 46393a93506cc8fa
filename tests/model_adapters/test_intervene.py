"""The Python API: an intervention on a model that the user loaded, in batches, training and nested."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import mimic_eval
from mimic_eval import UserError
from model_adapters.engine import Engine
from model_adapters.families.registry import FAMILIES
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.loading import load_family

LAYERS = "3-5"


def random_image(seed: int) -> Image.Image:
    """Of 48 x 60 pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 60, 3), dtype=np.uint8))


class Loaded(NamedTuple):
    """A checkpoint as a user loads it, and one row of pictures and text for each prompt."""

    folder: Path
    model: Any
    processor: Any
    images: list[list[Image.Image]]
    prompts: list[str]
    nested: bool

    def inputs(self, side: str) -> Any:
        """The batch, padded on a side."""
        self.processor.tokenizer.padding_side = side
        images: Any = self.images if self.nested else [image for row in self.images for image in row]
        return self.processor(images=images, text=self.prompts, padding=True, return_tensors="pt")


@pytest.fixture(scope="module", params=["llava_onevision", "qwen2_vl"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(request.param, tmp_path_factory.mktemp("intervene") / "checkpoint")


def load(model_type: str, folder: Path) -> Loaded:
    """A tiny checkpoint of a family, and three prompts."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    family = FAMILIES.get(model_type)
    family.make_tiny(folder)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    counts = [3, 2, 1]
    images = [[random_image(10 * b + m) for m in range(count)] for b, count in enumerate(counts)]
    prompts = []
    for count in counts:
        content = [{"type": "image"}] * count + [{"type": "text", "text": f"how many images? {count * 'x '}"}]
        prompts.append(
            processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        )
    return Loaded(folder, model, processor, images, prompts, family.nested)


def last_logits(model: Any, inputs: Any) -> torch.Tensor:
    """(B, V) at each row's last token, whatever the side of its padding."""
    with torch.inference_mode():
        logits = model(**inputs).logits
    length = inputs["attention_mask"].shape[1]
    last = length - 1 - inputs["attention_mask"].flip(1).argmax(dim=1)
    return logits[torch.arange(len(logits)), last]


def adapter(loaded: Loaded) -> tuple[Any, Any]:
    """Model and family as lmms-eval's adapter loads them."""
    family = FAMILIES.get(loaded.model.config.model_type)
    return load_family(family, str(loaded.folder), dtype=torch.float32, device="cpu", peft=None)


def adapter_logits(loaded: Loaded, layers: frozenset[int]) -> torch.Tensor:
    """What lmms-eval's adapter computes: our loader, padding on the left."""
    model, family = adapter(loaded)
    batch = family.prepare(loaded.images, loaded.prompts)
    with torch.inference_mode(), Engine(BlockMask(), layers).running(model, batch.layouts):
        return model(**batch.inputs).logits[:, -1]


@pytest.mark.parametrize("side", ["right", "left"])
def test_logits_are_those_of_the_adapter_whatever_the_side_of_the_padding(loaded: Loaded, side: str) -> None:
    inputs = loaded.inputs(side)
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers=LAYERS):
        got = last_logits(loaded.model, inputs)
    torch.testing.assert_close(got, adapter_logits(loaded, frozenset({3, 4, 5})), rtol=0, atol=2e-5)


FURTHER = [name for name in FAMILIES.ours if name not in ("llava_onevision", "qwen2_vl", "mantis")]
"""Mantis' checkpoints name a processor that transformers does not have."""


@pytest.mark.parametrize("model_type", FURTHER)
def test_every_family_is_taken(model_type: str, tmp_path: Path) -> None:
    """Right padding through the API is what left padding through the engine gives."""
    loaded = load(model_type, tmp_path / "checkpoint")
    inputs = loaded.inputs("right")
    plain = last_logits(loaded.model, inputs)
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers=LAYERS) as run:
        got = last_logits(loaded.model, inputs)
    assert [len(layout.images) for layout in run.layouts] == [3, 2, 1]
    assert run.layouts == mimic_eval.layout(loaded.processor, inputs)
    left, (model, family) = loaded.inputs("left"), adapter(loaded)
    layouts = family.layouts(left, [3, 2, 1])
    with torch.inference_mode(), Engine(BlockMask(), frozenset({3, 4, 5})).running(model, layouts):
        want = model(**left).logits[:, -1]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
    assert (got - plain).abs().max() > 1e-3


def test_the_model_attends_as_before_when_the_context_is_left(loaded: Loaded) -> None:
    inputs = loaded.inputs("right")
    before = last_logits(loaded.model, inputs)
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers="all"):
        masked = last_logits(loaded.model, inputs)
    assert torch.equal(last_logits(loaded.model, inputs), before)
    assert (masked - before).abs().max() > 1e-3
    with (
        pytest.raises(ZeroDivisionError),
        mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers="all"),
    ):
        raise ZeroDivisionError
    assert torch.equal(last_logits(loaded.model, inputs), before)


def test_none_is_the_model_alone(loaded: Loaded) -> None:
    inputs = loaded.inputs("right")
    before = last_logits(loaded.model, inputs)
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="none"):
        got = last_logits(loaded.model, inputs)
    torch.testing.assert_close(got, before, rtol=0, atol=2e-5)


def test_contexts_nest_and_the_innermost_rules(loaded: Loaded) -> None:
    inputs = loaded.inputs("left")
    plain = last_logits(loaded.model, inputs)
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers="all"):
        outer = last_logits(loaded.model, inputs)
        with mimic_eval.intervene(loaded.model, loaded.processor, mask="none"):
            inner = last_logits(loaded.model, inputs)
        again = last_logits(loaded.model, inputs)
    torch.testing.assert_close(inner, plain, rtol=0, atol=2e-5)
    assert torch.equal(outer, again)
    assert (outer - plain).abs().max() > 1e-3


def test_generated_text_uses_the_cache_and_is_that_of_whole_prompts(loaded: Loaded) -> None:
    """Each token as the argmax of a fresh prompt that ends before it, in a batch and alone."""
    how = {"max_new_tokens": 4, "do_sample": False}
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers=LAYERS) as run:
        out = loaded.model.generate(**loaded.inputs("left"), **how)
        n = run.layouts[0].length
        for b, row in enumerate(loaded.images):
            images: Any = [row] if loaded.nested else row
            inputs = loaded.processor(images=images, text=[loaded.prompts[b]], return_tensors="pt")
            alone = loaded.model.generate(**inputs, **how)[0, inputs["input_ids"].shape[1] :]
            assert out[b, n : n + len(alone)].tolist() == alone.tolist()


def test_several_sequences_of_a_prompt_share_its_layout(loaded: Loaded) -> None:
    how = {"max_new_tokens": 3, "do_sample": False}
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers=LAYERS) as run:
        one = loaded.model.generate(**loaded.inputs("left"), **how)
        beams = loaded.model.generate(**loaded.inputs("left"), num_beams=2, num_return_sequences=2, **how)
        assert len(run.layouts) == 2 * len(one)
    assert len(beams) == 2 * len(one)
    assert "generate" not in vars(loaded.model)


def test_the_layout_of_a_batch_says_where_its_images_are(loaded: Loaded) -> None:
    token = loaded.model.config.image_token_id
    for side in ("left", "right"):
        inputs = loaded.inputs(side)
        layouts = mimic_eval.layout(loaded.processor, inputs)
        for ids, mask, layout, row in zip(
            inputs["input_ids"], inputs["attention_mask"], layouts, loaded.images, strict=True
        ):
            assert len(layout.images) == len(row)
            inside = torch.zeros(len(ids), dtype=torch.bool)
            for image in layout.images:
                inside[image.start : image.end] = True
            assert torch.equal(inside, ids == token)
            assert torch.equal(layout.is_token(torch.device("cpu")), mask.bool())


def test_a_training_step_with_activation_checkpointing_has_the_same_gradients(loaded: Loaded) -> None:
    inputs = loaded.inputs("right")
    gradients = []
    loaded.model.train()
    try:
        for checkpointing in (False, True):
            loaded.model.zero_grad()
            if checkpointing:
                loaded.model.gradient_checkpointing_enable()
            with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers=LAYERS):
                loaded.model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
            gradients.append(loaded.model.model.language_model.layers[4].self_attn.q_proj.weight.grad.clone())
    finally:
        loaded.model.gradient_checkpointing_disable()
        loaded.model.eval()
        loaded.model.zero_grad()
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_a_model_under_peft_is_taken(loaded: Loaded) -> None:
    from peft import LoraConfig, get_peft_model

    inputs = loaded.inputs("right")
    with mimic_eval.intervene(loaded.model, loaded.processor, mask="block", layers=LAYERS):
        want = last_logits(loaded.model, inputs)
    wrapped = get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj"], r=2))  # no change at first
    try:
        with mimic_eval.intervene(wrapped, loaded.processor, mask="block", layers=LAYERS):
            got = last_logits(wrapped, inputs)
    finally:
        wrapped.unload()
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_the_record_of_edits_is_that_of_all_prompts(loaded: Loaded) -> None:
    how: dict[str, Any] = {"mask": "unmask_only", "relevance": "uniform", "allow_no_sinks": True}
    inputs = loaded.inputs("left")
    with (
        pytest.raises(UserError, match="has no calibration of its sinks yet"),
        mimic_eval.intervene(loaded.model, loaded.processor, record=True, **how),
    ):
        pass
    assert loaded.model.config.get_text_config()._attn_implementation == "sdpa"
    with mimic_eval.intervene(loaded.model, loaded.processor) as run:
        last_logits(loaded.model, inputs)
        with pytest.raises(UserError, match="record=True"):
            _ = run.record


def test_dab_edits_the_same_rows_with_padding_on_either_side_and_the_record_says_so(loaded: Loaded) -> None:
    records, outs = [], []
    plain = last_logits(loaded.model, loaded.inputs("left"))
    for side in ("left", "right"):
        how: dict[str, Any] = {"mask": "dab", "alpha": 1.0, "min_visual_share": 0.1, "record": True}
        with mimic_eval.intervene(loaded.model, loaded.processor, **how) as run:
            outs.append(last_logits(loaded.model, loaded.inputs(side)))
            records.append(run.record["edits"])
    torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=1e-4)
    assert (outs[0] - plain)[:2].abs().amax(dim=1).min() > 1e-4
    torch.testing.assert_close(outs[0][2], plain[2], rtol=0, atol=2e-5)  # one image
    assert [record["docs_unchanged"] for record in records] == [1, 1]
    names = ("rows", "edited_rows", "heads", "edited_heads")
    assert [records[0]["counts"][name] for name in names] == [records[1]["counts"][name] for name in names]
    assert records[0]["counts"]["moved_mass"] == pytest.approx(records[1]["counts"]["moved_mass"], rel=1e-4)


def test_var_edits_prompt_and_generated_tokens_of_a_loaded_model(planted: Path, calibrations: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from mimic_eval.cli.checkpoint import embedded_pictures

    model = AutoModelForImageTextToText.from_pretrained(planted, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(planted)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "How many images?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=[embedded_pictures()[:2]], text=[prompt], return_tensors="pt")
    file = next((calibrations / "calibrations").rglob("*.json"))
    how: dict[str, Any] = {"mask": "var", "calibration": str(file), "tau": 6, "layers": "1-3", "record": True}
    with mimic_eval.intervene(model, processor, heads="all", p=0.1, **how) as run:
        model.generate(**inputs, max_new_tokens=3, do_sample=False)
        counts = run.record["edits"]["counts"]
        masked = last_logits(model, inputs)
    with mimic_eval.intervene(model, processor, p=1, **how):
        kept = last_logits(model, inputs)
    with mimic_eval.intervene(model, processor, mask="none"):
        plain = last_logits(model, inputs)
    assert torch.equal(kept, plain)
    assert (masked - plain).abs().max() > 1e-3
    heads, (layout,) = model.config.get_text_config().num_attention_heads, run.layouts
    after = layout.end - layout.images[-1].end
    assert counts["rows"] == 3 * heads * (after + 2)  # the last generated token is not run
    assert counts["generated_rows"] == counts["edited_generated_rows"] == 3 * heads * 2
    assert counts["heads"] == counts["edited_heads"] == 3 * heads


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"mask": "blok"}, "mask 'blok'"),
        ({"layers": "7-9"}, "layers must be within 0-5 for a 6-layer decoder"),
        ({"tau": 3}, "tau=3 is not used by mask=block"),
        ({"pretrained": "x"}, "intervene takes a loaded model"),
        ({"prefix": "maybe"}, "prefix must be true or false"),
        ({"mask": "focus"}, "mask=focus answers a doc in several passes .* run it by the command"),
        ({"mask": "orders", "shifts": 2}, "mask=orders answers a doc in several passes"),
    ],
)
def test_a_wrong_argument_is_one_line(loaded: Loaded, how: dict[str, Any], line: str) -> None:
    with (
        pytest.raises(UserError, match=line) as caught,
        mimic_eval.intervene(loaded.model, loaded.processor, **how),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_call_that_says_nothing_of_images_is_refused(loaded: Loaded) -> None:
    embeddings = torch.zeros(1, 4, loaded.model.config.get_text_config().hidden_size)
    with (
        mimic_eval.intervene(loaded.model, loaded.processor),
        pytest.raises(UserError, match="without input_ids"),
    ):
        loaded.model(inputs_embeds=embeddings)


def test_a_prompt_in_pieces_is_refused(loaded: Loaded) -> None:
    inputs = loaded.inputs("left")
    with mimic_eval.intervene(loaded.model, loaded.processor), torch.inference_mode():
        first = loaded.model(**inputs, use_cache=True)
        with pytest.raises(UserError, match="several pieces"):
            loaded.model(
                input_ids=inputs["input_ids"][:, :3],
                past_key_values=first.past_key_values,
                attention_mask=torch.ones(3, inputs["input_ids"].shape[1] + 3, dtype=torch.long),
            )


def test_layers_may_be_a_list(loaded: Loaded) -> None:
    inputs = loaded.inputs("left")
    with mimic_eval.intervene(loaded.model, loaded.processor, layers=[3, 4, 5]):
        listed = last_logits(loaded.model, inputs)
    with mimic_eval.intervene(loaded.model, loaded.processor, layers=LAYERS):
        assert torch.equal(last_logits(loaded.model, inputs), listed)


def test_generation_without_a_cache_is_refused(loaded: Loaded) -> None:
    with (
        mimic_eval.intervene(loaded.model, loaded.processor, mask="none"),
        pytest.raises(UserError, match=r"^intervene: generate\(use_cache=False\) runs the prompt"),
    ):
        loaded.model.generate(**loaded.inputs("left"), max_new_tokens=3, use_cache=False)


def test_a_type_without_a_family_is_taken_by_evidence_or_refused(tmp_path: Path) -> None:
    """Janus' images are runs of tokens; those of Mistral 3 are cut into rows and look alike."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from model_adapters.tiny.any_type import make_tiny

    content = [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}]
    for kind in ("janus", "mistral3"):
        make_tiny(kind, tmp_path / kind)
        processor = AutoProcessor.from_pretrained(tmp_path / kind)
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / kind, dtype=torch.float32).eval()
        side = processor.tokenizer.padding_side
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        inputs = processor(images=[[random_image(0), random_image(1)]], text=[prompt], return_tensors="pt")
        plain = last_logits(model, inputs)
        if kind == "mistral3":
            with (
                pytest.raises(UserError, match="cannot be told apart by their tokens alone"),
                mimic_eval.intervene(model, processor, layers="all"),
            ):
                pass
        else:
            with mimic_eval.intervene(model, processor, mask="none"):
                torch.testing.assert_close(last_logits(model, inputs), plain, rtol=0, atol=1e-4)
            with mimic_eval.intervene(model, processor, layers="all") as run:
                masked = last_logits(model, inputs)
            assert len(run.layouts[0].images) == 2
            assert (masked - plain).abs().max() > 1e-3
        assert torch.equal(last_logits(model, inputs), plain)
        assert processor.tokenizer.padding_side == side
