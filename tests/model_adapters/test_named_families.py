"""The named families: places, padding, first tokens, files of published checkpoints, what is refused."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimic_eval.records import UserError
from model_adapters.answering import Answerer
from model_adapters.assembly import check_delimiters, delimiters_of, relevance_source
from model_adapters.engine import Engine, decoder_layers
from model_adapters.families import FAMILIES
from model_adapters.features import FeatureCache
from model_adapters.interventions.delimiters.kernel import DelimiterScaling
from model_adapters.interventions.focus.kernel import Focus
from model_adapters.interventions.focus.reference import focus_logits
from model_adapters.interventions.orders.kernel import Orders
from model_adapters.interventions.orders.reference import mean_logits
from model_adapters.models import model_class
from model_adapters.options import AdapterOptions
from model_adapters.pass_batches import prepare_passes
from model_adapters.passes import PassInput
from model_adapters.picture import as_pictures
from tests.makers.parity_docs import Rectangle, make_docs
from tests.oracles.parity_models import model_of, prompt_of
from tests.oracles.parity_named import NAMED
from tests.oracles.passes import greedy_by_hand, scaled_by_hand, transformers_attention

DOCS = {name: make_docs(case.sizes, (2, 1, 3)) for name, case in NAMED.items()}


@pytest.fixture(scope="module", params=list(NAMED))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model_adapters import tiny

    case, out = NAMED[name], tmp_path_factory.mktemp("named") / name
    (case.make or getattr(tiny, f"make_tiny_{case.name}"))(out, layers=2, seed=1)
    return out


@pytest.fixture(scope="module")
def model(name: str, folder: Path) -> Any:
    return loaded(name, folder)


def loaded(name: str, folder: Path, **arguments: Any) -> Any:
    arguments = {"mask": "block", "layers": "all", "journal": "off", **arguments}
    return model_of(NAMED[name])(pretrained=str(folder), **arguments)


def prepared(name: str, model: Any) -> Any:
    images = [list(doc.images) for doc in DOCS[name]]
    return model.family.prepare(images, [prompt_of(model.family, doc) for doc in DOCS[name]])


def inside(place: Rectangle | None) -> list[float] | None:
    """A rectangle cut at the picture's edge; None: no part of it."""
    cut = None if place is None else [min(max(side, 0.0), 1.0) for side in place]
    return None if cut is None or cut[0] >= cut[2] - 1e-9 or cut[1] >= cut[3] - 1e-9 else cut


def test_places_are_those_worked_out_by_hand(name: str, model: Any) -> None:
    batch, docs = prepared(name, model), DOCS[name]
    found = model.family.places(batch.inputs, [list(doc.images) for doc in docs])
    for layout, row, doc in zip(batch.layouts, found, docs, strict=True):
        for image, places, picture in zip(layout.images, row, doc.images, strict=True):
            want = [inside(place) for place in NAMED[name].places(picture, image.length)]
            assert places.length == image.length == len(want)
            assert places.token.tolist() == [t for t, place in enumerate(want) if place is not None]
            expected = torch.tensor([place for place in want if place is not None], dtype=torch.float64)
            assert torch.allclose(places.parts, expected, atol=1e-9)


