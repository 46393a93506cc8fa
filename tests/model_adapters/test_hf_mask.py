"""`hf_mask`: what it establishes of a model, what it refuses, and that it agrees with the named families."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.answering import Answerer
from model_adapters.assembly import delimiters_of, relevance_source
from model_adapters.engine import Engine
from model_adapters.families import FAMILIES
from model_adapters.hf import HfFamily
from model_adapters.hf import base_masks as masks
from model_adapters.hf.calls import GRIDS, SHARINGS, Row
from model_adapters.hf.checks import messages
from model_adapters.hf.evidence import painted, pictures
from model_adapters.interventions.base import Intervention
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.dab.kernel import AttentionBalancing
from model_adapters.interventions.delimiters.kernel import DelimiterScaling
from model_adapters.interventions.focus.kernel import Focus
from model_adapters.interventions.knockout.edges import parse_edges
from model_adapters.interventions.knockout.kernel import Knockout
from model_adapters.interventions.orders.kernel import Orders
from model_adapters.interventions.record import EditRecord, summarize_edits
from model_adapters.interventions.sofa.kernel import Sofa
from model_adapters.interventions.var.kernel import AttentionRedistribution
from model_adapters.layout import Layout, Span
from model_adapters.loading import load_family
from model_adapters.models import model_class
from model_adapters.options import AdapterOptions
from model_adapters.relevance.attention import text_attention
from model_adapters.tiny.any_type import make_tiny
from tests.conftest import Command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny checkpoint of a model type, made once."""
    folder = tmp_path_factory.mktemp("any")

    def checkpoint(model_type: str) -> Path:
        path = folder / model_type
        if not path.exists():
            if model_type in FAMILIES:
                FAMILIES.get(model_type).make_tiny(path, seed=3)
            else:
                make_tiny(model_type, path, seed=3)
        return path

    return checkpoint


def load(family: Any, checkpoint: Path, dtype: Any = torch.float32) -> Any:
    return load_family(family, str(checkpoint), dtype=dtype, device="cpu", peft=None)


NAMED = [
    name for name in ("qwen2_vl", "llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "gemma3") if name in FAMILIES
]


@pytest.mark.parametrize("model_type", NAMED)
def test_spans_places_and_scores_are_those_of_the_named_family(checkpoints: Any, model_type: str) -> None:
    checkpoint = checkpoints(model_type)
    shown = pictures(5, seed=7)
    rows = [shown[:3], shown[3:]]
    made = []
    for kind in (FAMILIES.get(model_type), HfFamily):
        model, family = load(kind, checkpoint)
        batch = family.prepare(rows, [family.prompt(messages(len(row))) for row in rows])
        layers = frozenset(range(model.config.get_text_config().num_hidden_layers))
        with torch.inference_mode(), Engine(BlockMask(), layers).running(model, batch.layouts):
            scores = model(**batch.inputs).logits
        made.append((batch, family, scores))
    (one, named, expected), (other, found, scores) = made
    assert other.layouts == one.layouts
    assert torch.equal(other.inputs["input_ids"], one.inputs["input_ids"])
    tokens = torch.stack([layout.is_token(torch.device("cpu")) for layout in one.layouts])
    assert torch.equal(scores[tokens], expected[tokens])
    if found.has_places:
        for here, there in zip(found.places(other.inputs, rows), named.places(one.inputs, rows), strict=True):
            for mine, theirs in zip(here, there, strict=True):
                assert torch.allclose(mine.parts, theirs.parts)
                assert torch.equal(mine.token, theirs.token)
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"outside of Engine\.running"):
        model(**other.inputs)


@pytest.mark.parametrize("mask", [Focus(lam=0.6), Orders()])
def test_several_passes_answer_as_with_the_named_family(checkpoints: Any, mask: Any) -> None:
    """Without cached features: the model encodes the pictures of each pass."""
    shown, answers = pictures(6, seed=7), []
    rows = [shown[:3], shown[3:4], shown[4:]]
    for kind in (FAMILIES.get("qwen2_vl"), HfFamily):
        model, family = load(kind, checkpoints("qwen2_vl"))
        prompts = [family.prompt(messages(len(row))) for row in rows]
        answerer = Answerer(model, family, Engine(mask, frozenset()))
        replies = answerer.reply(rows, prompts, {"max_new_tokens": 4, "do_sample": False})
        assert [(reply.record or {})["passes"]["passes"] for reply in replies] == (
            [4, 1, 3] if mask.name == "focus" else [3, 1, 2]
        )
        answers.append([reply.text for reply in replies])
    assert answers[0] == answers[1]


