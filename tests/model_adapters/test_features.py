"""The vision tower runs once for each image; the decoder gets the same; and work is done ahead in order."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.ahead import ahead, grouped
from model_adapters.answering import Answerer
from model_adapters.engine import Engine
from model_adapters.families import FAMILIES, model_names
from model_adapters.families.base import ImageFeatures
from model_adapters.families.qwen2_vl import Qwen2VL
from model_adapters.features import FeatureCache
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.loading import load_family
from model_adapters.models import LlavaOvMask, model_class
from model_adapters.options import AdapterOptions
from model_adapters.tiny import make_tiny_llava_onevision

GREEDY = {"max_new_tokens": 8, "do_sample": False}


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (50 + 9 * seed, 80, 3), dtype=np.uint8))


SHOWN = [picture(seed) for seed in range(4)]
ROWS = [(0, 1, 2), (2, 0, 1), (3,), (0,), (0, 3), (1, 1)]
"""Which pictures each row shows: again in other orders, alone, and twice in a row."""


def images(rows: list[tuple[int, ...]]) -> list[list[Image.Image]]:
    return [[SHOWN[i] for i in row] for row in rows]


def prompts(model: Any, rows: list[tuple[int, ...]]) -> list[str]:
    return [
        model.family.prompt(
            [
                {
                    "role": "user",
                    "content": [{"type": "image"}] * len(row) + [{"type": "text", "text": "Which?"}],
                }
            ]
        )
        for row in rows
    ]


def answers(model: Any, answerer: Answerer, rows: list[tuple[int, ...]]) -> list[str]:
    return [reply.text for reply in answerer.reply(images(rows), prompts(model, rows), GREEDY)]


@pytest.fixture(scope="module", params=FAMILIES.ours)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    FAMILIES.get(request.param).make_tiny(folder, seed=5)
    return model_class(model_names(request.param)[0])(pretrained=str(folder), mask="block", journal="off")


def test_answers_are_those_without_the_cache(model: Any) -> None:
    plain = Answerer(model.model, model.family, model.engine)
    kept = Answerer(model.model, model.family, model.engine, features=FeatureCache(2**20))
    want = answers(model, plain, ROWS)
    assert len(set(want)) > 3  # or the comparison could not fail
    assert answers(model, kept, ROWS) == want
    assert answers(model, kept, ROWS) == want  # all from the cache
    assert [answers(model, kept, [row])[0] for row in ROWS] == want


def test_each_image_is_encoded_once(model: Any) -> None:
    """A picture alone in its row is another one only where the family shows it otherwise."""
    cache = FeatureCache(2**20)
    answerer = Answerer(model.model, model.family, model.engine, features=cache)
    seen: list[int] = []
    encode = model.family.image_features

    def counted(own: Any, batch: Any, chosen: Any = None) -> Any:
        seen.extend(chosen)
        return encode(own, batch, chosen)

    model.family.image_features = counted
    try:
        for start in range(0, len(ROWS), 2):
            answers(model, answerer, ROWS[start : start + 2])
    finally:
        del model.family.image_features
    different = 6 if model.family.alone_differs else 4  # 3 and 0 alone
    assert len(seen) == cache.encoded == different
    assert cache.reused == sum(map(len, ROWS)) - different


def test_chosen_images_have_the_features_that_they_have_among_all(model: Any) -> None:
    batch = model.family.prepare(images(ROWS), prompts(model, ROWS))
    with torch.inference_mode():
        whole = model.family.image_features(model.model, batch)
        chosen = [7, 2, 0, 6]
        for i, own in zip(chosen, model.family.image_features(model.model, batch, chosen), strict=True):
            assert own.tokens.shape == whole[i].tokens.shape
            assert torch.allclose(own.tokens, whole[i].tokens, atol=1e-5)
    lengths = [span.length for layout in batch.layouts for span in layout.images]
    assert [len(own.tokens) for own in whole] == lengths
    least = min(lengths)
    assert not torch.allclose(whole[0].tokens[:least], whole[1].tokens[:least], atol=1e-3)


def _bytes(features: ImageFeatures) -> int:
    return sum(one.nbytes for one in (features.tokens, *features.deep))


def test_the_cache_never_holds_more_than_it_may(model: Any) -> None:
    (two,) = _batch(model, [(0, 1)])
    most = sum(map(_bytes, model.family.image_features(model.model, two)))
    cache, encoded = FeatureCache(most), []
    for row in ((0, 1), (2, 3), (0, 1), (0, 1)):
        (prepared,) = _batch(model, [row])
        cache.of_batch(model.family, model.model, prepared, [[str(i) for i in row]])
        held = sum(map(_bytes, cache._stored.values()))
        assert held == cache._bytes <= most
        encoded.append(cache.encoded)
    assert encoded[:2] == [2, 4]
    assert encoded[3] == encoded[2]  # the last used are kept
    nothing = FeatureCache(0)
    assert len(nothing.of_batch(model.family, model.model, two, [["0", "1"]])) == 2
    assert not nothing._stored


class DeepQwen(Qwen2VL):
    """Qwen3-VL as a family for a test: image features enter several decoder layers (DeepStack)."""

    model_type = "qwen3_vl"
    name = "Qwen3-VL"

    @staticmethod
    def model_class() -> Any:
        from transformers import Qwen3VLForConditionalGeneration

        return Qwen3VLForConditionalGeneration

    def image_features(self, model: Any, batch: Any, chosen: Any = None) -> list[ImageFeatures]:
        pixels, grids = batch.inputs["pixel_values"], batch.inputs["image_grid_thw"]
        if chosen is not None:
            patches = pixels.split(grids.prod(dim=1).tolist())
            pixels, grids = torch.cat([patches[i] for i in chosen]), grids[list(chosen)]
        made = model.get_image_features(pixels, grids, return_dict=True)
        return [
            ImageFeatures(*own)
            for own in zip(made.pooler_output, zip(*made.deepstack_features, strict=True), strict=True)
        ]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model, its family and an engine."""
    from model_adapters.tiny import make_tiny_qwen3_vl

    folder = tmp_path_factory.mktemp("deep") / "model"
    make_tiny_qwen3_vl(folder, seed=5)
    model, family = load_family(DeepQwen, str(folder), dtype=torch.float32, device="cpu", peft=None)
    return SimpleNamespace(model=model, family=family, engine=Engine(BlockMask(), frozenset({2, 3})))


