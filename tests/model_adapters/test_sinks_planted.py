"""Sinks planted in checkpoints are found again, and calibration is of all docs' states."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimic_eval.records import UserError
from model_adapters import families
from model_adapters.engine import decoder_layers
from model_adapters.layout import Layout
from model_adapters.loading import load_family
from model_adapters.sinks import (
    Calibration,
    CorpusDoc,
    FindSinks,
    calibrate,
    visual_tokens,
)
from model_adapters.sinks.inputs import visit_inputs
from model_adapters.sinks.planted import PlantedSinks, make_planted_checkpoint, plant_sinks, probe_pictures
from tests.makers.calibrations import made

pytestmark = pytest.mark.slow
FAMILIES = {name: families.FAMILIES.get(name) for name in ("llava_onevision", "qwen2_vl", "internvl")}
LAYER, DIMENSION = 2, 7


@dataclass
class Planted:
    """A planted checkpoint on disk."""

    family: str
    path: Path
    sinks: PlantedSinks

    def load(self, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
        return load_family(FAMILIES[self.family], str(self.path), dtype=dtype, device="cpu", peft=None)


@pytest.fixture(scope="module", params=FAMILIES)
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    out = tmp_path_factory.mktemp("planted") / request.param
    sinks = make_planted_checkpoint(request.param, out, dimensions=(DIMENSION,), layer=LAYER, layers=4)
    return Planted(request.param, out, sinks)


@pytest.fixture(scope="module")
def planted_llava(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    out = tmp_path_factory.mktemp("planted") / "llava"
    return Planted(
        "llava_onevision", out, make_planted_checkpoint("llava_onevision", out, layer=LAYER, layers=3)
    )


def corpus(family: Any, *counts: int, first: int = 100) -> list[CorpusDoc]:
    docs = []
    for number, count in enumerate(counts):
        content = [{"type": "image"}] * count + [
            {"type": "text", "text": f"How many things {'x ' * number}?"}
        ]
        prompt = family.prompt([{"role": "user", "content": content}])
        docs.append(CorpusDoc(probe_pictures(first + number, count=count), prompt, f"doc{number}"))
    return docs


def measured(model: Any, family: Any, docs: list[CorpusDoc], **options: Any) -> Calibration:
    return calibrate(model, family, docs, source="made", seed=0, checkpoint="made", **options)


def inputs_of(
    model: Any, family: Any, docs: list[CorpusDoc]
) -> tuple[list[torch.Tensor], tuple[Layout, ...]]:
    """Every layer's input for a batch of docs, kept: small data only."""
    batch = family.prepare([doc.images for doc in docs], [doc.prompt for doc in docs])
    seen: list[torch.Tensor] = []
    visit_inputs(model, family, batch, lambda layer, hidden: seen.append(hidden.clone()))
    return seen, batch.layouts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_calibrate_finds_exactly_the_planted_dimension_and_the_finder_its_tokens(
    planted: Planted, dtype: torch.dtype
) -> None:
    model, family = planted.load(dtype)
    docs = corpus(family, 3, 2, 4, 3)
    found = measured(model, family, docs)
    assert [own.index for own in found.dimensions] == [DIMENSION]
    assert found.dimensions[0].layer >= LAYER
    inputs, layouts = inputs_of(model, family, docs)
    visual = visual_tokens(layouts).numpy()
    finder = FindSinks(found)
    for layer, hidden in enumerate(inputs):
        x = hidden.double().numpy()
        ratio = np.zeros(visual.shape)  # padding may be 0
        ratio[visual] = np.abs(x[visual][:, DIMENSION]) / np.sqrt((x[visual] ** 2).mean(-1))
        sinks = finder(hidden, layouts, layer).numpy()
        np.testing.assert_array_equal(sinks, ratio > 20)
        if layer < LAYER:
            assert not sinks.any()
        else:
            assert 0 < sinks.sum() < 0.5 * visual.sum()


def test_planted_tokens_are_those_that_the_planted_unit_changes(planted: Planted) -> None:
    model, family = planted.load()
    docs = corpus(family, 4, 4, 4)
    with_sinks, layouts = inputs_of(model, family, docs)
    decoder_layers(model)[LAYER - 1].mlp.down_proj.weight.data[:, 0] = 0
    without, _ = inputs_of(model, family, docs)
    median = float(without[LAYER].abs().median())
    change = (with_sinks[LAYER] - without[LAYER])[..., DIMENSION].abs() / median
    sinks = FindSinks(made(dims=(DIMENSION,), width=512))(with_sinks[LAYER], layouts, LAYER)
    visual = visual_tokens(layouts)
    assert sinks.any()
    assert bool((change[sinks] > 20).all())
    assert bool(sinks[visual & (change > 100)].all())
    assert torch.equal(with_sinks[LAYER - 1], without[LAYER - 1])