def test_delimiters_by_evidence_are_those_of_the_named_family(checkpoints: Any) -> None:
    shown, logits = pictures(4, seed=7), []
    rows, scaling = [shown[:3], shown[3:]], DelimiterScaling()
    for kind in (FAMILIES.get("qwen2_vl"), HfFamily):
        model, family = load(kind, checkpoints("qwen2_vl"))
        batch = family.prepare(rows, [family.prompt(messages(len(row))) for row in rows])
        delimiters = delimiters_of(scaling, family, batch.layouts, torch.device("cpu"))
        assert delimiters is not None
        assert delimiters.sum(dim=1).tolist() == [6, 2]
        engine = Engine(scaling, frozenset({0, 1, 2, 3}))
        engine.watch(model)
        with torch.inference_mode(), engine.running(model, batch.layouts, delimiters=delimiters):
            logits.append(model(**batch.inputs).logits[:, -1])
        with pytest.raises(ValueError, match="mask=delimiters needs `delimiters`"):
            engine.start(model, batch.layouts)
    assert torch.equal(*logits)


def test_sinks_and_text_rows_are_those_of_the_named_family(checkpoints: Any) -> None:
    """Under a sliding window with images both ways, and with text within images."""

    def extreme(hidden: Tensor, layouts: tuple[Layout, ...], layer: int) -> Tensor:
        tokens = torch.stack([layout.is_token(hidden.device) for layout in layouts])
        return tokens & (hidden[..., 3] > hidden[..., 3][tokens].quantile(0.8))

    shown = pictures(5, seed=7)
    rows = [shown[:3], shown[3:]]
    for model_type, made in (
        ("gemma3", AttentionBalancing(alpha=1.0)),
        ("gemma3", AttentionRedistribution(p=0.2, heads="all")),
        ("idefics3", AttentionRedistribution(p=0.2, rows="after_first")),
    ):
        outs, counts = [], []
        for kind in (FAMILIES.get(model_type), HfFamily):
            model, family = load(kind, checkpoints(model_type))
            batch = family.prepare(rows, [family.prompt(messages(len(row))) for row in rows])
            engine = Engine(made, frozenset({1}), find_sinks=extreme)
            hooks, record = engine.watch(model), EditRecord(2)
            with torch.inference_mode(), engine.running(model, batch.layouts, record=record):
                outs.append(model(**batch.inputs).logits[:, -1])
            for hook in hooks:
                hook.remove()
            counts.append(summarize_edits(record.docs())["counts"])
        assert torch.equal(*outs)
        assert counts[0] == counts[1]
        assert counts[0]["edited_rows"] > 0


def test_images_of_several_spans_are_read_from_what_the_processor_puts_for_them(checkpoints: Any) -> None:
    _, cut = load(HfFamily, checkpoints("mistral3"))
    assert cut.facts.sharing == "the text put for each image"
    (layout,) = cut.prepare([pictures(2)], [cut.prompt(messages(2))]).layouts
    assert [len(image.spans) for image in layout.images] == [3, 4]  # 3 and 4 rows, cut by [IMG_BREAK]
    assert "after" in cut.delimiters


@pytest.mark.parametrize("model_type", ["gemma3", "idefics3"])
@pytest.mark.parametrize("mask", [Sofa(sigma=0.7), Knockout(parse_edges("question>image[1]+image>between"))])
def test_sofa_and_knockout_are_those_of_the_named_family(
    checkpoints: Any, model_type: str, mask: Intervention
) -> None:
    """Sliding layers and images both ways, and images of several spans."""
    rows = [pictures(3, seed=7), pictures(2, seed=8)]
    made = []
    for kind in (FAMILIES.get(model_type), HfFamily):
        model, family = load(kind, checkpoints(model_type))
        batch = family.prepare(rows, [family.prompt(messages(len(row))) for row in rows])
        record = EditRecord(2)
        with torch.inference_mode(), Engine(mask, frozenset({0, 2})).running(
            model, batch.layouts, record=record
        ):  # fmt: skip
            made.append(model(**batch.inputs).logits[:, -1])
        assert all(sums["count:edited_rows"] > 0 for sums in record.docs())
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-5)


