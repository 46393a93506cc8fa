"""`mask=orders`: against a hand loop, and the same answer for every cyclic shift of every doc."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mimic_eval.records import UserError, announced_effects, announced_run
from model_adapters.families import FAMILIES, model_names
from model_adapters.interventions.orders.kernel import OrderPasses, Orders
from model_adapters.interventions.orders.reference import mean_logits, shifted
from model_adapters.models import LlavaOvMask, model_class
from model_adapters.options import AdapterOptions
from model_adapters.passes import PassInput
from model_adapters.picture import as_pictures
from tests.model_adapters.test_focus import DOCS, STEPS, picture, prompt_of
from tests.model_adapters.test_resume import answers as answers_to
from tests.oracles.passes import greedy_by_hand, transformers_attention

pytestmark = pytest.mark.slow


def model_of(pretrained: Path | str, **arguments: Any) -> LlavaOvMask:
    return LlavaOvMask(**{"pretrained": str(pretrained), "mask": "orders", "journal": "off"} | arguments)


def answers(model: LlavaOvMask, docs: Sequence[dict[str, Any]] = DOCS) -> list[str]:
    return answers_to(model, list(docs), max_new_tokens=STEPS)


def turned(doc: dict[str, Any], start: int) -> dict[str, Any]:
    return {**doc, "images": doc["images"][start:] + doc["images"][:start]}


@pytest.mark.parametrize("shifts", [None, 2])
def test_answers_are_those_of_a_hand_loop_in_batches_and_alone(tiny: Path, shifts: int | None) -> None:
    model, want = model_of(tiny, shifts=shifts), []
    with transformers_attention(model.model):
        for doc in DOCS:
            passes = [[doc["images"][i] for i in order] for order in shifted(len(doc["images"]), shifts)]
            tokens = greedy_by_hand(
                model.model, model.family, passes, prompt_of(model, doc), mean_logits, steps=STEPS
            )
            want.append(model.family.processor.tokenizer.decode(tokens, skip_special_tokens=True))
    assert answers(model) == want
    assert want[2] != answers(model_of(tiny, mask="none"))[2]  # or it could not fail
    model.batch_size = 8
    assert answers(model) == want


@pytest.mark.parametrize("checkpoint", ["tiny", "embedded"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_with_all_shifts_every_cyclic_shift_of_a_doc_has_the_same_answer(
    tiny: Path, checkpoint: str, dtype: str
) -> None:
    """Also in half precision: the passes are the same ones in the same order."""
    pretrained = "embedded:llava_onevision" if checkpoint == "embedded" else tiny
    model = model_of(pretrained, dtype=dtype, batch_size=9)
    docs = [
        {"images": [picture(7 * n + m) for m in range(n)], "question": f"How many of {n}?"} for n in (2, 3, 4)
    ]
    shown = [turned(doc, start) for doc in docs for start in range(len(doc["images"]))]
    found = answers(model, shown)
    for doc in docs:
        of_doc = {text for text, own in zip(found, shown, strict=True) if own["question"] == doc["question"]}
        assert len(of_doc) == 1
    if checkpoint == "tiny":
        assert (
            len(set(answers(model_of(tiny, mask="none", dtype=dtype), shown))) > 6
        )  # the base model's depend


def test_the_mean_itself_does_not_depend_on_a_cyclic_shift(tiny: Path) -> None:
    """In float64, of passes in the order in which a shifted doc gives them, by the definition."""
    model = model_of(tiny)
    model.model.double()
    doc, means = DOCS[2], []
    for start in range(3):
        images = turned(doc, start)["images"]
        passes = []
        for order in shifted(3):
            batch = model.family.prepare([[images[i] for i in order]], [prompt_of(model, doc)])
            with torch.inference_mode(), model.engine.running(model.model, batch.layouts):
                passes.append(model.model(**batch.inputs.to(torch.float64)).logits[0, -1])
        means.append(mean_logits(passes))
    for mean in means[1:]:
        torch.testing.assert_close(mean, means[0], rtol=0, atol=1e-12)
    assert (passes[0] - passes[1]).abs().max() > 0.1


def test_a_number_of_shifts_is_spread_evenly_from_the_docs_order_on() -> None:
    doc = PassInput(as_pictures([picture(m) for m in range(5)]), "?")
    for shifts in (1, 2, 3, 5, 9, None):
        passes = OrderPasses(shifts).expand(doc)
        orders = [[doc.pictures.index(own) for own in row.pictures] for row in passes]
        want = shifted(5, shifts)
        if len(want) == 5:
            assert sorted(orders) == sorted(want)
            again = OrderPasses(shifts).expand(replace(doc, pictures=doc.pictures[2:] + doc.pictures[:2]))
            assert [row.pictures for row in again] == [row.pictures for row in passes]
        else:
            assert orders == want
    assert [order[0] for order in shifted(5, 3)] == [0, 1, 3]
    assert OrderPasses(1).expand(doc) == (doc,)
    one = replace(doc, pictures=doc.pictures[:1])
    assert OrderPasses(None).expand(one) == (one,)


def test_each_picture_of_a_doc_is_encoded_once_and_the_passes_are_in_the_record(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(tiny)
    answers(model)
    cache = model.answerer.features
    assert cache is not None
    assert cache.encoded == 2 + 1 + 3
    assert announced_effects() == {
        "passes": {"docs": 3, "docs_in_one_pass": 1, "most": 3, "passes": 6, "pictures": 6}
    }
    assert announced_run()["shifts"] == "all"
    assert (
        "mask=orders answered 3 docs in 6 passes, 3 at most for one doc, which show 6 different pictures; "
        "docs of one pass, as with mask=none: 1"
    ) in capsys.readouterr().err.splitlines()


def test_orders_go_with_an_order_of_the_run(tiny: Path) -> None:
    """Reversed is a cyclic shift of two images, and of three it is not."""
    plain, reverse = answers(model_of(tiny)), answers(model_of(tiny, order="reversed"))
    assert plain[:2] == reverse[:2]
    two = model_of(tiny, shifts=2, order="reversed")
    docs = [{**DOCS[2], "images": DOCS[2]["images"][::-1]}]
    assert answers(two, DOCS[2:]) == answers(model_of(tiny, shifts=2), docs)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_pooled_tokens_of_several_passes_are_those_without_cached_features(
    tiny: Path, family: str, tmp_path: Path
) -> None:
    """Qwen's pooled tokens have places of their own, from the grids of each pass."""
    folder = tiny
    if family == "qwen2_vl":
        folder = tmp_path / family
        FAMILIES.get(family).make_tiny(folder, seed=3)
    model = model_class(model_names(family)[0])
    how = {"pretrained": str(folder), "mask": "orders", "journal": "off", "pool": 2, "batch_size": 6}
    cached, bare = answers(model(**how)), answers(model(**how, feature_cache="off"))  # type: ignore[arg-type]
    assert cached == bare


@pytest.mark.parametrize("value", ["0", "-1", "some", "1.5", "", "²"])
def test_shifts_are_all_or_a_number(value: str) -> None:
    with pytest.raises(UserError, match="shifts must be all or an integer of at least 1, got '"):
        AdapterOptions.parse({"mask": "orders", "shifts": value})


def test_shifts_reach_the_intervention() -> None:
    for given, want in (
        ({}, "all"),
        ({"shifts": "all"}, "all"),
        ({"shifts": 3}, "3"),
        ({"shifts": "3"}, "3"),
    ):
        made = AdapterOptions.parse({"mask": "orders", **given}).intervention()
        assert isinstance(made, Orders)
        assert made.settings() == {"shifts": want}
