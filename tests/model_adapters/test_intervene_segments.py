"""SoFA and knockout by the Python API: roles, padding, LoRA, training, and what does not fit a model."""

from typing import Any

import pytest
import torch

import mimic_eval
from mimic_eval import Query, UserError
from tests.model_adapters.test_intervene import Loaded, last_logits, load

SOFA: dict[str, Any] = {"mask": "sofa", "sigma": 0.7}
CUT: dict[str, Any] = {"mask": "knockout", "edges": "question>image[1]+image>other", "heads": [0, 3]}


@pytest.fixture(scope="module", params=["llava_onevision", "qwen2_vl"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(request.param, tmp_path_factory.mktemp("segments") / "checkpoint")


def under(loaded: Loaded, side: str = "left", model: Any = None, **how: Any) -> torch.Tensor:
    model = loaded.model if model is None else model
    inputs = loaded.inputs(side)
    with mimic_eval.intervene(model, loaded.processor, **how):
        return last_logits(model, inputs)


def queries(loaded: Loaded, targets: list[list[bool]]) -> list[Query]:
    """A Counting doc for each row, about dogs."""
    made = []
    for images, flags in zip(loaded.images, targets, strict=True):
        columns = [
            [{"class": "dog" if flag else "cat", "x": 1, "y": 1, "width": 9, "height": 9, "target": flag,
              "small": False, "crowd": False}] for flag in flags
        ]  # fmt: skip
        doc = {"task": "counting", "targets": ["dog"], "boxes": columns, "question": "How many dogs?"}
        made.append(Query.of_doc(doc, images, name="doc"))
    return made


@pytest.mark.parametrize("how", [SOFA, CUT], ids=["sofa", "knockout"])
def test_padding_on_either_side_gives_the_same_logits(loaded: Loaded, how: dict[str, Any]) -> None:
    plain, left, right = under(loaded, mask="none"), under(loaded, **how), under(loaded, "right", **how)
    bar = 3 * (plain - under(loaded, "right", mask="none")).abs().max().item()  # rounding of the base model
    torch.testing.assert_close(left, right, rtol=0, atol=bar)
    assert ((left - plain).abs().amax(dim=1) > 1e-3).tolist()[:2] == [True, True]


def test_target_images_are_those_of_the_queries(loaded: Loaded) -> None:
    targets = [[False, True, False], [False, True], [False]]
    by_role = under(loaded, mask="knockout", edges="question>image[target]", queries=queries(loaded, targets))
    assert torch.equal(by_role, under(loaded, mask="knockout", edges="question>image[2]"))
    with pytest.raises(
        UserError, match=r"needs the boxes of each row: give queries= with 3 mimic_eval\.Query"
    ):
        under(loaded, mask="knockout", edges="question>image[target]")


@pytest.mark.parametrize("how", [SOFA, CUT], ids=["sofa", "knockout"])
def test_an_adapter_and_a_training_step_have_the_gradients_of_a_written_out_mask(
    loaded: Loaded, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA's, with activation checkpointing; written out, scores are differentiated by autograd alone."""
    from peft import LoraConfig, get_peft_model

    from model_adapters.interventions.biased import Biased

    inputs = loaded.inputs("right")
    wrapped = get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj", "v_proj"], r=2))
    wrapped.train()
    wrapped.enable_input_require_grads()
    gradients = []
    try:
        for written_out in (False, True):
            if written_out:

                def rows(self: Biased, *args: Any, plain: Any, scale: float) -> Any:
                    return self._written_out(*args, scale=scale)

                for kind in Biased.__subclasses__():
                    monkeypatch.setattr(kind, "segments", rows)
                wrapped.gradient_checkpointing_enable()
            wrapped.zero_grad()
            with mimic_eval.intervene(wrapped, loaded.processor, **how):
                wrapped(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
            of_decoder = {
                name: p.grad.clone()
                for name, p in wrapped.named_parameters()
                if "language_model" in name and "lora_B" in name and p.grad is not None
            }
            gradients.append(of_decoder)
    finally:
        wrapped.gradient_checkpointing_disable()
        wrapped.unload()
        loaded.model.eval()
    assert len(gradients[0]) == 12
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"edges": "prefix>image"}, "edges=prefix>image blocks nothing: the decoder is causal"),
        ({"edges": ["image>image", "between>question"]}, "edges=between>question blocks nothing"),
        ({"edges": "image>image", "heads": "0-4"}, "heads must be within 0-3 for 4 heads, got 4"),
        ({"edges": "image>image", "heads": [(9, 0)]}, "within 0-5 for a 6-layer decoder, got L9"),
        ({"edges": "image>image", "heads": [(1, 0)], "layers": "2-5"}, "name layers 1, which are not among"),
        ({"edges": "image>image", "heads": [(1, 2, 3)]}, "heads must be all, 0-3"),
    ],
)
def test_what_a_model_does_not_have_is_one_line(loaded: Loaded, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        under(loaded, mask="knockout", **how)
    assert "\n" not in str(error.value)