def test_the_cache_keeps_the_further_maps_of_deepstack(deep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Answerer(deep.model, deep.family, deep.engine)
    cache = FeatureCache(2**20)
    cached = Answerer(deep.model, deep.family, deep.engine, features=cache)
    want = answers(deep, plain, ROWS)
    assert len(set(want)) > 2
    assert answers(deep, cached, ROWS) == answers(deep, cached, ROWS) == want
    assert cache.reused > 0
    (maps,) = {len(own.deep) for own in cache._stored.values()}
    assert maps > 0
    with monkeypatch.context() as patch:  # what the hand scatter of tokens alone gave
        patch.setattr(ImageFeatures, "deep", property(lambda own: [torch.zeros_like(own[0])] * maps))
        assert answers(deep, cached, ROWS) != want


def test_deepstack_is_not_pooled(deep: Any) -> None:
    with pytest.raises(UserError, match=r"pool=2: Qwen3-VL adds image features in several layers"):
        answers(deep, Answerer(deep.model, deep.family, deep.engine, pool=2), ROWS[:1])


def test_a_class_that_takes_no_features_encodes_its_pixels(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_adapters.answering.takes_features", lambda own: False)
    answerer = Answerer(model.model, model.family, model.engine, features=FeatureCache(2**20))
    assert answerer.features is None
    assert answers(model, answerer, ROWS[:2]) == answers(
        model, Answerer(model.model, model.family, model.engine), ROWS[:2]
    )


def _batch(model: Any, rows: list[tuple[int, ...]]) -> tuple[Any]:
    return (model.family.prepare(images(rows), prompts(model, rows)),)


def test_the_option_is_a_size_or_off() -> None:
    assert AdapterOptions.parse({}).general.feature_cache == 2048
    assert AdapterOptions.parse({"feature_cache": "off"}).general.feature_cache == 0
    assert AdapterOptions.parse({"feature_cache": "64"}).general.feature_cache == 64
    with pytest.raises(UserError, match="feature_cache must be"):
        AdapterOptions.parse({"feature_cache": "2GB"})


def test_the_option_reaches_the_model(tmp_path: Path) -> None:
    make_tiny_llava_onevision(tmp_path / "tiny")
    for given, most in (("off", None), (3, 3 * 2**20)):
        answerer = LlavaOvMask(pretrained=str(tmp_path / "tiny"), journal="off", feature_cache=given).answerer
        assert (answerer.features and answerer.features.most_bytes) == most


def test_work_is_begun_ahead_and_handed_out_in_order() -> None:
    begun: list[int] = []
    caller = threading.get_ident()

    def call(item: int) -> int:
        assert threading.get_ident() != caller
        begun.append(item)
        return item * item

    def items() -> Any:
        yield from range(6)

    with ThreadPoolExecutor(1) as thread:
        for item, future in ahead(thread, call, items(), most=lambda: 2):
            assert future.result() == item * item
            assert len(begun) <= item + 3
    assert begun == list(range(6))


def test_what_came_before_a_failure_is_handed_out_before_it() -> None:
    def items() -> Any:
        yield from (1, 2)
        raise UserError("no third")

    found: list[int] = []

    def take(thread: ThreadPoolExecutor) -> None:
        for _, future in ahead(thread, lambda item: item, items(), most=lambda: 5):
            found.append(future.result())

    with ThreadPoolExecutor(1) as thread, pytest.raises(UserError, match="no third"):
        take(thread)
    assert found == [1, 2]


def test_a_failure_of_the_call_waits_for_its_turn() -> None:
    found = []
    with ThreadPoolExecutor(1) as thread:
        for item, future in ahead(thread, lambda item: 6 // item, (3, 0, 2), most=lambda: 3):
            if item:
                found.append(future.result())
            else:
                with pytest.raises(ZeroDivisionError):
                    future.result()
    assert found == [2, 3]


def test_groups_follow_a_size_that_changes() -> None:
    sizes = iter([3, 3, 3, 2, 2, 1])
    assert list(grouped(range(6), size=lambda: next(sizes))) == [[0, 1, 2], [3, 4], [5]]
    assert list(grouped([], size=lambda: 2)) == []