def test_planting_is_deterministic(planted_llava: Planted, tmp_path: Path) -> None:
    again = make_planted_checkpoint("llava_onevision", tmp_path / "again", layer=LAYER, layers=3)
    assert again == planted_llava.sinks
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (planted_llava.path / name).read_bytes()


def test_two_dimensions_are_planted_and_found(tmp_path: Path) -> None:
    sinks = make_planted_checkpoint("qwen2_vl", tmp_path / "q", dimensions=(300, 2), layers=3)
    model, family = Planted("qwen2_vl", tmp_path / "q", sinks).load()
    docs = corpus(family, 3, 3)
    found = measured(model, family, docs)
    assert [own.index for own in found.dimensions] == [2, 300]
    inputs, layouts = inputs_of(model, family, docs)
    assert FindSinks(found, tau=15)(inputs[1], layouts, 1).any()
    assert not FindSinks(found, tau=16.1)(inputs[1], layouts, 1).any()  # at most sqrt(512 / 2) = 16


def test_planting_refuses_what_it_cannot_do(planted_llava: Planted, tmp_path: Path) -> None:
    model, family = planted_llava.load()
    with pytest.raises(ValueError, match="`layer` must be within 1-2, got 3"):
        plant_sinks(model, family, layer=3)
    with pytest.raises(ValueError, match=r"`dimensions` must be within 0-511, got \[512\]"):
        plant_sinks(model, family, dimensions=(512,))
    with pytest.raises(ValueError, match="`share` must be above 0 and below 1, got 1"):
        plant_sinks(model, family, share=1)
    with pytest.raises(
        UserError, match=r"Unknown family 'llava_onevison'\. Did you mean 'llava_onevision'\?"
    ):
        make_planted_checkpoint("llava_onevison", tmp_path / "x")