def test_edges_to_later_tokens_exist_where_a_prompt_attends_both_ways(checkpoints: Any) -> None:
    """PaliGemma; a causal decoder's are refused before it is loaded."""
    how = {"mask": "knockout", "edges": "image>question", "journal": "off"}
    model = model_class("hf_mask")(pretrained=str(checkpoints("paligemma")), **how)
    batch = model.family.prepare([pictures(2)], [model.family.prompt(messages(2))])
    record = EditRecord(1)
    with torch.inference_mode(), model.engine.running(model.model, batch.layouts, record=record):
        model.model(**batch.inputs)
    (counts,) = record.docs()
    assert counts["count:edited_rows"] > 0
    assert counts["count:docs_with image>question"] == 1
    with pytest.raises(UserError, match="edges=image>question blocks nothing: the decoder is causal"):
        model_class("gemma3_mask")(pretrained="no such folder", **how)


FACTS = {
    "gemma3": ((masks.BOTH_WAYS, masks.WINDOW), ()),
    "qwen3_5": ((masks.CAUSAL,), (0, 1, 2)),
    "cohere2_vision": ((masks.WINDOW,), ()),
}


@pytest.mark.parametrize("model_type", ["gemma3", "qwen3_5", "cohere2_vision"])
def test_base_masks_and_layers_without_softmax_attention(checkpoints: Any, model_type: str) -> None:
    _, family = load(HfFamily, checkpoints(model_type))
    kinds, others = FACTS[model_type]
    assert kinds in family.facts.bases
    assert family.facts.others == others
    assert family.attention_layers == frozenset(range(family.facts.depth)) - set(others)


def test_layers_without_softmax_attention_are_never_counted_as_changed(
    checkpoints: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(checkpoints("qwen3_5"))
    model = model_class("hf_mask")(pretrained=checkpoint, mask="block", layers="all", journal="off")
    assert model.engine.layers == {3}
    assert "Layers 0-2 have no softmax attention and stay as they are" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"layers=0-2 have no softmax attention that mask=block could change"):
        model_class("hf_mask")(pretrained=checkpoint, mask="block", layers="0-2", journal="off")


def test_relevance_from_attention_watches_a_layer_that_has_softmax_attention(checkpoints: Any) -> None:
    model, family = load(HfFamily, checkpoints("qwen3_5"))
    batch = family.prepare([pictures(2)], [family.prompt(messages(2))])
    sums = text_attention(
        model,
        batch.inputs,
        batch.layouts,
        depth=4,  # layer 2 has linear attention: "the model's decoder did not run through the engine"
        pad_token_id=family.pad_token_id,
        softmax=family.attention_layers,
    )
    visual = batch.layouts[0].image_numbers() >= 0
    assert bool((sums[0, visual] > 0).all())
    assert not sums[0, ~visual].any()


def test_what_needs_the_vision_tower_apart_is_refused(checkpoints: Any) -> None:
    checkpoint = str(checkpoints("mistral3"))
    for argument in ({"pool": "2"}, {"feature_cache": "64"}):
        with pytest.raises(UserError, match=r"(pool=2|feature_cache=64) needs the vision tower's output"):
            model_class("hf_mask")(pretrained=checkpoint, mask="none", journal="off", **argument)


REFUSED = {
    "mllama": "images do not reach the decoder as tokens of its sequence",
    "t5gemma2": "it is an encoder-decoder",
    "blip-2": "has no chat template",
}


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_cannot_be_established_is_refused_in_one_line(checkpoints: Any, model_type: str) -> None:
    with pytest.raises(UserError, match=REFUSED[model_type]) as refused:
        load(HfFamily, checkpoints(model_type))
    assert "\n" not in str(refused.value)


