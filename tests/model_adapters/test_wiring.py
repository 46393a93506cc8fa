"""What a user asks of a *_mask model reaches the engine: sinks, relevance, and each refusal in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from mimic_eval.cli.checkpoint import embedded_pictures
from mimic_eval.records import UserError, announced_run, unscored_reason
from mimic_tasks.lmms_hooks import doc_to_messages
from model_adapters.adapter import MaskedModel
from model_adapters.doc_prompt import take_images
from model_adapters.interventions.record import summarize_edits
from model_adapters.models import Internvl2Mask, LlavaOvMask, Qwen2VLMask
from model_adapters.options import AdapterOptions
from model_adapters.relevance.query import Query
from model_adapters.sinks import CorpusDoc, calibrate, load_calibration, save_calibration
from model_adapters.sinks.planted import make_planted_checkpoint
from tests.makers.outside import picture

FAMILIES: dict[str, type[MaskedModel]] = {
    "llava_onevision": LlavaOvMask,
    "qwen2_vl": Qwen2VLMask,
    "internvl": Internvl2Mask,
}
EMBEDDED = Path(__file__).resolve().parents[2] / "mimic_tasks/embedded"
SETTINGS = {"max_new_tokens": 3, "do_sample": False, "until": []}


def docs(kind: str, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(EMBEDDED / f"{kind}/test.parquet").slice(0, count).to_pylist()
    return rows


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments of a model with planted sinks and their calibration."""
    folder = tmp_path_factory.mktemp("wired")
    pictures = embedded_pictures()
    make_planted_checkpoint(request.param, folder / "model", hidden=128, share=0.3, pictures=pictures)
    plain = FAMILIES[request.param](pretrained=str(folder / "model"), mask="none", journal="off")
    shown = []
    for doc in docs("counting", 4):
        messages, images = take_images(doc_to_messages(doc))
        shown.append(CorpusDoc(images, plain.family.prompt(messages), doc["content_hash"]))
    found = calibrate(
        plain.model, plain.family, shown, source="embedded", seed=0, checkpoint=str(folder / "model")
    )
    assert [own.index for own in found.dimensions] == [7]
    save_calibration(found, folder / "calibration.json")
    return {
        "class": FAMILIES[request.param],
        "pretrained": str(folder / "model"),
        "calibration": str(folder / "calibration.json"),
        "tau": "6",
        "journal": "off",
    }


def made(family: dict[str, Any], **arguments: Any) -> MaskedModel:
    given = {key: value for key, value in {**family, **arguments}.items() if key != "class"}
    model: MaskedModel = family["class"](**given)
    return model


def answers(model: MaskedModel, rows: list[dict[str, Any]]) -> list[Any]:
    images, prompts, asked = [], [], []
    for i, doc in enumerate(rows):
        messages, own = take_images(doc_to_messages(doc))
        images.append(own)
        prompts.append(model.family.prompt(messages))
        asked.append(Query.of_doc(doc, own, name=f"doc {i}"))
    return model.reply(images, prompts, SETTINGS, queries=asked)