def test_calibration_equals_the_statistics_of_all_states_kept(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    docs = corpus(family, 3, 1, 2)
    found = measured(model, family, docs)
    depth, visual, everything = 3, [], [[] for _ in range(3)]
    for doc in docs:
        inputs, (layout,) = inputs_of(model, family, [doc])
        mask = visual_tokens([layout])[0]
        visual += [hidden[0, mask].double().numpy() for hidden in inputs]
        for layer, hidden in enumerate(inputs):
            everything[layer].append(np.abs(hidden[0].numpy()))
    x = np.concatenate(visual)
    (own,) = found.dimensions
    mu, sigma = x[:, own.index].mean(), x[:, own.index].std()
    assert own.mu == pytest.approx(mu, rel=1e-10)
    assert own.sigma == pytest.approx(sigma, rel=1e-10)
    flagged = (np.abs(x[:, own.index]) / np.sqrt((x**2).mean(-1)) > 20).sum()
    assert found.flagged == flagged > 1
    assert found.tau == pytest.approx(np.sort((x[:, own.index] - mu) / sigma)[-flagged], rel=1e-9)
    for layer in range(depth):
        kept = np.concatenate(everything[layer])
        assert found.layers[layer].largest == kept.max()
        assert found.layers[layer].dimension == kept.max(0).argmax()
        assert found.layers[layer].median == pytest.approx(np.median(kept), rel=2**-7)
    sizes = [np.concatenate(part) for part in everything]
    largest = np.stack([part.max(0) for part in sizes])
    multiples = largest / np.array([[layer.median] for layer in found.layers])
    every = measured(model, family, docs, min_magnitude=0, min_ratio=0).dimensions
    assert [one.layer for one in every] == multiples.argmax(0).tolist()
    assert [one.largest for one in every] == largest[multiples.argmax(0), np.arange(512)].tolist()
    assert own == every[own.index]
    assert len({one.layer for one in every}) > 1
    assert found.corpus.visual_tokens * depth == len(x)
    assert found.corpus.tokens == sum(len(part) for part in everything[0])
    assert (found.corpus.docs, found.corpus.images) == (3, 6)


@pytest.mark.parametrize("ratio_tau", [20.0, 15.0, 1.0])
def test_z_flags_as_many_tokens_of_the_corpus_as_the_ratio_does(
    planted_llava: Planted, ratio_tau: float
) -> None:
    """METHODS 6. The 99.9 % quantile flagged 0.1 % whatever the model, and AR was then nearly `none`."""
    model, family = planted_llava.load()
    docs = corpus(family, 4, 4, 4, 4)
    found = measured(model, family, docs, ratio_tau=ratio_tau)
    finders = FindSinks(found, score="z"), FindSinks(found, score="ratio", tau=ratio_tau)
    counts, total = [0, 0], 0
    for doc in docs:
        inputs, layouts = inputs_of(model, family, [doc])
        for layer, hidden in enumerate(inputs):
            for i, finder in enumerate(finders):
                counts[i] += int(finder(hidden, layouts, layer).sum())
        total += len(inputs) * int(visual_tokens(layouts).sum())
    assert counts[0] == counts[1] == found.flagged
    assert 0.01 * total < found.flagged < total
    assert found.ratio_tau == ratio_tau


def test_where_the_ratio_flags_nothing_z_flags_nothing(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    docs = corpus(family, 3, 2)
    found = measured(model, family, docs, ratio_tau=1000.0)
    assert found.flagged == 0
    finder = FindSinks(found, score="z")
    for doc in docs:
        inputs, layouts = inputs_of(model, family, [doc])
        assert not any(bool(finder(hidden, layouts, layer).any()) for layer, hidden in enumerate(inputs))


def test_a_padded_batch_has_the_sinks_of_its_docs_alone(planted: Planted) -> None:
    model, family = planted.load()
    docs = corpus(family, 1, 4, 2)
    finder = FindSinks(made(dims=(DIMENSION,), width=512))
    inputs, layouts = inputs_of(model, family, docs)
    assert len({layout.padding for layout in layouts}) == 3
    total = 0
    for row, doc in enumerate(docs):
        alone, own = inputs_of(model, family, [doc])
        for layer in range(len(inputs)):
            together = finder(inputs[layer], layouts, layer)[row]
            assert torch.equal(together[layouts[row].padding :], finder(alone[layer], own, layer)[0])
            assert not together[: layouts[row].padding].any()
            total += int(together.sum())
    assert total > 0


def test_calibrate_keeps_no_hidden_state_and_at_most_one_doc(planted_llava: Planted) -> None:
    """When the next doc is asked for, the states of the last are gone and its inputs are the only ones."""
    model, family = planted_llava.load()
    docs = corpus(family, 2, 2, 2)
    states: list[weakref.ref[torch.Tensor]] = []
    inputs: list[weakref.ref[Any]] = []
    alive: list[tuple[int, int]] = []
    for layer in decoder_layers(model):
        layer.register_forward_pre_hook(
            lambda module, args, kwargs: states.append(weakref.ref(args[0])), with_kwargs=True
        )
    prepare = family.prepare

    def watched_prepare(*arguments: Any) -> Any:
        batch = prepare(*arguments)
        inputs.append(weakref.ref(batch.inputs))
        return batch

    family.prepare = watched_prepare

    class Watched(list[CorpusDoc]):
        def __iter__(self) -> Iterator[CorpusDoc]:
            for number in range(len(self)):
                gc.collect()
                alive.append((sum(r() is not None for r in states), sum(r() is not None for r in inputs)))
                yield self[number]

    measured(model, family, Watched(docs))
    assert len(states) == 3 * 3 * 3  # passes, docs, layers
    assert alive == [(0, 0), (0, 1), (0, 1)] * 3


def test_thresholds_are_options_and_both_must_be_passed(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    docs = corpus(family, 3, 3)
    usual = measured(model, family, docs)
    (own,) = usual.dimensions
    assert measured(model, family, docs, min_magnitude=own.largest).dimensions == ()
    assert measured(model, family, docs, min_ratio=1e9).dimensions == ()
    none = measured(model, family, docs, min_ratio=1e9)
    assert none.tau is None
    assert none.layers == usual.layers
    loose = measured(model, family, docs, min_magnitude=0, min_ratio=0)
    assert len(loose.dimensions) == 512


def test_calibration_is_the_same_each_time(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    docs = corpus(family, 2, 3)
    assert measured(model, family, docs) == measured(model, family, docs)
    other = replace(measured(model, family, docs[::-1]).corpus, digest="")
    assert other == replace(measured(model, family, docs).corpus, digest="")
    assert measured(model, family, docs[::-1]).corpus.digest != measured(model, family, docs).corpus.digest


def test_states_that_overflow_are_refused_with_what_to_do(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    decoder_layers(model)[0].mlp.down_proj.weight.data[3] = float("inf")
    with pytest.raises(
        UserError, match="the input of layer 1 is not finite on doc 1 in float32: run in bfloat16"
    ):
        measured(model, family, corpus(family, 1))


def test_no_docs_and_no_images_are_refused(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    with pytest.raises(UserError, match="there are no docs to calibrate on"):
        measured(model, family, [])
    text = family.prompt([{"role": "user", "content": [{"type": "text", "text": "How many?"}]}])
    with pytest.raises(UserError, match="the docs to calibrate on show no images"):
        measured(model, family, [CorpusDoc([], text, "t")])


def test_decoder_layers_are_found_under_peft_too(planted: Planted) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = planted.load()
    layers = decoder_layers(model)
    assert [layer.self_attn.layer_idx for layer in layers] == [0, 1, 2, 3]
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    assert decoder_layers(wrapped) == layers


def test_a_visit_leaves_no_hook_behind_even_when_it_fails(planted_llava: Planted) -> None:
    model, family = planted_llava.load()
    (doc,) = corpus(family, 1)
    batch = family.prepare([doc.images], [doc.prompt])

    def fail(layer: int, hidden: torch.Tensor) -> None:
        raise KeyError(layer)

    with pytest.raises(KeyError):
        visit_inputs(model, family, batch, fail)
    assert not any(layer._forward_pre_hooks for layer in decoder_layers(model))
