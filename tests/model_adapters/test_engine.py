"""The engine: checkpointing in another thread, right padding, observers, modules beside the decoder."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from model_adapters.engine import IMPLEMENTATION, Engine, Observer, attach
from model_adapters.families.llava_onevision import LlavaOnevision
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.layout import Layout, Span
from model_adapters.loading import load_family


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    loaded, _ = load_family(LlavaOnevision, str(tiny), dtype=torch.float64, device="cpu", peft=None)
    return loaded


LEFT = (Layout(12, 2, (Span(3, 6), Span(7, 10))), Layout(12, 0, (Span(1, 5), Span(5, 9))))
RIGHT = (Layout(12, 0, (Span(1, 4), Span(5, 8)), 2), LEFT[1])


def inputs_of(model: Any, layouts: tuple[Layout, ...]) -> dict[str, torch.Tensor]:
    """The same embedded tokens for each row, wherever its padding is."""
    width, n = model.config.get_text_config().hidden_size, layouts[0].length
    tokens = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embeds, attended = torch.zeros_like(tokens), torch.zeros(2, n, dtype=torch.long)
    positions = torch.zeros(2, n, dtype=torch.long)
    for b, layout in enumerate(layouts):
        size = layout.end - layout.padding
        embeds[b, layout.tokens], attended[b, layout.tokens] = tokens[b, :size], 1
        positions[b, layout.tokens] = torch.arange(size)
    return {"inputs_embeds": embeds, "attention_mask": attended, "position_ids": positions}


def states(model: Any, layouts: tuple[Layout, ...], engine: Engine) -> torch.Tensor:
    decoder = model.get_decoder()
    with engine.running(model, layouts):
        return torch.as_tensor(decoder(**inputs_of(model, layouts), use_cache=False).last_hidden_state)


@pytest.mark.parametrize("layers", [frozenset[int](), frozenset({1, 3})])
def test_padding_on_the_right_gives_the_same_states_as_on_the_left(
    model: Any, layers: frozenset[int]
) -> None:
    engine = Engine(BlockMask(), layers)
    with torch.inference_mode():
        left, right = states(model, LEFT, engine), states(model, RIGHT, engine)
    for b in range(2):
        torch.testing.assert_close(right[b, RIGHT[b].tokens], left[b, LEFT[b].tokens], rtol=0, atol=1e-12)


def gradients(model: Any, engine: Engine, *, other_thread: bool) -> list[torch.Tensor]:
    model.zero_grad()
    decoder = model.get_decoder()
    with engine.running(model, RIGHT):
        inputs = inputs_of(model, RIGHT)
        inputs["inputs_embeds"].requires_grad_()
        loss = decoder(**inputs, use_cache=False).last_hidden_state.square().mean()
        if other_thread:  # as autograd does on CUDA
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        else:
            loss.backward()
    return [p.grad.clone() for p in decoder.parameters() if p.grad is not None]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_in_another_thread_gives_the_same_gradients(model: Any, reentrant: bool) -> None:
    """Layouts in a context variable gave 'called outside of Engine.running' in the backward pass."""
    engine = Engine(BlockMask(), frozenset({2, 3}))
    plain = gradients(model, engine, other_thread=False)
    unmasked = gradients(model, Engine(NoIntervention(), frozenset()), other_thread=False)
    model.train()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    calls = []
    real = BlockMask.prefill

    def counted(self: BlockMask, *args: Any, **options: Any) -> Any:
        calls.append(threading.current_thread())
        return real(self, *args, **options)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockMask, "prefill", counted)
            got = gradients(model, engine, other_thread=True)
    finally:
        model.activation_checkpointing_disable()
        model.eval()
    assert len(calls) == 4  # two layers, each computed again
    assert len(set(calls)) == 2
    assert len(plain) == len(got) > 0
    for one, other in zip(got, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)
    assert any(not torch.allclose(one, other) for one, other in zip(got, unmasked, strict=True))


class Seen(Observer):
    """An observer that notes what it gets."""

    def __init__(self, layers: frozenset[int]) -> None:
        self.layers = layers
        self.calls: list[tuple[int, tuple[Layout, ...], tuple[int, ...]]] = []
        self.masks: list[str] = []

    def observe(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        view: LayerView,
        attending: Intervention,
        *,
        scale: float,
    ) -> None:
        self.calls.append((view.layer, view.layouts, tuple(query.shape)))
        self.masks.append(attending.name)


def test_an_observer_sees_its_layers_under_any_mask_and_changes_nothing(model: Any) -> None:
    seen = Seen(frozenset({0, 3}))
    with torch.inference_mode():
        plain = states(model, LEFT, Engine(BlockMask(), frozenset({3})))
        watched = states(model, LEFT, Engine(BlockMask(), frozenset({3}), observers=(seen,)))
    assert torch.equal(plain, watched)
    assert [(layer, layouts) for layer, layouts, _ in seen.calls] == [(0, LEFT), (3, LEFT)]
    assert {shape[0::2] for _, _, shape in seen.calls} == {(2, 12)}
    assert seen.masks == ["none", "block"]


def test_a_vision_tower_with_our_attention_name_goes_back_to_sdpa(tiny: Path) -> None:
    loaded, _ = load_family(LlavaOnevision, str(tiny), dtype=torch.float64, device="cpu", peft=None)
    pixels = torch.randn(1, 3, 48, 48, dtype=torch.float64)
    size = loaded.config.vision_config.image_size
    pixels = torch.nn.functional.interpolate(pixels, (size, size))
    before = loaded.model.vision_tower(pixels).last_hidden_state
    loaded.model.vision_tower.set_attn_implementation(IMPLEMENTATION)
    attach(loaded)
    assert loaded.model.vision_tower.config._attn_implementation == "sdpa"
    assert loaded.get_decoder().config._attn_implementation == IMPLEMENTATION
    torch.testing.assert_close(loaded.model.vision_tower(pixels).last_hidden_state, before, rtol=0, atol=0)


def test_outside_of_a_run_the_model_says_so(model: Any) -> None:
    with pytest.raises(RuntimeError, match=r"called outside of Engine\.running"):
        model.get_decoder()(**inputs_of(model, LEFT), use_cache=False)