def test_ids_are_those_of_transformers_own_chat_template(name: str, model: Any) -> None:
    """A first token that the template writes was doubled by the tokenizer (Gemma 3, Idefics3)."""
    case, processor = NAMED[name], model.family.processor
    first = processor.tokenizer.bos_token_id
    batch = prepared(name, model)
    for doc, row, layout in zip(DOCS[name], batch.inputs["input_ids"], batch.layouts, strict=True):
        ids = row[layout.padding :]
        assert first is None or (ids == first).sum() == 1
        if case.prompt is None:
            shown: list[Any] = [{"type": "image", "image": image} for image in doc.images]
            chat = [{"role": "user", "content": [*shown, {"type": "text", "text": doc.text}]}]
            theirs = processor.apply_chat_template(
                chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            assert ids.tolist() == theirs["input_ids"][0].tolist()


def test_image_counts_are_read_from_the_inputs(name: str, model: Any) -> None:
    assert model.family.image_counts(prepared(name, model).inputs) == [2, 1, 3]


def test_rows_without_an_image_stand_beside_rows_with_images(name: str, model: Any) -> None:
    with_images = DOCS[name][0]
    content = [{"type": "text", "text": "How many?"}]
    bare = model.family.prompt([{"role": "user", "content": content}])
    prompts = [bare, prompt_of(model.family, with_images)]
    replies = model.reply([[], list(with_images.images)], prompts, {"max_new_tokens": 3, "do_sample": False})
    alone = [
        model.reply([images], [prompt], {"max_new_tokens": 3, "do_sample": False})[0].text
        for images, prompt in zip([[], list(with_images.images)], prompts, strict=True)
    ]
    assert [reply.text for reply in replies] == alone


def test_padding_on_the_right_changes_no_logits(name: str, model: Any) -> None:
    docs, family, engine = DOCS[name], model.family, model.engine
    images = [list(doc.images) for doc in docs]
    prompts = [prompt_of(family, doc) for doc in docs]
    alone = []
    for own, prompt in zip(images, prompts, strict=True):
        batch = family.prepare([own], [prompt])
        with torch.inference_mode(), engine.running(model.model, batch.layouts):
            alone.append(model.model(**batch.inputs).logits[0])
    left = family.prepare(images, prompts)
    inputs, paddings = dict(left.inputs), [layout.padding for layout in left.layouts]
    for key in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"):
        if key in inputs:
            rows = [row.roll(-padding) for row, padding in zip(inputs[key], paddings, strict=True)]
            inputs[key] = torch.stack(rows)
    layouts = family.layouts(inputs, [len(own) for own in images])
    assert [layout.right_padding for layout in layouts] == paddings
    with torch.inference_mode(), engine.running(model.model, layouts):
        logits = model.model(**inputs).logits
    for got, want in zip(logits, alone, strict=True):
        assert torch.allclose(got[: len(want)], want, atol=2e-4 * float(want.abs().max()))


@pytest.mark.parametrize("mask", ["focus", "orders"])
def test_several_passes_are_those_of_a_hand_loop(name: str, model: Any, mask: str) -> None:
    """Docs of 2, 1 and 3 images in one batch, with cached features where the family has them."""
    docs, family = DOCS[name], model.family
    prompts = [prompt_of(family, doc) for doc in docs]
    chosen: Any = Focus(shared_noise=True, lam=0.6) if mask == "focus" else Orders()
    passes = [
        [
            [own.image for own in row.pictures]
            for row in chosen.passes.expand(PassInput(as_pictures(doc.images), ""))
        ]
        for doc in docs
    ]
    choose = (lambda logits: focus_logits(logits, 0.6)) if mask == "focus" else mean_logits
    with transformers_attention(model.model):
        want = [
            greedy_by_hand(model.model, family, shown, prompt, choose, steps=3)
            for shown, prompt in zip(passes, prompts, strict=True)
        ]
    engine = Engine(chosen, frozenset())
    cache = FeatureCache(2**24) if family.has_features else None
    replies = Answerer(model.model, family, engine, features=cache).reply(
        [list(doc.images) for doc in docs], prompts, {"max_new_tokens": 3, "do_sample": False}
    )
    decode = family.processor.tokenizer.decode
    assert [reply.text for reply in replies] == [decode(ids, skip_special_tokens=True) for ids in want]
    if cache is not None:
        assert cache.encoded == (4 + 1 + 6 if mask == "focus" else 2 + 1 + 3)


@pytest.mark.parametrize("chosen", [Focus(), Orders()])
def test_passes_are_prepared_as_their_pictures_would_be(name: str, model: Any, chosen: Any) -> None:
    """The same tokens, grids and layouts; pixels of each different picture once, not of each pass."""
    family = model.family
    if not family.has_features:
        return
    docs = [
        chosen.passes.expand(PassInput(as_pictures(doc.images), prompt_of(family, doc), seed=str(number)))
        for number, doc in enumerate(DOCS[name])
    ]
    rows = [row for doc in docs for row in doc]
    batch, encode = prepare_passes(family, docs)
    want = family.prepare([row.images for row in rows], [row.prompt for row in rows])
    assert batch.layouts == want.layouts
    assert {*want.inputs} - {*batch.inputs} == {key for key in want.inputs if key.startswith("pixel_")}
    for key, x in batch.inputs.items():
        assert torch.equal(x, want.inputs[key]), key
    shown = [picture.sha256 for row in encode.pictures for picture in row]
    assert {*shown} == {picture.sha256 for row in rows for picture in row.pictures}
    assert len(shown) == (6 + 1 + 12 if chosen.name == "focus" else 2 + 1 + 3)
    assert [len(row) for row in encode.pictures] == [len(layout.images) for layout in encode.batch.layouts]


MARKS = {
    "qwen2_5_vl": {"<|vision_start|>", "<|vision_end|>"},
    "qwen3_vl": {"<|vision_start|>", "<|vision_end|>"},
    "internvl3_5": {"<img>", "</img>"},
    "gemma3": {"<start_of_image>", "<end_of_image>"},
    "idefics2": {"<fake_token_around_image>"},
    "mantis_idefics2": {"<fake_token_around_image>"},
    "idefics3": {"<fake_token_around_image>"},
    "smolvlm": {"<fake_token_around_image>"},
    "llava_next": {"<image>"},  # the newline at the end of an image
}


def delimiters_by_hand(name: str, model: Any, ids: Sequence[int], images: int) -> list[int]:
    spans = NAMED[name].spans(ids, model.model.config.image_token_id, images)
    if name == "llava_next":
        return [parts[-1][1] - 1 for parts in spans]
    before = 2 if name in ("idefics3", "smolvlm") else 1
    return sorted({p for parts in spans for p in (parts[0][0] - before, parts[-1][1])})


def test_delimiters_are_the_tokens_that_mark_an_image_and_are_scaled(name: str, model: Any) -> None:
    """Logits of all tokens in a padded batch are those of transformers' layers scaled by hand, doc by doc."""
    docs, family = DOCS[name], model.family
    if name not in MARKS:
        with pytest.raises(UserError, match=r"of a 'llava' checkpoint \(.*\) none are known: choose another"):
            check_delimiters(DelimiterScaling(), family)
        return
    images, prompts = [list(doc.images) for doc in docs], [prompt_of(family, doc) for doc in docs]
    layers = decoder_layers(model.model)
    want, plain = [], []
    for pictures, prompt in zip(images, prompts, strict=True):
        batch = family.prepare([pictures], [prompt])
        ids = batch.inputs["input_ids"][0].tolist()
        positions = delimiters_by_hand(name, model, ids, len(pictures))
        assert list(family.delimiter_tokens(batch.layouts[0])) == positions
        assert {*family.processor.tokenizer.convert_ids_to_tokens([ids[p] for p in positions])} == MARKS[name]
        with transformers_attention(model.model), torch.inference_mode():
            plain.append(model.model(**batch.inputs).logits[0])
            with scaled_by_hand(layers, positions, 8.0, images=len(pictures)):
                want.append(model.model(**batch.inputs).logits[0])
    assert torch.equal(want[1], plain[1])  # one image
    batch, scaling = family.prepare(images, prompts), DelimiterScaling()
    engine = Engine(scaling, frozenset(range(len(layers))))
    delimiters = delimiters_of(scaling, family, batch.layouts, torch.device("cpu"))
    hooks = engine.watch(model.model)
    with torch.inference_mode(), engine.running(model.model, batch.layouts, delimiters=delimiters):
        logits = model.model(**batch.inputs).logits
    for hook in hooks:
        hook.remove()
    for b, layout in enumerate(batch.layouts):
        largest = float(want[b].abs().max())
        assert torch.allclose(logits[b, layout.padding :], want[b], atol=2e-4 * largest)
        assert (b == 1) == torch.allclose(plain[b], want[b], atol=2e-2 * largest)  # or it could not fail


def as_published(folder: Path, out: Path) -> None:
    """The same checkpoint in the files that the published ones have: older names and places of settings."""
    shutil.copytree(folder, out)
    path = out / "processor_config.json"
    settings = json.loads(path.read_text())
    pictures = settings.pop("image_processor") | {"processor_class": settings["processor_class"]}
    videos = settings.pop("video_processor", None)
    if settings["processor_class"].startswith("Qwen"):
        size = pictures.pop("size")
        pictures |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    path.unlink()
    for file, content in (
        ("preprocessor_config.json", pictures),
        ("video_preprocessor_config.json", videos),
        ("processor_config.json", settings if len(settings) > 1 else None),
        ("chat_template.json", {"chat_template": (out / "chat_template.jinja").read_text()}),
    ):
        if content:
            (out / file).write_text(json.dumps(content))
    (out / "chat_template.jinja").unlink()
    config = json.loads((out / "config.json").read_text())
    weights = load_file(out / "model.safetensors")
    if config["model_type"] in ("gemma3", "llava", "llava_next"):  # a tower within a tower
        weights = {
            key.replace("vision_tower.", "vision_tower.vision_model."): x for key, x in weights.items()
        }
    if config["model_type"] == "llava":
        weights["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        weights["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    text = config.get("text_config", {})
    if config["model_type"] == "gemma3":
        del text["rope_parameters"], text["layer_types"]
        text |= {"rope_local_base_freq": 1e4, "rope_theta": 1e6, "sliding_window_pattern": 2}
    if config["model_type"] == "qwen2_5_vl":  # the decoder's settings at the top
        del config["text_config"], text["layer_types"]
        rope = text.pop("rope_parameters")
        text["rope_theta"] = rope["rope_theta"]
        text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
        config = {**text, **config}
        config["vision_config"] |= {"model_type": "qwen2_5_vl", "in_chans": 3, "spatial_patch_size": 8}
    (out / "config.json").write_text(json.dumps(config))


def test_the_files_of_published_checkpoints_are_read_alike(
    name: str, model: Any, folder: Path, tmp_path: Path
) -> None:
    if name == "mantis":  # its tiny checkpoint has them
        assert not (folder / "processor_config.json").exists()
        return
    as_published(folder, tmp_path / "published")
    other = loaded(name, tmp_path / "published")
    batches = [prepared(name, one) for one in (model, other)]
    logits = []
    for one, batch in zip((model, other), batches, strict=True):
        with torch.inference_mode(), one.engine.running(one.model, batch.layouts):
            logits.append(one.model(**batch.inputs).logits)
    assert torch.equal(*logits)


# What is refused, and what Mantis does beside LLaVA


@pytest.fixture(scope="module")
def mantis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model_adapters.tiny.mantis import make_tiny_mantis

    out = tmp_path_factory.mktemp("mantis") / "mantis"
    make_tiny_mantis(out, layers=2)
    return out


@pytest.mark.parametrize("model_name", ["mantis_mask", "llava_mask"])
def test_a_mantis_is_one_under_either_name(mantis: Path, model_name: str) -> None:
    model = model_class(model_name)(pretrained=str(mantis), journal="off")
    assert model.family.name == "Mantis"
    tokenizer = model.family.processor.tokenizer
    ends = model.model.generation_config.eos_token_id
    assert {tokenizer.convert_tokens_to_ids("<|eot_id|>"), tokenizer.eos_token_id} <= set(ends)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which?"}]
    prompt = model.family.prompt([{"role": "user", "content": content}], system="Be brief.")
    assert "(image 1: <Image><image></Image>)(image 2: <Image><image></Image>)Which?" in prompt
    assert prompt.startswith("<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>")
    assert "pirate" not in prompt


@pytest.mark.parametrize("relevance", ["oracle", "grounded_clip", "clip"])
def test_latents_have_no_places(relevance: str) -> None:
    options = AdapterOptions.parse({"mask": "ar", "relevance": relevance})
    with pytest.raises(UserError, match="Idefics2's tokens show none: choose uniform or attention") as error:
        relevance_source(options, torch.device("cpu"), FAMILIES.get("idefics2"))
    assert "\n" not in str(error.value)


def test_gemma_3_refuses_crops_and_pooling_in_one_line(tmp_path: Path) -> None:
    from model_adapters.tiny.gemma3 import make_tiny_gemma3

    folder = tmp_path / "gemma3"
    make_tiny_gemma3(folder, layers=2)
    model = loaded("gemma3", folder, pool=2)
    doc = DOCS["gemma3"][0]
    with pytest.raises(UserError, match="pool=2: transformers takes no embeddings for Gemma 3: leave it out"):
        model.reply([list(doc.images)], [prompt_of(model.family, doc)], {"max_new_tokens": 1})
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["image_processor"] |= {
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": 16,
        "pan_and_scan_max_num_crops": 4,
        "pan_and_scan_min_ratio_to_activate": 1.2,
    }
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"cuts crops \(do_pan_and_scan\), which is not supported"):
        loaded("gemma3", folder)