def config_only(folder: Path, **settings: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("processor_config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("model_type", ["llama", "bert", "no_such_type", "internvl_chat"])
def test_a_checkpoint_of_another_kind_is_refused_before_it_is_loaded(tmp_path: Path, model_type: str) -> None:
    remote = {"AutoModel": "modeling_x.Model", "AutoConfig": "configuration_x.Config"}
    folder = config_only(tmp_path / "other", model_type=model_type, auto_map=remote)
    (folder / "modeling_x.py").write_text("raise SystemExit('run')")
    (folder / "configuration_x.py").write_text("raise SystemExit('run')")
    with pytest.raises(UserError, match=f"is a '{model_type}' checkpoint, but any type of AutoModelForImage"):
        load(HfFamily, folder)


def test_a_processor_that_pads_pictures_has_no_places(checkpoints: Any) -> None:
    _, family = load(HfFamily, checkpoints("deepseek_vl"))  # to a square
    assert (family.has_places, family.facts.no_grid) == (
        False,
        "a part of a picture does not move the token of its place on a grid",
    )
    with pytest.raises(UserError, match="this model's image tokens have no places"):
        family.places({}, [])
    options = AdapterOptions.parse({"mask": "ar", "relevance": "oracle"})
    with pytest.raises(UserError, match="hf_mask's tokens show none: choose uniform or attention"):
        relevance_source(options, torch.device("cpu"), type(family))


def test_masks_are_told_apart() -> None:
    layouts = (Layout(8, 1, (Span(2, 4), Span(5, 7))), Layout(8, 0, (Span(0, 3),)))
    plain = masks.causal(layouts, torch.device("cpu"))[:, None]
    numbers = torch.stack([layout.image_numbers() for layout in layouts])
    inside = ((numbers[:, :, None] == numbers[:, None, :]) & (numbers >= 0)[:, :, None])[:, None]
    ahead = torch.ones(8, 8, dtype=torch.bool).triu(1)
    window = torch.ones(8, 8, dtype=torch.bool).triu(-2)
    tokens = torch.stack([layout.is_token(torch.device("cpu")) for layout in layouts])[:, None, None, :]
    kinds: dict[str, Tensor] = {
        masks.CAUSAL: plain,
        masks.WINDOW: plain & window,
        masks.BOTH_WAYS: plain | inside,
        masks.PREFIX: plain | ahead & tokens,
        masks.OTHER: torch.cat([plain, plain & window], dim=1),
    }
    assert {name: masks.kind_of(mask, layouts) for name, mask in kinds.items()} == {
        name: name for name in kinds
    }


def test_tokens_are_shared_as_the_processor_says_and_never_by_force() -> None:
    tokens = torch.tensor([2, 3, 4, 7, 8, 11])
    row = Row(tokens, [(4, 4)] * 3, None, frozenset({5}), object())
    assert {name: share(row) for name, share in SHARINGS.items()} == {
        "the text put for each image": None,
        "the processor's count": None,
        "one run for each image": [3, 2, 1],
        "equal numbers": [2, 2, 2],
    }


def test_grids_need_as_many_tokens_as_cells() -> None:
    inputs = {"image_grid_thw": torch.tensor([[1, 4, 6]])}
    assert GRIDS["patches"](inputs, 0, (Span(0, 6),)) == (2, 3)
    assert GRIDS["patches"](inputs, 0, (Span(0, 7),)) is None
    assert GRIDS["rows"](inputs, 0, (Span(0, 4), Span(5, 9))) == (2, 4)
    assert GRIDS["rows"](inputs, 0, (Span(0, 4), Span(5, 8))) is None
    assert GRIDS["square"](inputs, 0, (Span(0, 9),)) == (3, 3)
    assert GRIDS["square"](inputs, 0, (Span(0, 8),)) is None


def test_painting_changes_its_part_only() -> None:
    picture = pictures(1)[0]
    before, after = (np.asarray(each) for each in (picture, painted(picture, (0, 0, 0.5, 0.5))))
    moved = (before != after).any(axis=2)
    half = picture.height // 2, picture.width // 2
    assert not moved[half[0] :].any()
    assert not moved[:, half[1] :].any()
    assert moved[: half[0], : half[1]].mean() > 0.99


def test_lmms_eval_runs_any_model(checkpoints: Any, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    done = command(
        "lmms_eval", "--tasks", "mimic_common", "--model", "hf_mask", "--model_args",
        f"pretrained={checkpoints('gemma3')},mask=block,layers=all", "--limit", "3", "--batch_size", "2",
        "--output_path", out, MIMIC_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = out.rglob("*_results.json")
    run = json.loads(results.read_text())["mimic"]["run"]
    assert (run["family"], run["mask"], run["layers"]) == ("gemma3", "block", "0-5")
    refused = command(
        "lmms_eval", "--tasks", "mimic_common", "--model", "hf_mask", "--model_args",
        f"pretrained={checkpoints('mllama')},mask=block", "--limit", "3", "--output_path", out,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "(mllama): hf_mask refuses it, because images do not reach the decoder" in refused.stderr