@pytest.mark.parametrize("pool", ["1", "2"])
@pytest.mark.parametrize("relevance", ["grounded_clip", "sam_clip", "oracle", "attention"])
def test_relevance_reaches_every_family(
    family: dict[str, Any],
    relevance: str,
    pool: str,
    clip_folder: Path,
    grounding_folder: Path,
    sam_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model_adapters.relevance.sam._POINTS_A_SIDE", 8)
    clip = {"clip": str(clip_folder)}
    given: dict[str, Any] = {
        "grounded_clip": {
            **clip,
            "grounding": str(grounding_folder),
            "box_threshold": 0,
            "text_threshold": 0,
        },
        "sam_clip": {**clip, "sam": str(sam_folder)},
    }.get(relevance, {})
    model = made(family, mask="ar", relevance=relevance, pool=pool, **given)
    rows = docs("counting", 3)
    together = answers(model, rows)
    for answer, doc in zip(together, rows, strict=True):
        assert answer.record["relevance"]["images"] == doc["n_images"]
    edited = [answer.record["edits"]["visual_edited"] for answer in together]
    opened = [answer.record["edits"].get("row_key_pairs", 0) for answer in together]
    assert sum(edited) > 0 < sum(opened)
    alone = [answers(model, [doc])[0] for doc in rows]
    assert [answer.text for answer in alone] == [answer.text for answer in together]
    for one, batched in zip(alone, together, strict=True):
        for name in ("visual_edited", "row_key_pairs", "image_key_pairs", "visual_all", "text_all"):
            assert one.record["edits"].get(name, 0) == batched.record["edits"].get(name, 0), name


@pytest.mark.parametrize("score", ["ratio", "z"])
def test_var_edits_the_same_rows_of_each_family_in_a_batch_and_alone(
    family: dict[str, Any], score: str
) -> None:
    """Text sinks are found too, and never among the visual ones."""
    given = {"score": "z", "tau": "1"} if score == "z" else {}
    model = made(family, mask="var", layers="1-3", heads="all", rows="after_first", **given)
    seen: list[Any] = []
    attend = model.engine.attend

    def watch(*args: Any, **more: Any) -> Any:
        view = args[3]
        seen.append((view.layouts, view.layer, view.sinks, view.text_sinks))
        return attend(*args, **more)

    model.engine.attend = watch  # type: ignore[method-assign]
    rows = docs("counting", 3)
    together = answers(model, rows)
    text = 0
    for layouts, layer, sinks, text_sinks in seen:
        if layer == 0:
            assert sinks is None
            assert text_sinks is None
            continue
        for layout, visual, others in zip(layouts, sinks, text_sinks, strict=True):
            assert bool((layout.image_numbers()[visual] >= 0).all())
            assert bool((layout.image_numbers()[others] < 0).all())
            assert not bool((others & ~layout.is_token(others.device)).any())
            text += int(others.sum())
    assert text > 0 or family["class"] is Qwen2VLMask  # whose text got no activation here
    alone = [answers(model, [doc])[0] for doc in rows]
    assert [answer.text for answer in alone] == [answer.text for answer in together]
    edited = 0
    for one, batched in zip(alone, together, strict=True):
        for name in ("rows", "edited_rows", "heads", "edited_heads", "generated_rows"):
            assert one.record["edits"][f"count:{name}"] == batched.record["edits"][f"count:{name}"], name
        edited += one.record["edits"]["count:edited_rows"]
    assert edited > 0


def test_the_record_says_how_sinks_and_relevance_were_found(family: dict[str, Any]) -> None:
    made(family, mask="ar", relevance="degraded:0.5", empty_rows="mask")
    record = announced_run()
    assert (record["mask"], record["layers"], record["empty_rows"]) == ("ar", "0-3", "mask")
    assert (record["relevance"], record["score"], record["tau"]) == ("degraded:0.5:oracle", "ratio", 6.0)
    assert record["sink_dimensions"] == [7]
    made(family, mask="mask_only", score="z", layers="second_half")
    record = announced_run()
    assert (record["layers"], record["score"], len(record["mu"])) == ("2-3", "z", 1)
    assert "relevance" not in record


def test_a_lora_adapter_works_with_ar_var_and_dab(family: dict[str, Any], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = made(family, mask="none", **dict.fromkeys(("calibration", "tau")))
    torch.manual_seed(0)
    targets = r".*language_model.*\.(q_proj|v_proj)"
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    get_peft_model(base.model, config).save_pretrained(tmp_path / "lora")
    given = {"mask": "ar", "relevance": "oracle"}
    rows = docs("common", 2)
    with_lora = answers(made(family, peft=str(tmp_path / "lora"), **given), rows)
    without = answers(made(family, **given), rows)
    assert sum(answer.record["edits"]["visual_edited"] for answer in with_lora) > 0
    assert [a.record["edits"]["eta"] for a in with_lora] != [a.record["edits"]["eta"] for a in without]
    for mask in ("var", "dab"):
        sinks = {} if mask == "var" else dict.fromkeys(("calibration", "tau"))
        merged, plain = (
            answers(made(family, mask=mask, layers="1-3", **sinks, **more), rows)
            for more in ({"peft": str(tmp_path / "lora")}, {})
        )
        moved = [[a.record["edits"]["count:moved_mass"] for a in own] for own in (merged, plain)]
        assert sum(moved[0]) > 0
        assert moved[0] != moved[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"mask": "block", "tau": "5"},
            "tau=5 is not used by mask=block: leave it out, or choose mask=ar or ",
        ),
        ({"mask": "none", "relevance": "clip"}, "relevance=clip is not used by mask=none"),
        ({"mask": "mask_only", "relevance": "clip"}, "relevance=clip is not used by mask=mask_only"),
        ({"mask": "unmask_only", "empty_rows": "mask"}, "empty_rows=mask is not used by mask=unmask_only"),
        (
            {"mask": "ar", "prefix": True},
            "prefix=True is not used by mask=ar: leave it out, or choose",
        ),
        ({"mask": "ar", "empty_rows": "drop"}, "Unknown empty_rows 'drop'. Valid: keep, mask."),
        ({"mask": "ar", "score": "zz"}, "Unknown score 'zz'. Did you mean 'z'? Valid: ratio, z."),
        ({"mask": "ar", "tau": "-1"}, "tau must be a number above 0, got '-1'"),
        ({"mask": "ar", "tau": "nan"}, "tau must be a number above 0, got 'nan'"),
        ({"mask": "ar", "allow_no_sinks": "yes"}, "allow_no_sinks must be true or false, got 'yes'"),
        (
            {"mask": "ar", "relevance": "grounded"},
            "Unknown relevance 'grounded'. Did you mean 'grounded_clip'?",
        ),
        ({"mask": "ar", "relevance": "degraded:2"}, "relevance=degraded:P takes a probability within 0-1"),
        (
            {"mask": "ar", "relevance": "oracle", "clip": "x/y"},
            "clip=x/y is not used by relevance=oracle: leave it out",
        ),
        ({"journal": "maybe"}, "journal must be on or off, got 'maybe'"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_before_anything_is_loaded(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        AdapterOptions.parse(arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_calibration_is_refused(family: dict[str, Any], tmp_path: Path) -> None:
    stored = json.loads(Path(family["calibration"]).read_text())
    with pytest.raises(UserError, match=r"^calibration=/no/such\.json: no such file: make it with: "):
        made(family, mask="mask_only", calibration="/no/such.json")
    (tmp_path / "cut.json").write_text(json.dumps(stored)[:-20])
    with pytest.raises(UserError, match=r"^calibration .*cut\.json is not JSON: make it again"):
        made(family, mask="mask_only", calibration=str(tmp_path / "cut.json"))
    other = tmp_path / "other"
    make_planted_checkpoint(family["class"].families[0].model_type, other, hidden=160)
    with pytest.raises(UserError, match=r"is of another model \(text_config\.hidden_size 128, not 160; "):
        made(family, mask="mask_only", pretrained=str(other))


def test_a_model_without_sinks_needs_the_users_word(family: dict[str, Any], tmp_path: Path) -> None:
    stored = load_calibration(Path(family["calibration"]))
    save_calibration(replace(stored, dimensions=(), tau=None), tmp_path / "none.json")
    given = {"mask": "mask_only", "calibration": str(tmp_path / "none.json")}
    with pytest.raises(UserError, match="found no sink dimension: allow_no_sinks=true runs it all the same"):
        made(family, **given)
    rows = docs("common", 2)
    plain = made(family, mask="none", **dict.fromkeys(("calibration", "tau")))
    got = answers(made(family, allow_no_sinks=True, **given), rows)
    assert [answer.text for answer in got] == [answer.text for answer in answers(plain, rows)]
    assert [answer.record["edits"]["docs_without_sinks"] for answer in got] == [1, 1]


def test_a_relevance_checkpoint_that_is_not_there_is_said_before_anything_is_run(
    family: dict[str, Any], clip_folder: Path
) -> None:
    with pytest.raises(UserError, match=r"^grounding=/no/such/dino: no such folder, and not a Hub id"):
        made(family, mask="ar", grounding="/no/such/dino", clip=str(clip_folder))
    with pytest.raises(UserError, match=r"is a 'clip' checkpoint, 'grounding-dino' is expected"):
        made(family, mask="ar", grounding=str(clip_folder), clip=str(clip_folder))


def test_scores_that_are_no_numbers_end_the_run_and_are_not_kept(
    family: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16 the planted activations overflow; the model said nothing, and that was scored as wrong."""
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    given = dict.fromkeys(("calibration", "tau", "journal"))
    model = made(family, mask="none", **given)
    with torch.no_grad():
        model.model.get_decoder().norm.weight[0] = torch.inf
    doc = docs("counting", 1)[0]
    model.task_dict = {"mimic_counting": {"test": [doc]}}
    request = type(
        "Request", (), {"args": ("", doc_to_messages, dict(SETTINGS), 0, "mimic_counting", "test")}
    )()
    with pytest.raises(
        UserError, match=r"^the model's scores are not finite on mimic_counting doc 0 in torch"
    ):
        model.generate_until([request])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("change", [{"tau": -5.0}, {"min_ratio": 3.0}, {"dimensions": []}, {"digest": "x"}])
def test_a_calibration_that_was_edited_is_refused(
    family: dict[str, Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    stored = json.loads(Path(family["calibration"]).read_text()) | change
    (tmp_path / "edited.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"is damaged \(its content has been changed\): make it again"):
        made(family, mask="mask_only", calibration=str(tmp_path / "edited.json"))


def test_a_run_says_in_how_many_docs_its_mask_changed_nothing(
    family: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = made(family, mask="mask_only", score="z", tau="1e6")
    rows = docs("common", 2)
    model.task_dict = {"mimic_common": {"test": rows}}
    requests = [
        type("Request", (), {"args": ("", doc_to_messages, dict(SETTINGS), i, "mimic_common", "test")})()
        for i in range(2)
    ]
    model.generate_until(requests)
    said = capsys.readouterr().err
    assert "mask=mask_only changed nothing in 2 of 2 docs: 2 have no sinks\n" in said


def test_the_pixels_of_a_doc_are_hashed_once(
    family: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the journal's key, the feature cache and relevance; before: three times."""
    from model_adapters import picture as module

    hashed: list[str] = []
    original = module.image_hash
    monkeypatch.setattr(module, "image_hash", lambda image: hashed.append(original(image)) or hashed[-1])
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path))
    model = made(family, mask="ar", relevance="degraded:0.5", journal="on")
    rows = docs("counting", 2)
    model.task_dict = {"mimic_counting": {"test": rows}}
    requests = [
        type("Request", (), {"args": ("", doc_to_messages, dict(SETTINGS), i, "mimic_counting", "test")})()
        for i in range(2)
    ]
    assert model.journal is not None
    model.generate_until(requests)
    assert len(hashed) == sum(len(row["images"]) for row in rows)


@pytest.mark.parametrize("name", ["device", "clip", "pretrained", "peft"])
def test_places_that_are_none_are_said_without_asking_the_network(
    family: dict[str, Any], name: str, clip_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    messages = {
        "device": ({"device": "mps"}, r"^device must be cpu, cuda or cuda:N, got 'mps'"),
        "clip": (
            {"mask": "ar", "relevance": "clip", "clip": "nope"},
            r"^clip=nope: no such folder, and not a",
        ),
        "pretrained": (
            {"pretrained": f"{clip_folder}/config.json"},
            r"config\.json is a file: name the checkpoint's folder",
        ),
        "peft": (
            {"peft": str(tmp_path / "empty")},
            r"^peft=.*empty has no adapter_config\.json: it is no ada",
        ),
    }
    arguments, message = messages[name]
    given = {**dict.fromkeys(("calibration", "tau")), **({"mask": "none"} | arguments)}
    if given["mask"] == "ar":
        given = {key: value for key, value in given.items() if key not in ("calibration", "tau")}
    with pytest.raises(UserError, match=message):
        made(family, **given)


def test_relevance_without_an_outside_model_needs_no_question(family: dict[str, Any]) -> None:
    model = made(family, mask="ar", relevance="uniform")
    doc = {key: value for key, value in docs("common", 1)[0].items() if key in ("images", "image_ids")}
    messages = doc_to_messages({**doc, "question": "What?"})
    model.task_dict = {"other": {"test": [doc]}}
    request = type("Request", (), {"args": ("", lambda d: messages, dict(SETTINGS), 0, "other", "test")})()
    (answer,) = model.generate_until([request])
    assert unscored_reason(answer.text) is None


def test_a_box_that_is_no_box_is_named(family: dict[str, Any]) -> None:
    model = made(family, mask="ar", relevance="oracle")
    doc = docs("counting", 1)[0]
    next(box for boxes in doc["boxes"] for box in boxes if box["target"])["x"] = float("nan")
    with pytest.raises(UserError, match=r"^relevance=oracle: doc 0 has a box of [a-z ]+ at \[nan, "):
        answers(model, [doc])


def test_a_doc_that_relevance_cannot_use_is_named(family: dict[str, Any]) -> None:
    model = made(family, mask="ar", relevance="oracle")
    messages = [{"role": "user", "content": [{"type": "image", "url": picture(0)}]}]
    model.task_dict = {"other": {"test": [{"question": "What?"}]}}
    request = type("Request", (), {"args": ("", lambda doc: messages, dict(SETTINGS), 0, "other", "test")})()
    with pytest.raises(UserError, match=r"^relevance=oracle: other doc 0 has no columns 'boxes' and"):
        model.generate_until([request])


@pytest.mark.parametrize(
    "how",
    [
        {"mask": "mask_only"},
        {"mask": "ar", "relevance": "oracle"},
        {"mask": "unmask_only", "relevance": "attention", "layers": "1-2"},
    ],
    ids=lambda how: "-".join(how.values()),
)
def test_the_python_api_does_what_the_adapter_does(family: dict[str, Any], how: dict[str, Any]) -> None:
    """On a model that transformers loaded: the same texts and the same record of edits."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import mimic_eval

    rows = docs("counting", 3)
    model = made(family, **how)
    want = answers(model, rows)
    loaded = AutoModelForImageTextToText.from_pretrained(family["pretrained"], dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(family["pretrained"])
    processor.tokenizer.padding_side = "left"
    queries, prompts = [], []
    for i, doc in enumerate(rows):
        messages, images = take_images(doc_to_messages(doc))
        queries.append(mimic_eval.Query.of_doc(doc, images, name=f"doc {i}"))
        prompts.append(model.family.prompt(messages))
    nested: Any = [list(query.images) for query in queries]
    if not model.family.nested:
        nested = [image for row in nested for image in row]
    inputs = processor(images=nested, text=prompts, padding=True, return_tensors="pt")
    arguments = {"calibration": family["calibration"], "tau": 6, **how}
    with mimic_eval.intervene(loaded, processor, queries=queries, record=True, **arguments) as run:
        out = loaded.generate(
            **inputs, max_new_tokens=3, do_sample=False, pad_token_id=model.family.pad_token_id
        )
    new = out[:, inputs["input_ids"].shape[1] :]
    assert processor.tokenizer.batch_decode(new, skip_special_tokens=True) == [own.text for own in want]
    got, expected = run.record["edits"], summarize_edits([own.record["edits"] for own in want])
    assert expected["eta"]["count"] > 0
    assert got.pop("eta")["mean"] == pytest.approx(expected.pop("eta")["mean"], rel=1e-3)
    assert got == expected
    if "relevance" in how:
        with (
            mimic_eval.intervene(loaded, processor, **arguments),
            pytest.raises(UserError, match=r"give queries= with 3 mimic_eval\.Query, got 0"),
        ):
            loaded(**inputs)
